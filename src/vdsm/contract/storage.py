# SPDX-License-Identifier: Apache-2.0
"""The host's storage for a single host without a manager: one call makes a directory a place for disks."""

from __future__ import annotations

import enum
from typing import Annotated

from msgspec import Meta

from . import errors as e
from . import errors_domains as ed
from . import errors_storage as es
from . import events as ev
from ._verb import Kind, verb
from .access import Privilege
from .events import Severity
from .storage_words import DomainId, PoolId, StorageDomainType
from .types import END, Bytes, HostPath, Output

NOUN = "Storage"

_FILES = (
    es.FileMissing, es.FileExists, es.PathEscapes, es.NoSpaceLeftOnDomain, es.StorageReadOnly, es.StorageBroken,
    e.DeadlineExceeded, e.TooBusy,
)  # fmt: skip
_CHANGES = (*_FILES, e.ObjectBusy, e.StateUnavailable, ed.StoragePathRefused)

_LEASES = (
    es.ClusterLockInitError, es.AcquireHostIdFailure, es.AcquireLockFailure, es.SanlockInquireError,
    es.LockManagerUnavailable, ed.SpmStartError,
)  # fmt: skip

StorageName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,63}" + END,
        description="1 to 64 of letters, digits and _ . + @ -, beginning with a letter, digit or _.",
        examples=["vm"],
    ),
]
StorageRef = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,63}" + END, description="Name or id of a storage domain.")
]


class StorageState(enum.StrEnum):
    """Whether disks can be made there."""

    ACTIVE = "active"
    READ_ONLY = "read-only"  # what is there can be read
    UNUSABLE = "unusable"


class StorageSummary(Output, frozen=True, kw_only=True):
    """A storage domain of this host."""

    id: DomainId
    name: str
    type: StorageDomainType
    path: str  # the directory, or the remote path it is mounted from
    state: StorageState
    pool: PoolId
    in_charge: bool  # whether this host may change the pool
    leases: bool  # whether sanlock keeps other hosts from what this one uses
    total: Bytes
    free: Bytes
    reason: str = ""  # why it is unusable


class Finding(Output, frozen=True, kw_only=True):
    """Something in a storage domain that is not as it should be."""

    severity: Severity
    where: str  # below the domain's directory
    what: str
    remedy: str


@verb(kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /storage")
def list_() -> list[StorageSummary]:
    """The storage domains this host is connected to."""


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_ADMIN, since="1.0", http="GET /storage/{storage_id}/check",
    raises=(*_FILES, ed.StorageDomainDoesNotExist), empty="Everything is as it should be.",
)  # fmt: skip
def check(storage_id: DomainId) -> list[Finding]:
    """Read a whole storage domain and name everything in it that is not as it should be. Nothing is changed.

    What a task is doing at that moment may be among it.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /storage",
    raises=(*_CHANGES, *_LEASES, ed.StorageDomainAlreadyExists, ed.StorageDomainNotEmpty),
    emits=(ev.StorageStatus, ev.PoolStatus),
)  # fmt: skip
def init(path: HostPath, *, name: StorageName | None = None) -> StorageSummary:
    """Make a local directory a storage domain, in a pool of its own with this host in charge.

    The directory is made if it is missing; what else lies in it is left alone. No other host may use it at the same
    time, unless `[storage] local_leases` is set on each: else it has no leases. `name` defaults to the directory's.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /storage/open",
    raises=(*_CHANGES, *_LEASES, ed.StorageDomainDoesNotExist, ed.StorageDomainAlreadyExists, ed.StorageUnusable),
    emits=(ev.StorageStatus, ev.PoolStatus),
)  # fmt: skip
def open_(path: HostPath) -> StorageSummary:
    """Take up the storage domain that lies in a local directory, with this host in charge.

    For one that was closed, here or on another host. No other host may use it at the same time.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /storage/{storage_id}/close",
    raises=(
        *_CHANGES, ed.StorageDomainDoesNotExist, ed.StorageInUse, e.HypervisorUnavailable, es.ReleaseLockFailure,
        es.LockManagerUnavailable, ed.StorageUnusable,
    ),
    emits=(ev.StorageStatus, ev.PoolStatus),
)  # fmt: skip
def close(storage_id: DomainId) -> None:
    """Let go of a storage domain. Everything in it stays, for `Storage.open`."""
