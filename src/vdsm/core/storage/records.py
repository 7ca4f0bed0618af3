# SPDX-License-Identifier: Apache-2.0
"""What the host keeps of its storage over a restart, and a domain as it stands now."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from vdsm.contract.errors_domains import ImagesNotSupportedError, StorageUnusable
from vdsm.contract.storage import StorageState
from vdsm.contract.storage_words import StorageDomainImageClass, StorageDomainStatus, StorageDomainType
from vdsm.core.ports.mounts import MountWish

from .format.domain_meta import DomainMeta


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """A directory of the host in which domains are looked for."""

    type: StorageDomainType
    remote: str  # as the manager calls it: /srv/vm, server:/export
    root: str  # where it lies on this host, without symbolic links
    mount: MountWish | None = None  # how it comes to be there; None: a local directory is there
    known: dict[str, str] = {}  # the domains last seen there, with their names


class PoolRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A pool that this host is connected to."""

    id: str
    host_id: int
    master: str
    master_version: int
    domains: dict[str, StorageDomainStatus]
    in_charge: bool  # whether this host is the one that may change it
    leases: bool
    lver: int = -1  # how often a host has taken charge

    def active(self) -> list[str]:
        """The domains in use."""
        used = [domain_id for domain_id, status in self.domains.items() if status is StorageDomainStatus.ACTIVE]
        return list(dict.fromkeys([self.master, *used]))


@dataclass(frozen=True, slots=True)
class Domain:
    """A storage domain that is, or should be, there. Either `meta` or `fault` is set.

    One that is away hangs, or is not mounted: it is not touched until the monitor finds it back.
    """

    id: str
    name: str
    connection: Connection
    meta: DomainMeta | None = None
    fault: str = ""
    away: bool = False
    read_only: bool = False

    @property
    def state(self) -> StorageState:
        if self.meta is None:
            return StorageState.UNUSABLE
        return StorageState.READ_ONLY if self.read_only else StorageState.ACTIVE

    @property
    def root(self) -> str:
        return self.connection.root

    @property
    def directory(self) -> str:
        return f"{self.connection.root}/{self.id}"

    def path(self, inside: str) -> str:
        """Of a thing in the domain, below `root`."""
        return f"{self.id}/{inside}"

    def metadata(self) -> DomainMeta:
        """Raises StorageUnusable."""
        if self.meta is None:
            raise StorageUnusable(domain=self.name or self.id, reason=self.fault)
        return self.meta

    def check_images(self) -> None:
        """Raises ImagesNotSupportedError, StorageUnusable."""
        if self.metadata().domain_class is StorageDomainImageClass.ISO:
            raise ImagesNotSupportedError(domain=self.name or self.id)
