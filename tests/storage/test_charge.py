# SPDX-License-Identifier: Apache-2.0
"""Pools with leases: who is in charge, what becomes of that after a crash, and when the lease is lost."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from harness.memory_host import MemoryHost
from vdsm.contract import AnyVerb, Kind, disk, storage, storage_domain, storage_pool, task, volume
from vdsm.contract.errors import TaskAborted
from vdsm.contract.errors_domains import IsSpm, SpmStatusError, SpmStopError, StorageInUse
from vdsm.contract.errors_storage import AcquireHostIdFailure, AcquireLockFailure, LockManagerUnavailable
from vdsm.contract.events import PoolStatus, Severity
from vdsm.contract.storage_pool import SpmRole, SpmStatus
from vdsm.contract.task import State
from vdsm.core.run import TaskRow
from vdsm.core.storage.format import external_leases, lease_areas
from vdsm.core.task import Boundary
from vdsm.drivers.simulated.faults import Fault, Faults
from vdsm.drivers.simulated.leases import Board, SimulatedLeases
from vdsm.drivers.simulated.tree import Tree

MiB = 1 << 20
POOL, SD, SD2, IMAGE, BASE = (str(uuid.uuid4()) for _ in range(5))
SERVER: dict[str, Any] = {"storagepoolID": POOL, "connectionParams": [{"id": BASE, "connection": "/storage/dc"}]}
MASTER: dict[str, Any] = {"storagepoolID": POOL, "masterSdUUID": SD, "masterVersion": 1}
NEW: dict[str, Any] = {
    "storagepoolID": POOL, "storagedomainID": SD, "imageID": IMAGE, "volumeID": BASE, "size": 1 << 30,
    "volFormat": "RAW", "preallocate": "SPARSE", "diskType": "DATA", "desc": "d",
}  # fmt: skip


class Hosts:
    """Hosts with one storage, each a daemon that may start again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.board = Board()
        self.tree = Tree()
        self.tree.directory("/storage/dc")
        self.faults = [Faults(), Faults()]
        self.leases = [SimulatedLeases(self.board, faults, self.tree) for faults in self.faults]
        self.running: dict[int, MemoryHost] = {}

    async def start(self, number: int, *, local_leases: bool = True, at_boundary: Boundary | None = None) -> MemoryHost:
        state = self.directory / str(number)
        state.mkdir(exist_ok=True)
        made = MemoryHost(
            state,
            tree=self.tree,
            leases=self.leases[number - 1],
            local_leases=local_leases,
            at_boundary=at_boundary,
        )
        self.running[number] = made
        await made.open()
        return made

    async def kill(self, number: int) -> None:
        """What it held is free."""
        await self.leases[number - 1].close()
        host = self.running.pop(number)
        await host.storage.close()
        await host.table.close()
        await host.journal.close()
        await host.refusals.close()
        await host.store.close()

    async def end(self) -> None:
        for host in self.running.values():
            await host.close()


@pytest.fixture
async def hosts(tmp_path: Path) -> AsyncIterator[Hosts]:
    made = Hosts(tmp_path)
    yield made
    await made.end()


async def connect(host: MemoryHost, number: int = 1) -> None:
    await host.call(storage_pool.connect_storage_server, **SERVER, domainType="LOCALFS")
    await host.call(storage_pool.connect, **MASTER, hostID=number, scsiKey="")


async def make(host: MemoryHost, domain_id: str = SD) -> None:
    more: dict[str, Any] = {"domainType": "LOCALFS", "typeArgs": "/storage/dc", "name": domain_id[:8]}
    await host.call(storage_domain.create, storagedomainID=domain_id, **more)


@pytest.fixture
async def one(hosts: Hosts) -> MemoryHost:
    """Connected to a pool with leases; nobody is in charge of it."""
    host = await hosts.start(1)
    await host.call(storage_pool.connect_storage_server, **SERVER, domainType="LOCALFS")
    await make(host)
    await host.call(storage_pool.create, **MASTER, name="dc", domainList=[SD])
    await connect(host)
    return host


@pytest.fixture
async def spm(one: MemoryHost) -> MemoryHost:
    """In charge."""
    await start(one)
    return one


@pytest.fixture
async def two(hosts: Hosts, one: MemoryHost) -> MemoryHost:
    """Connected to the same pool."""
    host = await hosts.start(2)
    await connect(host, 2)
    return host


