# SPDX-License-Identifier: Apache-2.0
"""Runs the benchmarks and prints the ratios; fails if a promise is broken."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from . import bridge, bus, bus_scale, crowd, hanging, hypervisor, jsonrpc, rest, shell, storage
from .measure import HEAD, Row

URI = "qemu:///system" if os.geteuid() == 0 else "qemu:///session"


def main(wanted: list[str]) -> int:
    parts: dict[str, Callable[[Path], Iterator[Row]]] = {
        "bridge": lambda home: bridge.rows(),
        "rest": lambda home: rest.rows(),
        "jsonrpc": jsonrpc.rows,
        "bus": bus.rows,
        "bus-scale": bus_scale.rows,
        "crowd": crowd.rows,
        "hypervisor": lambda home: hypervisor.rows(home, URI),
        "shell": lambda home: shell.rows(home, URI),
        "hanging": lambda home: hanging.rows(home, URI),
        "storage": lambda home: storage.rows(home, URI),
    }
    if unknown := set(wanted) - set(parts):
        print(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(parts)}", file=sys.stderr)
        return 2
    kept = True
    print(HEAD)
    for name in wanted or parts:
        home = Path(tempfile.mkdtemp(prefix="vdsmbench-", dir="/var/tmp"))
        home.chmod(0o755)
        try:
            for row in parts[name](home):
                print(row.text(), flush=True)
                kept = kept and row.kept
        finally:
            shutil.rmtree(home)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
