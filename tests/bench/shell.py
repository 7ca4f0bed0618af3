# SPDX-License-Identifier: Apache-2.0
"""One-shot vdsmsh beside virsh, both listing the machines of the same host."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.daemon import Daemon

from .measure import Clock, Row, median_ms

RUNS = 15


def rows(home: Path, uri: str) -> Iterator[Row]:
    daemon = Daemon(home, "vdsmbench", uri=uri)
    try:
        daemon.start()
        ours = ([str(Path(sys.executable).parent / "vdsmsh"), "vm", "list"], {"VDSM_URL": f"unix:{daemon.socket}"})
        theirs = (["virsh", "-c", uri, "list", "--all"], {})
        measured: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
        for _ in range(RUNS):
            measured["ours"].append(_run(*ours))
            measured["theirs"].append(_run(*theirs))
        for index, what, limit in ((0, "CPU", None), (1, "time", None)):
            mine, virsh = (median_ms([run[index] for run in measured[name]]) for name in ("ours", "theirs"))
            yield Row(f"vdsmsh vm list, one-shot: {what}", mine, "ms", virsh, "virsh list --all", limit)
        yield Row("vdsmsh vm list, one-shot: CPU", median_ms([cpu for cpu, _ in measured["ours"]]), "ms", limit=100)
    finally:
        daemon.end()


def _run(command: Sequence[str], env: Mapping[str, str]) -> tuple[float, float]:
    """Processor and elapsed seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Clock() as clock:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **env})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, clock.seconds