async def start(host: MemoryHost) -> None:
    await host.call(storage_pool.spm_start, storagepoolID=POOL)


async def status(host: MemoryHost) -> tuple[SpmRole, int, int]:
    said: SpmStatus = await host.call(storage_pool.get_spm_status, storagepoolID=POOL)
    info = (await host.call(storage_pool.get_info, storagepoolID=POOL)).info
    domain = await host.call(storage_domain.get_info, storagedomainID=SD)
    assert (said.spm_id, said.spm_lver) == (info.spm_id, info.lver) == (domain.spm_id, domain.lver)
    return said.spm_status, said.spm_id, said.spm_lver


async def told(host: MemoryHost) -> list[PoolStatus]:
    return [record.data for record in await host.events() if isinstance(record.data, PoolStatus)]


async def become(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.01)


def contents(host: MemoryHost) -> dict[str, bytes]:
    """Everything but the leases themselves."""
    return {p: bytes(n.data) for p, n in host.tree.nodes.items() if not p.endswith(("/ids", "/leases", "leases"))}


# ---- making them -----------------------------------------------------------------------------------------------------


async def test_a_domain_is_made_with_its_leases(one: MemoryHost) -> None:
    nodes, home = one.tree.nodes, f"/storage/dc/{SD}/dom_md"
    ids = lease_areas.host_id(bytes(nodes[f"{home}/ids"].data))
    assert ids is not None
    assert (ids.lockspace, ids.io_timeout) == (SD, 10)
    own = lease_areas.lease(bytes(nodes[f"{home}/leases"].data[MiB:]))
    assert own is not None
    assert (own.lockspace, own.resource) == (SD, "SDM")
    xleases = bytes(nodes[f"{home}/xleases"].data)
    index = external_leases.decode(xleases[MiB:], MiB)
    assert xleases[MiB : MiB + external_leases.INDEX_BYTES] == external_leases.empty(SD, index.changed)
    internal = lease_areas.lease(xleases[2 * MiB :])
    assert internal is not None
    assert internal.lockspace == SD
    assert (await one.call(storage_domain.get_info, storagedomainID=SD)).leases
    assert all(row.leases for row in await one.call(storage.list_))
    assert (await one.call(storage_pool.get_info, storagepoolID=POOL)).info.leases
    assert await one.call(storage.check, storageID=SD) == []


async def test_without_sanlock_there_is_no_domain_with_leases(hosts: Hosts) -> None:
    host = await hosts.start(1)
    await host.call(storage_pool.connect_storage_server, **SERVER, domainType="LOCALFS")
    hosts.leases[0].installed = False
    before = set(host.tree.nodes)
    with pytest.raises(LockManagerUnavailable):
        await make(host)
    assert set(host.tree.nodes) == before


async def test_a_domain_made_without_leases_gets_them_when_it_joins_a_pool_that_has_some(hosts: Hosts) -> None:
    alone = await hosts.start(1, local_leases=False)
    hosts.leases[0].installed = False
    await alone.call(storage_pool.connect_storage_server, **SERVER, domainType="LOCALFS")
    await make(alone)
    assert not (await alone.call(storage_domain.get_info, storagedomainID=SD)).leases
    found = await alone.call(storage.check, storageID=SD)
    assert {(row.severity, row.where) for row in found} == {
        (Severity.WARNING, "dom_md/ids"), (Severity.WARNING, "dom_md/leases"),
    }  # fmt: skip
    assert all("sanlock" in row.remedy for row in found)
    await alone.call(storage_pool.create, **MASTER, name="dc", domainList=[SD])
    await connect(alone)
    await start(alone)
    await alone.call(volume.create, **NEW)
    await hosts.kill(1)

    shared = await hosts.start(2)
    await connect(shared, 2)
    assert await shared.call(storage.check, storageID=SD) == []
    await start(shared)
    assert await status(shared) == (SpmRole.SPM, 2, 1)
    lease = lease_areas.lease(bytes(shared.tree.nodes[f"/storage/dc/{SD}/images/{IMAGE}/{BASE}.lease"].data))
    assert lease is not None
    assert lease.resource == BASE


@pytest.mark.parametrize(
    ("file", "offset", "said"),
    [("ids", 60, "checksum"), ("leases", MiB, "something else"), ("xleases", MiB, "does not begin")],
)
async def test_a_check_names_damaged_leases(one: MemoryHost, file: str, offset: int, said: str) -> None:
    one.tree.nodes[f"/storage/dc/{SD}/dom_md/{file}"].data[offset] ^= 0xFF
    (row,) = await one.call(storage.check, storageID=SD)
    assert (row.severity, row.where) == (Severity.ERROR, f"dom_md/{file}")
    assert said in row.what


