# SPDX-License-Identifier: Apache-2.0
"""The index of commands, and a pretended host, for the tests of this directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.daemon import Daemon
from harness.simulated import simulated
from vdsm.shell.describe import describe


@pytest.fixture(scope="session")
def index() -> dict[str, Any]:
    return describe()


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Machines sim1 to sim4, running."""
    with simulated(tmp_path_factory.mktemp("sim")) as daemon:
        yield daemon


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Directories of a person that has never used vdsmsh."""
    names = {name: str(tmp_path / name) for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME")}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    return names
