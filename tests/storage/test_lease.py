# SPDX-License-Identifier: Apache-2.0
"""External leases: the index and the leases always say the same, whatever happens in between."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from harness.memory_host import MemoryHost
from vdsm.contract import AnyVerb, lease, storage, storage_domain, storage_pool
from vdsm.contract.errors_domains import (
    DomainWithoutLeases,
    GenerationMismatch,
    JobStatusMismatch,
    SpmStatusError,
)
from vdsm.contract.errors_storage import (
    AcquireLockFailure,
    ClusterLockInitError,
    LeaseExists,
    LeaseIndexFull,
    LeaseIndexUnusable,
    NoSuchLease,
)
from vdsm.contract.lease import JobMetadata, JobStatus, LeaseMetadataType
from vdsm.core.storage.domain_leases import external_lease
from vdsm.core.storage.format import external_leases, lease_areas
from vdsm.core.storage.format.external_leases import ExternalLeases
from vdsm.core.storage.lease import decode, encode, fenced
from vdsm.drivers.simulated.faults import Fault
from vdsm.drivers.simulated.leases import SimulatedLeases

MIB = 1 << 20
ONE, TWO, JOB = (str(uuid.uuid4()) for _ in range(3))
PENDING = JobMetadata(type=LeaseMetadataType.JOB, job_status=JobStatus.PENDING, generation=4, job_id=JOB, created=7)


class Lab:
    """One host in charge of a domain with leases."""

    def __init__(self, host: MemoryHost, domain_id: str) -> None:
        self.host = host
        self.domain = domain_id

    async def call(self, verb: AnyVerb, lease_id: str = ONE, **params: Any) -> Any:
        return await self.host.call(verb, sd_id=self.domain, lease_id=lease_id, **params)

    async def rebuild(self) -> None:
        await self.host.call(lease.rebuild_leases, sd_id=self.domain)

    @property
    def data(self) -> bytearray:
        return self.host.tree.nodes[f"/storage/vm/{self.domain}/dom_md/xleases"].data

    def index(self) -> ExternalLeases:
        return external_leases.decode(bytes(self.data[MIB:]), MIB)

    async def sound(self) -> bool:
        """The index says what is there, no more and no less, and a check finds nothing."""
        found: dict[str, int] = {}
        for number in range(min(len(self.data) // MIB, 16)):
            record = lease_areas.lease(bytes(self.data[external_leases.lease_offset(number, MIB) :][:512]))
            if record is not None:
                found[record.resource] = number
        checked = await self.host.call(storage.check, storageID=self.domain)
        return found == self.index().records and not self.index().unsure() and checked == []


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    host = MemoryHost(None, local_leases=True)
    await host.open()
    made = await host.call(storage.init, path="/storage/vm")
    yield Lab(host, made.id)
    await host.close()


async def test_a_lease_comes_and_goes(lab: Lab) -> None:
    for name in (ONE, TWO):
        await lab.call(lease.create, name)
    info = await lab.call(lease.info)
    assert (info.lease_id, info.sd_id, info.offset) == (ONE, lab.domain, 3 * MIB)
    assert info.path == f"/storage/vm/{lab.domain}/dom_md/xleases"
    assert (await lab.call(lease.info, TWO)).offset == 4 * MIB
    status = await lab.call(lease.status)
    assert (status.owners, status.version, status.metadata) == ([], 0, None)
    assert await lab.sound()
    dump = await lab.host.call(storage_domain.dump, sd_id=lab.domain, full=True)
    assert {name: (row.offset, row.updating) for name, row in dump.xleases.items()} == {
        ONE: (3 * MIB, False), TWO: (4 * MIB, False),
    }  # fmt: skip
    with pytest.raises(LeaseExists):
        await lab.call(lease.create)
    await lab.call(lease.delete)
    for verb in (lease.info, lease.status, lease.delete):
        with pytest.raises(NoSuchLease):
            await lab.call(verb)
    assert await lab.sound()
    await lab.call(lease.create, str(uuid.uuid4()))
    assert sorted(lab.index().records.values()) == [0, 1], "the first free place"


async def test_a_lease_that_is_held_stays(lab: Lab) -> None:
    await lab.call(lease.create)
    held = external_lease(lab.host.repository.find(lab.domain), ONE, 0)
    await lab.host.leases.acquire(held, 1)
    assert (await lab.call(lease.status)).owners == [1]
    with pytest.raises(AcquireLockFailure, match="host 1"):
        await lab.call(lease.delete)
    await lab.host.leases.release(held, 1)
    assert (await lab.call(lease.status)).version == 1
    await lab.call(lease.delete)


async def test_only_who_is_in_charge_changes_leases(lab: Lab) -> None:
    await lab.call(lease.create)
    pool = lab.host.repository.pools()[0].id
    await lab.host.call(storage_pool.spm_stop, storagepoolID=pool)
    for verb in (lease.create, lease.delete):
        with pytest.raises(SpmStatusError):
            await lab.call(verb)
    with pytest.raises(SpmStatusError):
        await lab.rebuild()
    assert (await lab.call(lease.info)).offset == 3 * MIB


async def test_where_there_are_no_leases_there_are_none(host: MemoryHost) -> None:
    (domain,) = host.repository
    for verb in (lease.create, lease.delete, lease.info, lease.status):
        with pytest.raises(DomainWithoutLeases):
            await host.call(verb, sd_id=domain.id, lease_id=ONE)


async def test_a_full_index(lab: Lab) -> None:
    for number in range(external_leases.RECORDS):
        offset = external_leases.record_offset(number, MIB)
        lab.data[offset : offset + 64] = external_leases.record(f"lease-{number}", number, MIB)
    with pytest.raises(LeaseIndexFull, match="3960"):
        await lab.call(lease.create)


@pytest.mark.parametrize("where", [MIB, MIB + 511, MIB + 512 + 63])
async def test_a_damaged_index_is_built_anew(lab: Lab, where: int) -> None:
    await lab.call(lease.create, ONE)
    await lab.call(lease.create, TWO)
    good = lab.index().records
    lab.data[where] ^= 0xFF
    if where != MIB + 511:  # the last byte of the header is only for the eye
        for verb in (lease.create, lease.info, lease.status, lease.delete):
            with pytest.raises(LeaseIndexUnusable):
                await lab.call(verb)
    await lab.rebuild()
    assert lab.index().records == good
    assert await lab.sound()


async def test_an_index_that_was_not_built_to_its_end_says_so(lab: Lab) -> None:
    await lab.call(lease.create)
    lab.data[MIB : MIB + 512] = external_leases.header(lab.domain, 1, updating=True)
    with pytest.raises(LeaseIndexUnusable, match="did not finish"):
        await lab.call(lease.info)
    (row,) = await lab.host.call(storage.check, storageID=lab.domain)
    assert "Lease.rebuild_leases" in row.remedy
    await lab.rebuild()
    assert await lab.sound()


@pytest.mark.parametrize("mended_by", ["create", "rebuild"])
@pytest.mark.parametrize("formatted", [True, False])
async def test_a_change_that_a_crash_cut_short(lab: Lab, formatted: bool, mended_by: str) -> None:
    """Its record is marked: nobody takes the lease for one, a check tells, and the next change makes all well."""
    await lab.call(lease.create)
    if not formatted:
        await lab.host.leases.clear_lease(external_lease(lab.host.repository.find(lab.domain), ONE, 0))
    start = external_leases.record_offset(0, MIB)
    lab.data[start : start + 64] = external_leases.record(ONE, 0, MIB, changing=True)
    with pytest.raises(NoSuchLease):
        await lab.call(lease.info)
    (row,) = await lab.host.call(storage.check, storageID=lab.domain)
    assert "did not finish" in row.what
    await (lab.call(lease.create) if mended_by == "create" else lab.rebuild())
    assert await lab.sound()
    assert set(lab.index().records) == ({ONE} if formatted or mended_by == "create" else set())


async def test_a_change_that_fails_is_undone(lab: Lab) -> None:
    lab.host.lease_faults.set("format_lease", Fault(error="no sanlock"))
    with pytest.raises(ClusterLockInitError, match="no sanlock"):
        await lab.call(lease.create)
    assert await lab.sound()
    assert lab.index().records == {}


# ---- jobs ------------------------------------------------------------------------------------------------------------


async def test_a_pending_job_is_fenced(lab: Lab) -> None:
    await lab.call(lease.create, metadata=PENDING)
    assert (await lab.call(lease.status)).metadata == PENDING
    for _ in range(2):
        await lab.call(lease.fence, metadata=PENDING)
    found = (await lab.call(lease.status)).metadata
    assert (found.job_status, found.generation, found.created) == (JobStatus.FENCED, 5, 7)
    assert found.modified is not None
    with pytest.raises(JobStatusMismatch, match="FENCED"):
        await lab.call(lease.fence, metadata=replace(PENDING, generation=5))
    assert await lab.host.leases.held() == [(lab.domain, "SDM")]


async def test_a_job_at_work_is_not_fenced(lab: Lab) -> None:
    await lab.call(lease.create, metadata=PENDING)
    domain = lab.host.repository.find(lab.domain)
    held = external_lease(domain, ONE, 0)
    other = SimulatedLeases(lab.host.leases.board, tree=lab.host.tree)
    lab.host.leases.board.hosts[lab.domain, 2] = other
    await other.acquire(held, 2)
    with pytest.raises(AcquireLockFailure):
        await lab.call(lease.fence, metadata=PENDING)
    assert (await lab.call(lease.status)).metadata == PENDING


@pytest.mark.parametrize(
    ("there", "known", "problem"),
    [
        (None, PENDING, JobStatusMismatch),
        (replace(PENDING, job_id=ONE), PENDING, JobStatusMismatch),
        (replace(PENDING, job_status=JobStatus.SUCCEEDED), PENDING, JobStatusMismatch),
        (replace(PENDING, generation=5), PENDING, GenerationMismatch),
    ],
)
def test_what_cannot_be_fenced(there: JobMetadata | None, known: JobMetadata, problem: type[Exception]) -> None:
    with pytest.raises(problem):
        fenced(there, known, ONE)


def test_a_value_is_json_and_zeros() -> None:
    data = encode(PENDING)
    assert len(data) == 512
    assert data.startswith(b'{"type":"JOB","job_status":"PENDING","generation":4,')
    assert decode(data) == PENDING
    for garbage in (b"\0" * 512, b"{" * 512, b"\xff" * 512, b'{"type":"JOB"}'):
        assert decode(garbage) is None