# ---- being in charge -------------------------------------------------------------------------------------------------


async def test_charge_is_the_lease(one: MemoryHost) -> None:
    assert await status(one) == (SpmRole.FREE, -1, -1)
    for _ in range(2):
        await start(one)
        assert await status(one) == (SpmRole.SPM, 1, 1)
    with pytest.raises(IsSpm):
        await one.call(storage_pool.disconnect, storagepoolID=POOL, hostID=1, scsiKey="")
    await one.call(volume.create, **NEW)
    for _ in range(2):
        await one.call(storage_pool.spm_stop, storagepoolID=POOL)
        assert await status(one) == (SpmRole.FREE, -1, -1)
    await start(one)
    assert await status(one) == (SpmRole.SPM, 1, 2)
    assert [event.in_charge for event in await told(one)] == [True, False, True]


async def test_a_full_dump_tells_of_leases(spm: MemoryHost, two: MemoryHost) -> None:
    await two.storage.host_ids.wait(SD, 2)
    await spm.call(volume.create, **NEW)
    assert (await spm.call(storage_domain.dump, sd_id=SD)).leases is None
    dump = await two.call(storage_domain.dump, sd_id=SD, full=True)
    assert [(row.offset, row.resource, row.own, row.lver) for row in dump.leases] == [
        (MiB, "SDM", 1, 1),
        (0, BASE, 0, 0),
    ]
    assert [(row.offset, row.own, row.timestamp > 0) for row in dump.lockspace] == [(0, 1, True), (512, 2, True)]
    assert dump.xleases == {}


async def test_two_hosts_and_one_is_in_charge(spm: MemoryHost, two: MemoryHost) -> None:
    assert await status(two) == (SpmRole.FREE, 1, 1)
    before = await two.call(storage_domain.dump, sd_id=SD)
    with pytest.raises(AcquireLockFailure, match="host 1 is in charge"):
        await start(two)
    calls: list[tuple[AnyVerb, dict[str, Any]]] = [
        (volume.create, NEW),
        (storage_domain.attach, {"storagedomainID": SD2, "storagepoolID": POOL}),
        (storage_pool.destroy, {"storagepoolID": POOL, "hostID": 2, "scsiKey": ""}),
    ]
    for verb, params in calls:
        with pytest.raises(SpmStatusError):
            await two.call(verb, **params)
    assert await two.call(storage_domain.dump, sd_id=SD) == before
    await spm.call(storage_pool.spm_stop, storagepoolID=POOL)
    await start(two)
    assert await status(spm) == (SpmRole.FREE, 2, 2)
    with pytest.raises(SpmStatusError):
        await spm.call(volume.create, **NEW)


async def test_a_host_id_of_another_is_waited_for_and_the_waiting_can_be_stopped(hosts: Hosts, one: MemoryHost) -> None:
    two = await hosts.start(2)
    await connect(two, 1)
    begun = asyncio.create_task(two.call(storage_pool.spm_start, storagepoolID=POOL))
    await become(lambda: two.storage.charge.role(two.repository.connected(POOL)) is SpmRole.CONTEND)
    assert await status(two) == (SpmRole.CONTEND, -1, -1)
    (row,) = [row for row in await two.call(task.list_) if row.verb == "StoragePool.spmStart"]
    await two.call(task.stop, taskID=row.id)
    with pytest.raises(TaskAborted):
        await begun
    assert await status(two) == (SpmRole.FREE, -1, -1)


async def test_host_ids_are_those_of_the_domains_in_use(spm: MemoryHost) -> None:
    ids = spm.storage.host_ids
    await make(spm, SD2)
    both: dict[str, Any] = {"storagedomainID": SD2, "storagepoolID": POOL}
    await spm.call(storage_domain.attach, **both)
    assert not ids.joined(SD2)
    await spm.call(storage_domain.activate, **both)
    await ids.wait(SD2, 1)
    await spm.call(storage_domain.deactivate, **both)
    assert set(spm.leases.board.hosts) == {(SD, 1)}
    await spm.call(storage_pool.spm_stop, storagepoolID=POOL)
    await spm.call(storage_pool.disconnect, storagepoolID=POOL, hostID=1, scsiKey="")
    assert spm.leases.board.hosts == {}


