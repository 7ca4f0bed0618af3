# SPDX-License-Identifier: Apache-2.0
"""Host ids: taken in the background, told when they are, taken again when they were lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from harness.memory_host import MemoryHost
from vdsm.contract.errors_storage import AcquireHostIdFailure
from vdsm.core.storage.domain_leases import lockspace
from vdsm.core.storage.host_ids import HostIds
from vdsm.drivers.simulated.leases import SimulatedLeases


@pytest.fixture
async def domain_id(host: MemoryHost) -> str:
    """A domain with a lockspace."""
    (domain,) = host.repository
    await host.leases.format_lockspace(lockspace(domain.directory, domain.metadata()))
    return domain.id


@pytest.fixture
async def ids(host: MemoryHost) -> AsyncIterator[HostIds]:
    made = HostIds(host.leases, host.repository, look_s=0.05)
    yield made
    await made.close()


async def test_it_is_taken_in_the_background_and_left(host: MemoryHost, ids: HostIds, domain_id: str) -> None:
    assert not ids.joined(domain_id)
    for _ in range(2):
        ids.join(domain_id, 1)
    with pytest.raises(AcquireHostIdFailure, match="not tried yet"):
        ids.check(domain_id, 1)
    await ids.wait(domain_id, 1)
    assert ids.joined(domain_id)
    assert host.leases.board.hosts == {(domain_id, 1): host.leases}
    with pytest.raises(AcquireHostIdFailure, match="number 1 there"):
        ids.join(domain_id, 2)
    for _ in range(2):
        await ids.leave(domain_id)
    assert not ids.joined(domain_id)
    assert host.leases.board.hosts == {}


async def test_it_is_taken_again_when_it_was_lost(host: MemoryHost, ids: HostIds, domain_id: str) -> None:
    ids.join(domain_id, 1)
    await ids.wait(domain_id, 1)
    host.leases.lose()
    ids.doubt()
    async with asyncio.timeout(10):
        while ids.joined(domain_id):
            await asyncio.sleep(0.01)
    await ids.wait(domain_id, 1)


async def test_another_has_it(host: MemoryHost, ids: HostIds, domain_id: str) -> None:
    (domain,) = host.repository
    other = SimulatedLeases(host.leases.board)
    space = lockspace(domain.directory, domain.metadata())
    await other.join(space, 1)
    ids.join(domain_id, 1)
    with pytest.raises(AcquireHostIdFailure, match="another host has it"):
        await ids.wait(domain_id, 1, seconds=0.2)
    await other.leave(space, 1)
    await ids.wait(domain_id, 1)
