# SPDX-License-Identifier: Apache-2.0
"""A domain's own leases: which domains have them, where they lie, and that they are there.

`ids` is the lockspace; `leases` has the lease of who is in charge of the pool; `xleases` the index of external leases.
A domain without leases has them too where sanlock is installed, so that hosts with leases can use it later.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

from vdsm.contract.errors_storage import ClusterLockInitError, FileMissing, LockManagerUnavailable
from vdsm.contract.storage_domain import LeaseDump, XleaseDump
from vdsm.contract.storage_words import StorageDomainType
from vdsm.core.ports.files import Files
from vdsm.core.ports.leases import Lease, Leases, Lockspace

from .format import external_leases, layout, lease_areas
from .format.domain_meta import DomainMeta
from .format.external_leases import ExternalLeases
from .format.lease_areas import LeaseRecord
from .format.lines import Malformed, is_uuid
from .records import Domain
from .repository import Repository

log = logging.getLogger(__name__)

IN_CHARGE = "SDM"
_INTERNAL = "xleases"


class DomainLeases:
    """`local`: whether local directories have leases too. Mounted storage always has."""

    def __init__(self, files: Files, leases: Leases, repository: Repository, *, local: bool) -> None:
        self._files = files
        self._leases = leases
        self._repository = repository
        self._local = local

    def needed(self, domain_type: StorageDomainType) -> bool:
        return self._local or domain_type is not StorageDomainType.LOCALFS

    def used(self, domain: Domain) -> bool:
        """Whether this host uses those of a domain, as its pool says."""
        pool = self._repository.pool_of(domain.id)
        return pool.leases if pool is not None else self.needed(domain.connection.type)

    def follow_settings(self) -> None:
        """When the daemon starts: whether the pools it is connected to have leases may be set otherwise now."""
        known = {domain.id: domain for domain in self._repository}
        for pool in self._repository.pools():
            if (master := known.get(pool.master)) is not None:
                self._repository.note_leases(pool.id, leases=self.needed(master.connection.type))

    async def write(self, root: str, meta: DomainMeta) -> None:
        """Of a domain that is being made, whatever was there. Raises ClusterLockInitError, LockManagerUnavailable."""
        domain_root = f"{root}/{meta.uuid}"
        try:
            await self._leases.format_lockspace(lockspace(domain_root, meta), io_timeout=meta.io_timeout_s)
            for lease in own_leases(domain_root, meta):
                await self._leases.format_lease(lease)
        except LockManagerUnavailable as problem:
            if self.needed(meta.type):
                raise
            log.info("storage domain %s is made without leases: %s", meta.uuid, problem)
        await self._write_index(root, meta)

    async def complete(self, domain: Domain) -> None:
        """Write what it lacks of them, its volumes' too. What is there stays.

        Raises ClusterLockInitError (one is damaged), LockManagerUnavailable.
        """
        meta = domain.metadata()
        if await self._is_bare(domain, layout.LOCKSPACE, 0):
            await self._leases.format_lockspace(lockspace(domain.directory, meta), io_timeout=meta.io_timeout_s)
        for lease in own_leases(domain.directory, meta):
            if await self._is_bare(domain, lease.path.removeprefix(f"{domain.directory}/"), lease.offset):
                await self._leases.format_lease(lease)
        index = external_leases.INDEX_SLOT * meta.alignment
        if not any(await self._read(domain, layout.EXTERNAL_LEASES, index)):
            await self._write_index(domain.root, meta)
        found = await self._files.read_all(domain.root, domain.path(layout.IMAGES), layout.LEASE)
        for path, data in found.items():
            image_id, _, name = path.removeprefix(domain.path(layout.IMAGES) + "/").partition("/")
            volume_id = name.removesuffix(layout.LEASE)
            if is_uuid(image_id) and is_uuid(volume_id) and not any(data):
                await self._leases.format_lease(volume_lease(domain, image_id, volume_id))

    async def _is_bare(self, domain: Domain, inside: str, offset: int) -> bool:
        data = await self._read(domain, inside, offset)
        try:
            return (lease_areas.host_id if inside == layout.LOCKSPACE else lease_areas.lease)(data) is None
        except Malformed as fault:
            raise ClusterLockInitError(lease=f"{domain.name}/{inside}", reason=fault) from None

    async def _read(self, domain: Domain, inside: str, offset: int) -> bytes:
        return await self._files.read_at(domain.root, domain.path(inside), offset, lease_areas.RECORD_BYTES)

    async def _write_index(self, root: str, meta: DomainMeta) -> None:
        index = external_leases.empty(meta.uuid, int(time.time()))
        offset = external_leases.INDEX_SLOT * meta.alignment
        await self._files.write_at(root, f"{meta.uuid}/{layout.EXTERNAL_LEASES}", offset, index)

    async def faults(self, domain: Domain) -> list[tuple[str, str]]:
        """Where something is not as it should be, and what; empty when hosts with leases can use the domain."""
        meta = domain.metadata()
        found: list[tuple[str, str]] = []
        for inside, offset, resource in _areas(meta):
            try:
                data = await self._read(domain, inside, offset)
                record = lease_areas.lease(data) if resource else lease_areas.host_id(data)
            except FileMissing:
                continue  # told already
            except Malformed as fault:
                found.append((inside, f"at {offset}: {fault}"))
                continue
            what = f"the lease {resource}" if resource else "the lockspace"
            if record is None:
                found.append((inside, f"{what} is not there"))
            elif record.lockspace != domain.id or (resource and record.resource != resource):
                found.append((inside, f"{what} is that of {record.lockspace} {record.resource}".rstrip()))
        return [*found, *await self._faults_of_index(domain)]

    async def _faults_of_index(self, domain: Domain) -> list[tuple[str, str]]:
        try:
            if (await self.index(domain)).unsure():
                return [(layout.EXTERNAL_LEASES, "whoever changed its index did not finish")]
        except FileMissing:
            pass
        except Malformed as fault:
            return [(layout.EXTERNAL_LEASES, str(fault))]
        return []

    async def index(self, domain: Domain) -> ExternalLeases:
        """Raises Malformed."""
        alignment = domain.metadata().alignment
        offset = external_leases.INDEX_SLOT * alignment
        path = domain.path(layout.EXTERNAL_LEASES)
        data = await self._files.read_at(domain.root, path, offset, external_leases.INDEX_BYTES)
        return external_leases.decode(data, alignment)

    async def dump_lockspace(self, domain: Domain) -> list[LeaseDump]:
        """Who has, or had, which host id, as far as it can be read."""
        meta = domain.metadata()
        try:
            data = await self._files.read_at(domain.root, domain.path(layout.LOCKSPACE), 0, meta.alignment)
        except FileMissing:
            return []
        found = lease_areas.host_ids(data, meta.block_size)
        return [_dumped(record, (record.owner - 1) * meta.block_size, version=False) for record in found]

    async def dump_leases(self, domain: Domain) -> list[LeaseDump]:
        """Of who is in charge, and the volumes'."""
        offset = domain.metadata().alignment
        found = {}
        with contextlib.suppress(FileMissing):
            found[layout.LEASES] = await self._read(domain, layout.LEASES, offset)
        found |= await self._files.read_all(domain.root, domain.path(layout.IMAGES), layout.LEASE)
        leases = []
        for inside, data in found.items():
            with contextlib.suppress(Malformed):
                if (record := lease_areas.lease(data)) is not None:
                    leases.append(_dumped(record, offset if inside == layout.LEASES else 0))
        return leases

    async def dump_external(self, domain: Domain) -> dict[str, XleaseDump]:
        """What the index names, as far as it can be read."""
        try:
            index = await self.index(domain)
        except (FileMissing, Malformed):
            return {}
        alignment = domain.metadata().alignment
        return {
            name: XleaseDump(
                offset=external_leases.lease_offset(number, alignment),
                updating=index.updating or name in index.changing,
            )
            for name, number in index.records.items()
        }

    async def faults_of_volumes(self, domain: Domain) -> list[tuple[str, str]]:
        """Their leases that are missing or damaged. Where there is no file nothing is said."""
        found: list[tuple[str, str]] = []
        leases = await self._files.read_all(domain.root, domain.path(layout.IMAGES), layout.LEASE)
        for path, data in sorted(leases.items()):
            inside = path.removeprefix(f"{domain.id}/")
            try:
                record = lease_areas.lease(data)
            except Malformed as fault:
                found.append((inside, str(fault)))
                continue
            name = inside.rpartition("/")[2].removesuffix(layout.LEASE)
            if record is None or (record.lockspace, record.resource) != (domain.id, name):
                found.append((inside, "it holds no lease of this volume"))
        return found