async def test_another_master_is_held_before_it_is_one(spm: MemoryHost, two: MemoryHost) -> None:
    await make(spm, SD2)
    both: dict[str, Any] = {"storagedomainID": SD2, "storagepoolID": POOL}
    await spm.call(storage_domain.attach, **both)
    await spm.call(storage_domain.activate, **both)
    await spm.call(storage_pool.switch_master, storagepoolID=POOL, oldMasterUUID=SD, newMasterUUID=SD2, masterVersion=2)
    assert await spm.leases.held() == [(SD2, "SDM")]
    assert (await spm.call(storage_pool.get_spm_status, storagepoolID=POOL)).spm_status is SpmRole.SPM
    spm.leases.lose()
    assert (await spm.call(storage_pool.get_spm_status, storagepoolID=POOL)).spm_status is SpmRole.FREE


async def test_a_pool_is_taken_apart_with_its_lease(spm: MemoryHost) -> None:
    await spm.call(storage_pool.destroy, storagepoolID=POOL, hostID=1, scsiKey="")
    assert await spm.leases.held() == []
    assert spm.leases.board.hosts == {}
    await spm.call(storage_domain.format, storagedomainID=SD)


async def test_a_lost_master_is_replaced_by_who_holds_the_next_ones_lease(spm: MemoryHost, two: MemoryHost) -> None:
    await make(spm, SD2)
    both: dict[str, Any] = {"storagedomainID": SD2, "storagepoolID": POOL}
    await spm.call(storage_domain.attach, **both)
    await spm.call(storage_domain.activate, **both)
    await two.call(storage_pool.disconnect, storagepoolID=POOL, hostID=2, scsiKey="")
    await two.call(storage_pool.connect_storage_server, **SERVER, domainType="LOCALFS")
    switch: dict[str, Any] = {"storagepoolID": POOL, "oldMasterUUID": SD, "newMasterUUID": SD2}
    await spm.call(storage_pool.switch_master, **switch, masterVersion=2)
    master: dict[str, Any] = {
        "storagepoolID": POOL, "hostId": 2, "name": "dc", "masterSdUUID": SD2, "masterVersion": 3,
        "domainDict": {SD: "Attached", SD2: "Active"}, "lockRenewalIntervalSec": 5, "leaseTimeSec": 60,
        "ioOpTimeoutSec": 10, "leaseRetries": 3,
    }  # fmt: skip

    def metadata() -> list[bytes]:
        return [bytes(node.data) for path, node in two.tree.nodes.items() if path.endswith("/metadata")]

    before = metadata()
    with pytest.raises(AcquireLockFailure, match="host 1 is in charge"):
        await two.call(storage_pool.reconstruct_master, **master)
    with pytest.raises(AcquireLockFailure, match="host 1 is in charge"):
        await two.call(storage_pool.destroy, storagepoolID=POOL, hostID=2, scsiKey="")
    assert metadata() == before
    assert {row.state for row in await two.call(task.list_)} == {State.FAILED}
    await spm.call(storage_pool.spm_stop, storagepoolID=POOL)
    await two.call(storage_pool.reconstruct_master, **master)
    assert await two.leases.held() == []
    assert {host for _, host in two.leases.board.hosts} == {1}
    await two.call(storage_pool.connect, storagepoolID=POOL, masterSdUUID=SD2, masterVersion=3, hostID=2, scsiKey="")
    await start(two)
    assert await status(two) == (SpmRole.SPM, 2, 3)


async def test_a_pool_that_was_let_go_is_taken_apart(spm: MemoryHost) -> None:
    """As a manager ends its last one: spmStop, disconnect, destroy."""
    await spm.call(storage_pool.spm_stop, storagepoolID=POOL)
    await spm.call(storage_pool.disconnect, storagepoolID=POOL, hostID=1, scsiKey="")
    await spm.call(storage_pool.destroy, storagepoolID=POOL, hostID=1, scsiKey="")
    assert (await spm.call(storage_domain.get_info, storagedomainID=SD)).pool == []
    assert (await spm.leases.held(), spm.leases.board.hosts) == ([], {})
    await spm.call(storage_domain.format, storagedomainID=SD)


