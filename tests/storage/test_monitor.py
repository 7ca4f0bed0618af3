# SPDX-License-Identifier: Apache-2.0
"""What is known of each domain's storage: its vitals, the events, and that one that hangs is felt nowhere else."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from harness.memory_host import ADMIN, MemoryHost
from harness.until import BUSY
from vdsm.contract import disk, host, storage, storage_domain, storage_pool
from vdsm.contract.errors import DeadlineExceeded
from vdsm.contract.errors_domains import (
    StorageDomainDoesNotExist,
    StorageInUse,
    StoragePoolUnknown,
    StorageUnusable,
)
from vdsm.contract.errors_storage import AcquireHostIdFailure
from vdsm.contract.events import StorageStatus
from vdsm.contract.host_stats import StorageDomainVitals
from vdsm.contract.storage import StorageState, StorageSummary
from vdsm.contract.storage_words import BLANK
from vdsm.drivers.simulated.faults import Fault

FAST_S = 0.02
HUNG, WELL, SHARED = "/storage/hung", "/storage/well", "server:/export"
AWAY = "/data-center/mnt/server:_export"


class Pair:
    """A host with two local domains and one from a server, which it looks at all the time."""

    def __init__(self, state: Path | None = None, before: Pair | None = None) -> None:
        """`before`: the host of which this is the next daemon."""
        kept: dict[str, Any] = {}
        if before is not None:
            kept = {"tree": before.host.tree, "mounts": before.host.mounts, "leases": before.host.leases}
        self.host: MemoryHost = MemoryHost(state, **kept, monitor_s=FAST_S)
        self.ids: dict[str, str] = before.ids if before else {}

    async def open(self) -> None:
        await self.host.open()
        for path in (HUNG, WELL):
            made = await self.host.call(storage.init, path=path)
            self.ids[path] = made.id
        self.ids[SHARED] = str(uuid.uuid4())
        server = {"id": BLANK, "connection": SHARED}
        connect: dict[str, Any] = {"storagepoolID": BLANK, "domainType": "NFS", "connectionParams": [server]}
        await self.host.call(storage_pool.connect_storage_server, **connect)
        new: dict[str, Any] = {"storagedomainID": self.ids[SHARED], "domainType": "NFS", "typeArgs": SHARED}
        await self.host.call(storage_domain.create, **new, name="shared")
        for path in self.ids:
            await self.until(path, lambda row: row.valid and row.actual)

    async def vitals(self, path: str) -> StorageDomainVitals:
        row = (await self.host.call(host.get_storage_repo_stats))[self.ids[path]]
        assert isinstance(row, StorageDomainVitals)
        return row

    async def until(self, path: str, wanted: Callable[[StorageDomainVitals], bool]) -> StorageDomainVitals:
        async with asyncio.timeout(10 * BUSY):
            while not wanted(row := await self.vitals(path)):
                await asyncio.sleep(FAST_S)
        return row

    async def told(self, path: str) -> list[tuple[str, str]]:
        """What events said of it."""
        events = [record.data for record in await self.host.events()]
        return [(e.status, e.reason) for e in events if isinstance(e, StorageStatus) and e.storage_id == self.ids[path]]

    async def rounds(self, path: str, count: int = 3) -> None:
        """So many looks are over."""
        watch = self.host.storage.monitor._watches[self.ids[path]]
        for _ in range(count):
            before = watch.checked
            async with asyncio.timeout(10 * BUSY):
                while watch.checked == before:
                    await asyncio.sleep(FAST_S / 2)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    await made.open()
    yield made
    await made.host.close()


async def test_a_domain_that_is_well(pair: Pair) -> None:
    await pair.rounds(WELL)
    row = await pair.vitals(WELL)
    assert (row.code, row.valid, row.actual, row.acquired, row.version) == (0, True, True, True, 5)
    assert 0 < row.delay < 1
    assert 0 <= row.last_check < 10 * BUSY
    assert await pair.told(WELL) == [("active", "")], "nothing is said while nothing changes"
    assert (await pair.host.call(host.get_stats)).storage_domains.keys() == set(pair.ids.values())
    assert pair.host.storage.monitor.by_state() == {"active": 3}


async def test_one_that_hangs_is_felt_nowhere_else(pair: Pair) -> None:
    pair.host.file_faults.freeze(HUNG)
    row = await pair.until(HUNG, lambda row: not row.valid)
    assert (row.code, row.actual) == (2001, True)
    began = time.monotonic()
    with pytest.raises(StorageUnusable, match="its storage does not answer"):
        await pair.host.call(storage_domain.get_stats, storagedomainID=pair.ids[HUNG])
    with pytest.raises(StorageUnusable, match="its storage does not answer"):
        await pair.host.call(storage_domain.get_info, storagedomainID=pair.ids[HUNG])
    rows = {row.path: row for row in await pair.host.call(storage.list_)}
    assert {path: row.state for path, row in rows.items()} == {
        HUNG: StorageState.UNUSABLE, WELL: StorageState.ACTIVE, SHARED: StorageState.ACTIVE
    }  # fmt: skip
    assert rows[HUNG].reason == "its storage does not answer"
    info = await pair.host.call(storage_pool.get_info, storagepoolID=rows[HUNG].pool)
    assert info.dominfo[pair.ids[HUNG]].status == "Unknown"
    made = await pair.host.call(disk.create, name="d", size=4096, storage="well")
    assert [row.id for row in await pair.host.call(disk.list_)] == [made.id]
    assert len(await pair.host.call(host.get_storage_domains)) == 3
    assert time.monotonic() - began < BUSY, "as fast as ever"
    assert (await pair.vitals(WELL)).valid

    await pair.rounds(HUNG)
    pair.host.file_faults.thaw(HUNG)
    await pair.until(HUNG, lambda row: row.valid)
    await pair.host.call(disk.create, name="e", size=4096, storage="hung")
    hangs = ("unusable", "its storage does not answer")
    assert await pair.told(HUNG) == [("active", ""), hangs, ("active", "")]
    assert await pair.told(WELL) == [("active", "")]


async def test_who_asked_before_it_was_known_is_answered_when_it_is(pair: Pair) -> None:
    pair.host.file_faults.set("read_all", Fault(hang=True))
    calls = [
        asyncio.create_task(pair.host.call(disk.list_)),
        asyncio.create_task(pair.host.call(storage_domain.get_images, storagedomainID=pair.ids[HUNG])),
    ]
    await asyncio.sleep(0)
    pair.host.file_faults.freeze(HUNG)
    with pytest.raises(StorageUnusable, match="does not answer"):
        await asyncio.wait_for(calls[1], 5 * BUSY)
    pair.host.file_faults.clear()
    await asyncio.wait_for(calls[0], 5 * BUSY)


async def test_who_connects_it_with_little_time_takes_none_from_the_watch(pair: Pair) -> None:
    made = await pair.host.bridge.call(storage.init, {"path": "/storage/new"}, ADMIN, deadline=0.5, flow_id="init")
    assert isinstance(made.result, StorageSummary)
    pair.ids["new"] = made.result.id
    shared = pair.ids[SHARED]
    take = {"sdUUID": shared, "hostID": 7}
    await pair.host.bridge.call(host.start_monitoring_domain, take, ADMIN, deadline=0.5)
    await asyncio.sleep(0.5)  # its time is over
    await pair.until(SHARED, lambda row: row.acquired)
    await pair.rounds("new")
    assert (await pair.vitals("new")).valid
    pair.host.file_faults.freeze("/storage/new")
    await pair.until("new", lambda row: not row.valid)
    told = [record for record in await pair.host.events() if record.subject == pair.ids["new"]]
    assert [record.flow_id == "init" for record in told] == [True, False], "nor is its flow the cause of all"
    await pair.host.call(host.stop_monitoring_domain, sdUUID=shared)


async def test_who_has_little_time_does_not_take_a_domain_away(pair: Pair) -> None:
    pair.host.file_faults.set("read", Fault(delay=0.05))
    params = {"storagedomainID": pair.ids[WELL]}
    with pytest.raises(DeadlineExceeded):
        await pair.host.bridge.call(storage_domain.get_info, params, ADMIN, deadline=0.001)
    await pair.rounds(WELL)
    assert await pair.told(WELL) == [("active", "")]


async def test_what_fails_says_why_once(pair: Pair) -> None:
    pair.host.file_faults.set("probe", Fault(error="Input/output error"))
    for path in (HUNG, WELL):
        row = await pair.until(path, lambda row: not row.valid)
        assert row.code == 2001
    await pair.rounds(WELL)
    reason = f"the storage fails at {WELL}/{pair.ids[WELL]}/dom_md/metadata: Input/output error"
    pair.host.file_faults.clear()
    await pair.until(WELL, lambda row: row.valid)
    assert await pair.told(WELL) == [("active", ""), ("unusable", reason), ("active", "")]


async def test_damage_and_loss_are_told_apart(pair: Pair) -> None:
    file = f"{WELL}/{pair.ids[WELL]}/dom_md/metadata"
    whole = pair.host.tree.nodes[file]
    whole.data[0] ^= 1
    assert (await pair.until(WELL, lambda row: not row.valid)).code == 753
    whole.data[0] ^= 1
    await pair.until(WELL, lambda row: row.valid)
    del pair.host.tree.nodes[file]
    assert (await pair.until(WELL, lambda row: not row.valid)).code == 358
    pair.host.tree.nodes[file] = whole
    await pair.until(WELL, lambda row: row.valid)
    assert [status for status, _ in await pair.told(WELL)] == ["active", "unusable"] * 2 + ["active"]


async def test_a_file_system_that_becomes_read_only(pair: Pair) -> None:
    pair.host.tree.read_only.add(WELL)
    await pair.rounds(WELL)
    rows = {row.path: row.state for row in await pair.host.call(storage.list_)}
    assert rows[WELL] is StorageState.READ_ONLY
    assert (await pair.vitals(WELL)).valid, "what is there can be read"
    await pair.host.call(storage_domain.get_info, storagedomainID=pair.ids[WELL])
    pair.host.tree.read_only.clear()
    await pair.rounds(WELL)
    read_only = ("read-only", "its file system is read-only")
    assert await pair.told(WELL) == [("active", ""), read_only, ("active", "")]


async def test_what_was_unmounted_is_mounted_again(pair: Pair) -> None:
    pair.host.mounts.lose(AWAY)
    pair.host.mounts._faults.set("mount", Fault(error="Connection refused"))
    assert (await pair.until(SHARED, lambda row: not row.valid)).code == 360
    with pytest.raises(StorageUnusable, match=r"it is not mounted: .*Connection refused"):
        await pair.host.call(storage_domain.get_images, storagedomainID=pair.ids[SHARED])
    await pair.rounds(SHARED)
    pair.host.mounts._faults.clear()
    await pair.until(SHARED, lambda row: row.valid)
    assert await pair.host.call(storage_domain.get_images, storagedomainID=pair.ids[SHARED]) == []
    assert [status for status, _ in await pair.told(SHARED)] == ["active", "unusable", "active"]


async def test_one_that_hangs_is_let_go_by_force(pair: Pair) -> None:
    pair.host.file_faults.freeze(AWAY)
    await pair.until(SHARED, lambda row: not row.valid)
    params: dict[str, Any] = {"domainType": "NFS", "connectionParams": [{"id": BLANK, "connection": SHARED}]}
    (row,) = await pair.host.call(storage_pool.disconnect_storage_server, storagepoolID=BLANK, **params)
    assert row.status == 0
    assert not pair.host.mounts.mounted
    assert pair.ids[SHARED] not in await pair.host.call(host.get_storage_repo_stats)
    assert (await pair.told(SHARED))[-1] == ("gone", "")


# ---- the host's verbs ------------------------------------------------------------------------------------------------


async def test_which_domains_there_are(pair: Pair) -> None:
    async def found(**params: Any) -> set[str]:
        answer = await pair.host.call(host.get_storage_domains, **params)
        return {path for path, domain_id in pair.ids.items() if domain_id in answer}

    pools = await pair.host.call(host.get_connected_storage_pools)
    rows = {row.path: row for row in await pair.host.call(storage.list_)}
    assert set(pools) == {rows[HUNG].pool, rows[WELL].pool}
    assert await found() == {HUNG, WELL, SHARED}
    assert await found(storagepoolID=BLANK, domainClass="Data") == {HUNG, WELL, SHARED}
    assert await found(storagepoolID=rows[WELL].pool) == {WELL}
    assert await found(storageType="NFS") == {SHARED}
    assert await found(storageType="LOCALFS", remotePath=WELL) == {WELL}
    assert await found(remotePath=f"{SHARED}/") == {SHARED}
    assert await found(domainClass="Iso") == set()
    with pytest.raises(StoragePoolUnknown):
        await found(storagepoolID=pair.ids[WELL])


async def test_a_domain_that_another_host_has_made_is_found(pair: Pair) -> None:
    nodes, new = pair.host.tree.nodes, str(uuid.uuid4())
    old = pair.ids[SHARED]
    for path in [f"{AWAY}/{old}", *pair.host.tree.below(f"{AWAY}/{old}")]:
        nodes[path.replace(old, new)] = nodes[path]
    for path in [f"{AWAY}/{old}", *pair.host.tree.below(f"{AWAY}/{old}")]:
        del nodes[path]
    answer = await pair.host.call(host.get_storage_domains)
    assert new in answer
    pair.ids["new"] = new
    assert (await pair.until("new", lambda row: row.actual)).code == 753, "its metadata is another's"


async def test_a_host_id_is_taken_and_given_up(pair: Pair) -> None:
    shared = pair.ids[SHARED]
    assert not (await pair.vitals(SHARED)).acquired
    await pair.host.call(host.start_monitoring_domain, sdUUID=shared, hostID=7)
    await pair.host.call(host.start_monitoring_domain, sdUUID=shared, hostID=7)
    await pair.until(SHARED, lambda row: row.acquired)
    with pytest.raises(AcquireHostIdFailure):
        await pair.host.call(host.start_monitoring_domain, sdUUID=shared, hostID=8)
    assert (await pair.vitals(SHARED)).acquired, "the refused one took nothing away"
    server: dict[str, Any] = {"domainType": "NFS", "connectionParams": [{"id": BLANK, "connection": SHARED}]}
    (row,) = await pair.host.call(storage_pool.disconnect_storage_server, storagepoolID=BLANK, **server)
    assert row.status == StorageInUse.code
    await pair.host.call(host.stop_monitoring_domain, sdUUID=shared)
    await pair.host.call(host.stop_monitoring_domain, sdUUID=shared)
    assert not (await pair.vitals(SHARED)).acquired
    assert (await pair.vitals(SHARED)).valid, "its storage is watched all the same"


async def test_a_host_id_is_taken_again_by_the_next_daemon(tmp_path: Path) -> None:
    before = Pair(tmp_path)
    await before.open()
    shared = before.ids[SHARED]
    await before.host.call(host.start_monitoring_domain, sdUUID=shared, hostID=7)
    await before.until(SHARED, lambda row: row.acquired)
    await before.host.close()
    after = Pair(tmp_path, before)
    await after.host.open()
    await after.until(SHARED, lambda row: row.acquired)
    await after.host.call(host.stop_monitoring_domain, sdUUID=shared)
    await after.host.close()
    last = Pair(tmp_path, after)
    await last.host.open()
    await last.rounds(SHARED)
    assert not (await last.vitals(SHARED)).acquired
    await last.host.close()


async def test_monitoring_of_a_domain_without_leases_changes_nothing(pair: Pair) -> None:
    await pair.host.call(host.start_monitoring_domain, sdUUID=pair.ids[WELL], hostID=1)
    await pair.host.call(host.stop_monitoring_domain, sdUUID=pair.ids[WELL])
    assert (await pair.vitals(WELL)).acquired
    with pytest.raises(StorageDomainDoesNotExist):
        await pair.host.call(host.start_monitoring_domain, sdUUID=BLANK, hostID=1)
    with pytest.raises(StorageDomainDoesNotExist):
        await pair.host.call(host.stop_monitoring_domain, sdUUID=BLANK)