def _dumped(record: LeaseRecord, offset: int, *, version: bool = True) -> LeaseDump:
    return LeaseDump(
        offset=offset,
        lockspace=record.lockspace,
        resource=record.resource,
        timestamp=record.time,
        own=record.owner,
        gen=record.generation,
        lver=record.version if version else None,
    )


def _areas(meta: DomainMeta) -> Iterator[tuple[str, int, str]]:
    """File, offset and name of what must be there."""
    yield layout.LOCKSPACE, 0, ""
    yield layout.LEASES, meta.alignment, IN_CHARGE


def lockspace(directory: str, meta: DomainMeta) -> Lockspace:
    return Lockspace(
        name=meta.uuid,
        path=f"{directory}/{layout.LOCKSPACE}",
        alignment=meta.alignment,
        sector=meta.block_size,
    )


def _lease(directory: str, meta: DomainMeta, name: str, inside: str, offset: int) -> Lease:
    return Lease(
        lockspace=meta.uuid,
        name=name,
        path=f"{directory}/{inside}",
        offset=offset,
        alignment=meta.alignment,
        sector=meta.block_size,
    )


def own_leases(directory: str, meta: DomainMeta) -> list[Lease]:
    internal = external_leases.INTERNAL_SLOT * meta.alignment
    return [
        _lease(directory, meta, IN_CHARGE, layout.LEASES, meta.alignment),
        _lease(directory, meta, _INTERNAL, layout.EXTERNAL_LEASES, internal),
    ]


def charge_lease(domain: Domain) -> Lease:
    """Of who is in charge of the pool that this is the master of. Raises StorageUnusable."""
    return own_leases(domain.directory, domain.metadata())[0]


def volume_lease(domain: Domain, image_id: str, volume_id: str) -> Lease:
    """The file beside a volume, from its beginning on. Raises StorageUnusable."""
    return _lease(domain.directory, domain.metadata(), volume_id, layout.lease(image_id, volume_id), 0)


def external_lease(domain: Domain, lease_id: str, number: int) -> Lease:
    """Raises StorageUnusable."""
    meta = domain.metadata()
    offset = external_leases.lease_offset(number, meta.alignment)
    return _lease(domain.directory, meta, lease_id, layout.EXTERNAL_LEASES, offset)