async def test_one_host_alone_with_leases(hosts: Hosts) -> None:
    """`storage init` and `open` take the lease too."""
    host = await hosts.start(1)
    made = await host.call(storage.init, path="/storage/vm")
    assert (made.leases, made.in_charge) == (True, True)
    assert await host.leases.held() == [(made.id, "SDM")]
    await host.call(storage.close, storageID=made.id)
    assert await host.leases.held() == []
    assert host.leases.board.hosts == {}
    again = await host.call(storage.open_, path="/storage/vm")
    assert (again.leases, again.in_charge) == (True, True)


async def test_storage_that_is_being_changed_is_not_closed(hosts: Hosts) -> None:
    host = await hosts.start(1)
    made = await host.call(storage.init, path="/storage/vm")
    host.disk_faults.set("create", Fault(hang=True))
    begun = asyncio.create_task(host.call(disk.create, name="d", size=1 << 20))
    await become(lambda: host.repository.writing(made.pool) > 0)
    with pytest.raises(StorageInUse, match="operations"):
        await host.call(storage.close, storageID=made.id)
    host.disk_faults.clear()
    await begun
    await host.call(storage.close, storageID=made.id)


# ---- a daemon that starts again --------------------------------------------------------------------------------------


async def test_after_a_crash_the_lease_is_taken_again(hosts: Hosts, spm: MemoryHost) -> None:
    await hosts.kill(1)
    hosts.faults[0].set("acquire", Fault(hang=True))
    again = await hosts.start(1)
    await again.storage.host_ids.wait(SD, 1)
    assert await status(again) == (SpmRole.CONTEND, -1, -1)
    with pytest.raises(SpmStatusError):
        await again.call(volume.create, **NEW)
    hosts.faults[0].clear()
    await again.storage.charge.settled()
    assert await status(again) == (SpmRole.SPM, 1, 2)
    await again.call(volume.create, **NEW)


async def test_what_was_left_waits_for_the_host_ids(hosts: Hosts, spm: MemoryHost) -> None:
    await hosts.kill(1)
    hosts.faults[0].set("join", Fault(delay=0.2, times=1))
    again = await hosts.start(1)
    assert not again.storage.host_ids.joined(SD)
    await again.storage.able()
    assert again.storage.host_ids.joined(SD)
    assert await status(again) == (SpmRole.SPM, 1, 2)


async def test_a_setting_that_was_changed_counts_from_the_next_start_on(hosts: Hosts, spm: MemoryHost) -> None:
    await hosts.kill(1)
    without = await hosts.start(1, local_leases=False)
    assert not (await without.call(storage_domain.get_info, storagedomainID=SD)).leases
    assert await status(without) == (SpmRole.SPM, 1, 1)
    await hosts.kill(1)
    again = await hosts.start(1)
    await again.storage.able()
    assert await status(again) == (SpmRole.SPM, 1, 2)


async def test_charge_that_was_given_up_is_not_taken_again(hosts: Hosts, spm: MemoryHost) -> None:
    await hosts.kill(1)
    hosts.faults[0].set("acquire", Fault(hang=True))
    again = await hosts.start(1)
    await again.storage.host_ids.wait(SD, 1)
    await again.call(storage_pool.spm_stop, storagepoolID=POOL)
    hosts.faults[0].clear()
    await again.storage.able()
    assert await status(again) == (SpmRole.FREE, -1, -1)
    await again.call(storage_pool.disconnect, storagepoolID=POOL, hostID=1, scsiKey="")


async def test_after_a_crash_another_host_may_be_in_charge(hosts: Hosts, spm: MemoryHost, two: MemoryHost) -> None:
    await hosts.kill(1)
    await start(two)
    again = await hosts.start(1)
    await again.storage.charge.settled()
    assert await status(again) == (SpmRole.FREE, 2, 2)
    (event,) = [event for event in await told(again) if event.reason]
    assert "host 2 is in charge" in event.reason
    with pytest.raises(SpmStatusError):
        await again.call(volume.create, **NEW)
    await hosts.kill(1)
    await two.call(storage_pool.spm_stop, storagepoolID=POOL)
    third = await hosts.start(1)
    await third.storage.charge.settled()
    assert await status(third) == (SpmRole.FREE, -1, -1), "what was lost is not taken again unasked"


class Killed(BaseException):
    """In the place of SIGKILL: nothing in the daemon may handle it."""


STORY: list[tuple[AnyVerb, dict[str, Any]]] = [
    (storage_pool.create, {**MASTER, "name": "dc", "domainList": [SD]}),
    (storage_pool.connect, {**MASTER, "hostID": 1, "scsiKey": ""}),
    (storage_pool.spm_start, {"storagepoolID": POOL}),
    (volume.create, NEW),
    (storage_pool.destroy, {"storagepoolID": POOL, "hostID": 1, "scsiKey": ""}),
]


