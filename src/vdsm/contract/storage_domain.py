# SPDX-License-Identifier: Apache-2.0
"""Storage domains, each a directory of images, in the words of managers."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from . import errors as e
from . import errors_domains as ed
from . import errors_storage as es
from . import events as ev
from ._verb import Kind, Wire, verb
from .access import Privilege
from .storage_pool import MasterVersion, PoolName, RemotePath
from .storage_words import (
    DiskContentType,
    DomainId,
    ImageId,
    PoolId,
    StorageDomainImageClass,
    StorageDomainRole,
    StorageDomainType,
    VolumeAllocation,
    VolumeFormat,
    VolumeId,
    VolumeLegality,
    VolumeRole,
    VolumeStatus,
)
from .types import Bytes, Output

NOUN = "StorageDomain"

_FILES = (
    es.FileMissing, es.FileExists, es.PathEscapes, es.NoSpaceLeftOnDomain, es.StorageReadOnly, es.StorageBroken,
    e.DeadlineExceeded, e.TooBusy,
)  # fmt: skip
_KNOWN = (*_FILES, ed.StorageDomainDoesNotExist, ed.StorageUnusable)
_CHANGES = (*_KNOWN, e.ObjectBusy, e.StateUnavailable)
_LEASES = (es.ClusterLockInitError, es.AcquireHostIdFailure, es.LockManagerUnavailable)  # where there are some
_POOLED = (*_CHANGES, ed.StoragePoolUnknown, ed.SpmStatusError, ed.StorageDomainNotInPool)


class StorageDomainInfo(Output, frozen=True, kw_only=True):
    """A domain as its metadata tells it."""

    uuid: DomainId
    name: str
    type: StorageDomainType
    class_: StorageDomainImageClass = msgspec.field(name="class")
    role: StorageDomainRole
    version: int
    pool: list[PoolId]
    master_ver: int = msgspec.field(name="master_ver")
    spm_id: int = msgspec.field(name="spm_id")
    lver: int
    block_size: int = msgspec.field(name="block_size")
    alignment: int
    remote_path: str
    leases: bool  # whether sanlock keeps other hosts from what this one uses


class StorageDomainStats(Output, frozen=True, kw_only=True):
    """How much room there is. The numbers on metadata are those of block storage; files have none of them."""

    disktotal: Bytes
    diskfree: Bytes
    mdavalid: bool = True
    mdathreshold: bool = True
    mdasize: int = 0
    mdafree: int = 0


class StorageDomainFileStats(Output, frozen=True, kw_only=True):
    """A file in a domain of disc images."""

    size: Bytes
    ctime: int  # seconds since 1970
    status: int  # 0: it can be used; else the number of the error that its reader would meet


class VolumeDump(Output, frozen=True, kw_only=True, omit_defaults=True):
    """A volume as it lies there; of one whose metadata cannot be used only what its file tells."""

    image: ImageId
    status: VolumeStatus
    truesize: Bytes | None = None
    apparentsize: Bytes | None = None
    parent: VolumeId | None = None
    description: str | None = None
    disktype: DiskContentType | None = None
    format: VolumeFormat | None = None
    type: VolumeAllocation | None = None
    voltype: VolumeRole | None = None
    legality: VolumeLegality | None = None
    capacity: Bytes | None = None
    ctime: int | None = None
    generation: int | None = None
    sequence: int | None = None


class LeaseDump(Output, frozen=True, kw_only=True, omit_defaults=True):
    """A record of sanlock's: a lease, or, in the lockspace, a host id that was taken once."""

    offset: Bytes  # in its file
    lockspace: str
    resource: str  # the lease's name; of a host id the host's
    timestamp: int  # of the owner's clock; 0: it is free
    own: int  # host id of the owner, or of the last one
    gen: int  # how often that host had taken its id
    lver: int | None = None  # how often the lease was taken


class XleaseDump(Output, frozen=True, kw_only=True):
    """An external lease as the index names it."""

    offset: Bytes
    updating: bool  # whoever began to change it did not finish


