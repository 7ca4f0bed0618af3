# SPDX-License-Identifier: Apache-2.0
"""A sanlock of a test's own: Debian's daemon, with its own directory, without a watchdog."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from harness.until import until

# A container may not raise the limit of locked memory, and sanlock insists on asking.
_PRELOAD = "#include <sys/resource.h>\nint setrlimit(__rlimit_resource_t r, const struct rlimit *l) { return 0; }\n"


class Sanlock:
    """Running, below `home`. `name` is the host's name in the leases."""

    def __init__(self, home: Path, name: str) -> None:
        self.run = home / name
        self.run.mkdir(parents=True)
        library = self.run / "limits.so"
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-x", "c", "-o", library, "-"], input=_PRELOAD, text=True, check=True
        )
        environment = os.environ | {"SANLOCK_RUN_DIR": str(self.run), "LD_PRELOAD": str(library)}
        words = ["-D", "-w", "0", "-l", "0", "-h", "0", "-L", "-1", "-S", "-1", "-U", "root", "-G", "root", "-e", name]
        self._log = (self.run / "log").open("wb")
        self._process = subprocess.Popen(
            ["sanlock", "daemon", *words], env=environment, stdout=self._log, stderr=self._log
        )
        until("sanlock listens", lambda: (self.run / "sanlock.sock").exists() and "started" in self.said())

    def said(self) -> str:
        return (self.run / "log").read_text()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()


def hasten(ids: Path, lockspace: str) -> None:
    """Write a lockspace anew that is joined in seconds: whoever joins waits for the timeout that was written there."""
    words = ["-s", f"{lockspace}:0:{ids.name}:0", "-o", "1"]
    subprocess.run(["sanlock", "direct", "init", *words], cwd=ids.parent, check=True, capture_output=True)


def dump(path: Path) -> str:
    """What sanlock itself reads in a file of leases."""
    return subprocess.run(
        ["sanlock", "direct", "dump", f"{path}:0:{path.stat().st_size}"], capture_output=True, text=True, check=True
    ).stdout