@pytest.mark.parametrize("boundary", range(1, 13))
async def test_a_crash_at_any_boundary_is_taken_up(hosts: Hosts, boundary: int) -> None:
    """What writes to the pool waits until this host holds the lease again."""
    left = boundary

    def stop(row: TaskRow) -> None:
        nonlocal left
        left -= row.verb != "StorageDomain.create"
        if left == 0:
            raise Killed

    host = await hosts.start(1, at_boundary=stop)
    await host.call(storage_pool.connect_storage_server, **SERVER, domainType="LOCALFS")
    await make(host)
    done = 0
    for verb, params in STORY:
        call = asyncio.create_task(host.call(verb, **params))
        await asyncio.wait([call])
        done += 1
        if call.exception() is not None:
            assert isinstance(call.exception(), Killed)
            break
    assert left <= 0, "there are fewer boundaries"
    await hosts.kill(1)
    again = await hosts.start(1)
    await again.tasks.settled()
    tasks = await again.call(task.list_)
    assert {row.state for row in tasks} == {State.DONE}
    assert len(tasks) == 1 + sum(verb.kind is Kind.TASK for verb, _ in STORY[:done])
    for verb, params in STORY[done:]:
        await again.call(verb, **params)
    assert await again.call(storage.check, storageID=SD) == []
    assert (await again.call(storage_domain.get_info, storagedomainID=SD)).pool == []
    assert again.leases.board.hosts == {}
    assert await again.leases.held() == []


# ---- a lease that is lost --------------------------------------------------------------------------------------------


async def test_what_writes_ends_when_the_lease_is_lost(spm: MemoryHost) -> None:
    spm.disk_faults.set("create", Fault(hang=True))
    begun = asyncio.create_task(spm.call(volume.create, **NEW))
    await become(lambda: spm.repository.writing(POOL) > 0)
    with pytest.raises(SpmStopError):
        await spm.call(storage_pool.spm_stop, storagepoolID=POOL)
    before = contents(spm)
    spm.leases.lose()
    assert not spm.repository.connected(POOL).in_charge, "at once"
    with pytest.raises(SpmStatusError):
        await begun
    assert contents(spm) == before, "not even undone"
    assert await status(spm) == (SpmRole.FREE, -1, -1)
    (row,) = [row for row in await spm.call(task.list_) if row.verb == "Volume.create"]
    assert row.state is State.BROKEN
    (event,) = [event for event in await told(spm) if event.reason]
    assert (event.in_charge, event.pool_id) == (False, POOL)
    assert "1 operations were ended" in event.reason
    spm.disk_faults.clear()
    await start(spm)
    await spm.call(volume.create, **NEW)
    assert await spm.call(storage.check, storageID=SD) == []


async def test_a_volume_has_one_worker(spm: MemoryHost, two: MemoryHost) -> None:
    await spm.call(volume.create, **NEW)
    leases, domain = two.storage.volume_leases, two.repository.find(SD)
    await two.storage.host_ids.wait(SD, 2)
    before = await two.call(storage_domain.dump, sd_id=SD)
    async with leases.held(domain, IMAGE, BASE):
        async with leases.held(domain, IMAGE, BASE):
            pass
        with pytest.raises(StorageInUse, match=BASE):
            await two.call(storage_pool.disconnect, storagepoolID=POOL, hostID=2, scsiKey="")
        with pytest.raises(AcquireLockFailure, match="host 2"):
            async with spm.storage.volume_leases.held(spm.repository.find(SD), IMAGE, BASE):
                pass
    async with spm.storage.volume_leases.held(spm.repository.find(SD), IMAGE, BASE):
        pass
    assert await two.call(storage_domain.dump, sd_id=SD) == before
    await two.call(storage_pool.disconnect, storagepoolID=POOL, hostID=2, scsiKey="")


async def test_no_volume_is_worked_on_without_a_host_id(hosts: Hosts, spm: MemoryHost) -> None:
    await spm.call(volume.create, **NEW)
    two = await hosts.start(2)
    await connect(two, 1)
    with pytest.raises(AcquireHostIdFailure):
        async with two.storage.volume_leases.held(two.repository.find(SD), IMAGE, BASE):
            pass
