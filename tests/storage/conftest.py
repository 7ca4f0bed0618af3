# SPDX-License-Identifier: Apache-2.0
"""A host in memory with storage for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from harness.data_center import DataCenter
from harness.memory_host import MemoryHost
from vdsm.contract import storage


@pytest.fixture
async def host() -> AsyncIterator[MemoryHost]:
    """With one storage domain, named vm."""
    made = MemoryHost(None)
    await made.open()
    await made.call(storage.init, path="/storage/vm")
    yield made
    await made.close()


@pytest.fixture
async def center() -> AsyncIterator[DataCenter]:
    """In charge of a pool of two domains."""
    host = MemoryHost(None)
    await host.open()
    made = DataCenter(host)
    await made.open()
    yield made
    await host.close()