class StorageDomainDump(Output, frozen=True, kw_only=True, omit_defaults=True):
    """A domain with all its volumes; in full also its leases: the one of who is in charge, and the volumes', each at
    the beginning of its own file."""

    metadata: StorageDomainInfo
    volumes: dict[VolumeId, VolumeDump]
    leases: list[LeaseDump] | None = None
    lockspace: list[LeaseDump] | None = None
    xleases: dict[str, XleaseDump] | None = None


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /domains/{storagedomain_id}",
    command="domain create",
    raises=(
        *_CHANGES, *_LEASES, ed.StorageDomainAlreadyExists, ed.StorageDomainFSNotMounted, ed.StorageDomainTypeError,
        ed.StorageDomainBlockSizeMismatch, es.MountError, es.MountRefused, es.ForeignMount,
    ),
    emits=(ev.StorageStatus,),
)  # fmt: skip
def create(
    storagedomain_id: DomainId,
    domain_type: StorageDomainType,
    type_args: RemotePath,
    name: PoolName,
    domain_class: StorageDomainImageClass = StorageDomainImageClass.DATA,
    version: Annotated[int, Meta(ge=5, le=5)] = 5,
    block_size: Annotated[int, Meta(ge=0, le=4096)] = 512,
    max_hosts: Annotated[int, Meta(ge=1, le=2000)] = 250,
) -> None:
    """Make a domain in a place this host is connected to. It belongs to no pool yet.

    `blockSize` is 512 or 4096, as its file system has it; 0 finds that out. With 4096 up to 250, 500, 1000 or 2000
    hosts make each of its leases 1, 2, 4 or 8 MiB.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /domains/{storagedomain_id}/format",
    command="domain format",
    raises=(*_CHANGES, ed.StorageDomainAlreadyAttached, ed.StorageInUse, e.HypervisorUnavailable),
    emits=(ev.StorageStatus,),
)  # fmt: skip
def format(storagedomain_id: DomainId, auto_detach: bool = False) -> None:  # noqa: A001 the published name
    """Remove a domain that belongs to no pool, with all that is in it. There is no way back.

    `autoDetach` takes it out of a pool that this host is in charge of.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /domains/{storagedomain_id}/attach",
    command="domain attach", raises=(*_POOLED, *_LEASES, ed.StorageDomainAlreadyAttached),
)  # fmt: skip
def attach(storagedomain_id: DomainId, storagepool_id: PoolId) -> None:
    """Let a domain belong to a pool; one of disc images (Iso) may belong to several."""


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /domains/{storagedomain_id}/detach",
    command="domain detach",
    raises=(
        *_POOLED, ed.CannotDetachMasterStorageDomain, ed.StorageDomainAlreadyAttached, ed.StorageInUse,
        e.HypervisorUnavailable,
    ),
)  # fmt: skip
def detach(
    storagedomain_id: DomainId,
    storagepool_id: PoolId,
    master_sd_id: Annotated[DomainId | None, Wire("masterSdUUID")] = None,
    master_version: MasterVersion = 0,
    *,
    force: bool = False,
) -> None:
    """Let a domain belong to the pool no more. What is in it stays. The master of a pool cannot be detached.

    `force` also takes a domain out of the pool that cannot be reached; it still says that it belongs to it, then. With
    no pool (an id of zeros) `force` makes a domain belong to none of the pools it names, which this host does not know:
    whoever asks must know that no other host uses it.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /domains/{storagedomain_id}/activate",
    command="domain activate", raises=(*_POOLED, *_LEASES),
)  # fmt: skip
def activate(storagedomain_id: DomainId, storagepool_id: PoolId) -> None:
    """Let an attached domain be used. Active already is fine."""


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /domains/{storagedomain_id}/deactivate",
    command="domain deactivate",
    raises=(*_POOLED, ed.CannotDetachMasterStorageDomain, ed.StorageInUse, e.HypervisorUnavailable,
            ed.StoragePoolWrongMaster, ed.StorageDomainNotActive, ed.IsoCannotBeMasterDomain,
            ed.BackupCannotBeMasterDomain),
)  # fmt: skip
def deactivate(
    storagedomain_id: DomainId,
    storagepool_id: PoolId,
    master_sd_id: Annotated[DomainId | None, Wire("masterSdUUID")] = None,
    master_version: MasterVersion = 0,
) -> None:
    """Let an active domain be used no more. It stays attached.

    Of the pool's master `masterSdUUID` says which active domain is the master from now on, with `masterVersion`.
    """


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /domains/{storagedomain_id}/description",
    command="domain set-description", raises=(*_CHANGES, ed.SpmStatusError),
)  # fmt: skip
def set_description(storagedomain_id: DomainId, description: PoolName) -> None:
    """Give a domain another name. One that belongs to a pool is renamed by the host in charge."""


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /domains/{storagedomain_id}",
    command="domain info", raises=_KNOWN,
)  # fmt: skip
def get_info(storagedomain_id: DomainId) -> StorageDomainInfo:
    """A domain, read anew."""


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /domains/{storagedomain_id}/stats",
    command="domain stats", raises=_KNOWN,
)  # fmt: skip
def get_stats(storagedomain_id: DomainId) -> StorageDomainStats:
    """How much room a domain has."""


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /domains/{storagedomain_id}/images",
    command="domain images", raises=_KNOWN,
)  # fmt: skip
def get_images(storagedomain_id: DomainId) -> list[ImageId]:
    """The images of a domain."""


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /domains/{storagedomain_id}/volumes",
    command="domain volumes", raises=_KNOWN,
)  # fmt: skip
def get_volumes(
    storagedomain_id: DomainId, storagepool_id: PoolId | None = None, image_id: ImageId | None = None
) -> list[VolumeId]:
    """The volumes of a domain, or of one of its images."""


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /domains/{storagedomain_id}/files",
    command="domain files", raises=(*_KNOWN, ed.StorageDomainClassError),
)  # fmt: skip
def get_file_stats(
    storagedomain_id: DomainId,
    pattern: Annotated[str, Meta(max_length=255)] = "*",
    case_sensitive: bool = False,
) -> dict[str, StorageDomainFileStats]:
    """The files of a domain of disc images (Iso) whose names match a pattern of the shell's kind, as `*.iso`."""


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /domains/{storagedomain_id}/validate",
    command="domain validate", raises=_KNOWN,
)  # fmt: skip
def validate(storagedomain_id: DomainId) -> None:
    """Refuse a domain that cannot be used."""


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /domains/{sd_id}/dump",
    command="domain dump", raises=_KNOWN,
)  # fmt: skip
def dump(sd_id: Annotated[DomainId, Wire("sd_id")], full: bool = False) -> StorageDomainDump:
    """Everything a domain says of itself and of its volumes, for diagnosis. `full` adds nothing without leases."""
