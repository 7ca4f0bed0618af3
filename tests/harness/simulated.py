# SPDX-License-Identifier: Apache-2.0
"""A vdsmd that pretends to have machines: quick to start, and nothing on the host changes."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .daemon import Daemon


@contextmanager
def simulated(home: Path, machines: int = 4, config: str = "") -> Iterator[Daemon]:
    """Machines sim1 and up, running."""
    daemon = Daemon(home, f"vdsmtest-{secrets.token_hex(4)}", uri="", config=config)
    try:
        daemon.start("--simulate", str(machines))
        yield daemon
    finally:
        daemon.end()
