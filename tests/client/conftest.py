# SPDX-License-Identifier: Apache-2.0
"""A pretended host for the tests of this directory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.daemon import Daemon
from harness.simulated import simulated
from vdsm.client import Host


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Machines sim1 to sim4, running."""
    with simulated(tmp_path_factory.mktemp("sim")) as daemon:
        yield daemon


@pytest.fixture
def host(sim: Daemon) -> Iterator[Host]:
    with sim.connect() as made:
        yield made
