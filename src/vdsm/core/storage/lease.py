# SPDX-License-Identifier: Apache-2.0
"""The verbs on external leases. The index says which name has its lease where; a lease's own record is the truth."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator

import msgspec
from msgspec.structs import replace

from vdsm.contract import lease
from vdsm.contract.errors import InvalidParams
from vdsm.contract.errors_domains import DomainWithoutLeases, GenerationMismatch, JobStatusMismatch
from vdsm.contract.errors_storage import (
    AcquireLockFailure,
    LeaseExists,
    LeaseIndexFull,
    LeaseIndexUnusable,
    NoSuchLease,
    SanlockLVBError,
)
from vdsm.contract.lease import ExternalLeaseStatus, JobMetadata, JobStatus, LeaseInfo
from vdsm.core.handlers import Context, handles
from vdsm.core.ports.files import Files
from vdsm.core.ports.leases import Lease, Leases
from vdsm.core.steps import Step, operation, report

from .domain_leases import DomainLeases, external_lease
from .format import external_leases, layout, lease_areas
from .format.external_leases import ExternalLeases
from .format.lines import Malformed
from .host_ids import HostIds
from .records import Domain
from .repository import Repository

log = logging.getLogger(__name__)


class LeaseOperations:
    """A change begins by marking the record it is about, and ends by taking the mark away: whoever finds one knows that
    a change was not finished."""

    def __init__(
        self, files: Files, leases: Leases, repository: Repository, domain_leases: DomainLeases, host_ids: HostIds
    ) -> None:
        self._files = files
        self._leases = leases
        self._repository = repository
        self._domain_leases = domain_leases
        self._host_ids = host_ids

    async def index(self, domain: Domain) -> ExternalLeases:
        """Raises DomainWithoutLeases, LeaseIndexUnusable."""
        if not self._domain_leases.used(domain):
            raise DomainWithoutLeases(domain=domain.name)
        try:
            index = await self._domain_leases.index(domain)
        except Malformed as fault:
            raise LeaseIndexUnusable(domain=domain.name, reason=fault) from None
        if index.updating:
            raise LeaseIndexUnusable(domain=domain.name, reason="whoever built it anew did not finish")
        return index

    async def find(self, domain: Domain, lease_id: str) -> Lease:
        """Raises NoSuchLease, LeaseIndexUnusable."""
        index = await self.index(domain)
        number = index.records.get(lease_id)
        if number is None or lease_id in index.changing:
            raise NoSuchLease(lease=lease_id, domain=domain.name)
        return external_lease(domain, lease_id, number)

    @operation("lease.add")
    async def add(self, domain_id: str, lease_id: str, metadata: JobMetadata | None) -> None:
        domain = await self._repository.writable(domain_id)
        index = await self.index(domain)
        number = index.records.get(lease_id)
        if number is None:
            number = index.free()
        elif lease_id not in index.changing:
            return
        if number is None:
            raise LeaseIndexFull(domain=domain.name, count=external_leases.RECORDS)
        await self._note(domain, lease_id, number, changing=True)
        made = external_lease(domain, lease_id, number)
        await self._leases.format_lease(made)
        if metadata is not None:
            async with self._held(domain, made):
                await self._leases.write_value(made, encode(metadata))
        await self._note(domain, lease_id, number)

    @operation("lease.remove")
    async def remove(self, domain_id: str, lease_id: str) -> None:
        """Not there is fine. Raises AcquireLockFailure."""
        domain = await self._repository.writable(domain_id)
        index = await self.index(domain)
        if (number := index.records.get(lease_id)) is None:
            return
        gone = external_lease(domain, lease_id, number)
        if lease_id not in index.changing:
            await self.check_free(gone)
        await self._note(domain, lease_id, number, changing=True)
        await self._leases.clear_lease(gone)
        await self._note(domain, "", number)

    async def check_free(self, found: Lease) -> None:
        """Raises AcquireLockFailure."""
        for owner in (await self._leases.state(found)).owners:
            raise AcquireLockFailure(lease=found.name, reason=f"host {owner} holds it")

    @operation("lease.rebuild")
    async def rebuild(self, domain_id: str) -> None:
        domain = await self._repository.writable(domain_id)
        alignment = domain.metadata().alignment
        records: dict[int, str] = {}
        size = (await self._files.status(domain.root, domain.path(layout.EXTERNAL_LEASES))).size
        used = min(max(size // alignment - external_leases.FIRST_SLOT, 0), external_leases.RECORDS)
        for number in range(used):
            report(number / used)
            name = await self._name_at(domain, external_leases.lease_offset(number, alignment))
            if name and name not in records.values():
                records[number] = name
        body = b"".join(
            external_leases.record(records.get(number, ""), number, alignment)
            for number in range(external_leases.RECORDS)
        )
        now = int(time.time())
        await self._write_index(domain, external_leases.header(domain_id, now, updating=True) + body)
        await self._write_index(domain, external_leases.header(domain_id, now))

    async def _name_at(self, domain: Domain, offset: int) -> str:
        """Of the lease that lies there; empty where there is none of this domain."""
        path = domain.path(layout.EXTERNAL_LEASES)
        data = await self._files.read_at(domain.root, path, offset, lease_areas.RECORD_BYTES)
        try:
            found = lease_areas.lease(data)
        except Malformed as fault:
            log.warning("what lies at %d of the external leases of %s is no lease: %s", offset, domain.id, fault)
            return ""
        return found.resource if found is not None and found.lockspace == domain.id else ""

    async def _note(self, domain: Domain, name: str, number: int, *, changing: bool = False) -> None:
        alignment = domain.metadata().alignment
        data = external_leases.record(name, number, alignment, changing=changing)
        offset = external_leases.record_offset(number, alignment)
        await self._files.write_at(domain.root, domain.path(layout.EXTERNAL_LEASES), offset, data)

    async def _write_index(self, domain: Domain, data: bytes) -> None:
        offset = external_leases.INDEX_SLOT * domain.metadata().alignment
        await self._files.write_at(domain.root, domain.path(layout.EXTERNAL_LEASES), offset, data)

    # ---- what is kept with a lease ---------------------------------------------------------------------------------

    async def metadata(self, domain: Domain, found: Lease) -> JobMetadata | None:
        """None where nothing was written that can be read."""
        if (offset := lease_areas.value_offset(found.alignment, found.sector)) is None:
            return None
        path = domain.path(layout.EXTERNAL_LEASES)
        return decode(await self._files.read_at(domain.root, path, found.offset + offset, lease_areas.VALUE_BYTES))

    @operation("lease.fence")
    async def fence(self, domain_id: str, lease_id: str, known: JobMetadata) -> None:
        """Whoever holds the lease may write its metadata: so it is held while they are read and changed."""
        domain = await self._repository.usable(domain_id)
        found = await self.find(domain, lease_id)
        async with self._held(domain, found):
            there = await self.metadata(domain, found)
            if (after := fenced(there, known, lease_id)) is not None:
                await self._leases.write_value(found, encode(after))

    @contextlib.asynccontextmanager
    async def _held(self, domain: Domain, found: Lease) -> AsyncIterator[None]:
        """With its value. Raises AcquireHostIdFailure, AcquireLockFailure, SanlockLVBError."""
        if lease_areas.value_offset(found.alignment, found.sector) is None:
            raise SanlockLVBError(lease=found.name, reason="leases of this domain have no room for one")
        host_id = self._host_ids.number(domain.id) or 0
        self._host_ids.check(domain.id, host_id)
        await self._leases.acquire(found, host_id, with_value=True)
        try:
            yield
        finally:
            await self._leases.release(found, host_id)


class ExternalLeaseVerbs:
    def __init__(self, leases: Leases, repository: Repository, operations: LeaseOperations) -> None:
        self._leases = leases
        self._repository = repository
        self._do = operations

    @handles(lease.create)
    async def create(self, ctx: Context, sd_id: str, lease_id: str, metadata: JobMetadata | None = None) -> None:
        index = await self._do.index(await self._writable(ctx, sd_id))
        if lease_id in index.records and lease_id not in index.changing:
            raise LeaseExists(lease=lease_id)
        if metadata is not None:
            encode(metadata)
        step = Step("make the lease", self._do.add(sd_id, lease_id, metadata), self._do.remove(sd_id, lease_id))
        await ctx.run(step, about=sd_id)

    @handles(lease.delete)
    async def delete(self, ctx: Context, sd_id: str, lease_id: str) -> None:
        domain = await self._writable(ctx, sd_id)
        await self._do.check_free(await self._do.find(domain, lease_id))
        await ctx.run(Step("remove the lease", self._do.remove(sd_id, lease_id)), about=sd_id)

    @handles(lease.rebuild_leases)
    async def rebuild_leases(self, ctx: Context, sd_id: str) -> None:
        await self._writable(ctx, sd_id)
        await ctx.run(Step("look for leases", self._do.rebuild(sd_id)), about=sd_id)

    async def _writable(self, ctx: Context, domain_id: str) -> Domain:
        await ctx.hold(f"leases:{domain_id}")
        return await self._repository.writable(domain_id)

    @handles(lease.info)
    async def info(self, ctx: Context, sd_id: str, lease_id: str) -> LeaseInfo:
        found = await self._do.find(await self._repository.usable(sd_id), lease_id)
        return LeaseInfo(sd_id=sd_id, lease_id=lease_id, path=found.path, offset=found.offset)

    @handles(lease.status)
    async def status(self, ctx: Context, sd_id: str, lease_id: str) -> ExternalLeaseStatus:
        domain = await self._repository.usable(sd_id)
        found = await self._do.find(domain, lease_id)
        state = await self._leases.state(found)
        metadata = await self._do.metadata(domain, found)
        return ExternalLeaseStatus(owners=state.owners, version=state.version, metadata=metadata)

    @handles(lease.fence)
    async def fence(self, ctx: Context, sd_id: str, lease_id: str, metadata: JobMetadata) -> None:
        await ctx.hold(f"lease:{lease_id}")
        await self._do.find(await self._repository.usable(sd_id), lease_id)
        await ctx.run(Step("fence the job", self._do.fence(sd_id, lease_id, metadata)))


def encode(metadata: JobMetadata) -> bytes:
    """Raises InvalidParams."""
    data = msgspec.json.encode(metadata)
    if len(data) > lease_areas.VALUE_BYTES:  # no field is long enough
        raise InvalidParams(reason=f"the metadata has {len(data)} bytes", path="$.metadata")
    return data.ljust(lease_areas.VALUE_BYTES, b"\0")


def decode(value: bytes) -> JobMetadata | None:
    """None for zeros and for what others wrote and is none."""
    try:
        return msgspec.json.decode(value.rstrip(b"\0"), type=JobMetadata)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def fenced(there: JobMetadata | None, known: JobMetadata, lease_id: str) -> JobMetadata | None:
    """What the metadata becomes; None: it is that already. Raises JobStatusMismatch, GenerationMismatch."""
    if there is None or there.job_id != known.job_id:
        raise JobStatusMismatch(lease=lease_id, found=f"job {there.job_id}" if there else "nothing")
    if there.job_status is JobStatus.FENCED and there.generation == known.generation + 1:
        return None
    if there.job_status is not JobStatus.PENDING:
        raise JobStatusMismatch(lease=lease_id, found=there.job_status)
    if there.generation != known.generation:
        raise GenerationMismatch(volume=lease_id, found=there.generation, stated=known.generation)
    return replace(there, job_status=JobStatus.FENCED, generation=there.generation + 1, modified=int(time.time()))
