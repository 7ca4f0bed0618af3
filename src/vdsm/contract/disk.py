# SPDX-License-Identifier: Apache-2.0
"""Disks: images in a storage domain, by name."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from . import errors as e
from . import errors_domains as ed
from . import errors_storage as es
from . import events as ev
from ._verb import Kind, verb
from .access import Privilege
from .storage import StorageRef
from .storage_words import Capacity, DomainId, ImageId, VolumeAllocation, VolumeId, VolumeStatus
from .types import END, Bytes, Output, UnixTime
from .vm_params import DiskFormat

NOUN = "Disk"

DiskId = ImageId
DiskName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,127}" + END,
        description="1 to 128 of letters, digits and _ . + @ -, beginning with a letter, digit or _.",
        examples=["web1-root"],
    ),
]

_STORAGE = (ed.StorageUnusable, es.StorageBroken, es.PathEscapes, e.DeadlineExceeded, e.TooBusy)
_CHANGES = (*_STORAGE, es.NoSpaceLeftOnDomain, es.StorageReadOnly, ed.SpmStatusError, e.ObjectBusy, e.StateUnavailable)


class DiskVolume(Output, frozen=True, kw_only=True):
    """One volume of a disk's chain."""

    id: VolumeId
    parent: VolumeId | None
    format: DiskFormat
    allocation: VolumeAllocation
    status: VolumeStatus
    created: UnixTime
    apparent_size: Bytes  # length of its file
    true_size: Bytes  # what it takes from the storage


class DiskSummary(Output, frozen=True, kw_only=True):
    """A disk at a glance."""

    id: DiskId
    name: str
    storage: str  # the domain's name
    storage_id: DomainId
    size: Bytes  # that the guest sees
    format: DiskFormat
    status: VolumeStatus
    reason: str = ""  # why it is not OK
    volumes: int  # how many its chain has


class DiskInfo(Output, frozen=True, kw_only=True):
    """A disk with its chain, the volume that is written to first."""

    id: DiskId
    name: str
    storage: str  # the domain's name
    storage_id: DomainId
    size: Bytes  # that the guest sees
    format: DiskFormat
    status: VolumeStatus
    reason: str = ""  # why it is not OK
    path: str  # of the volume that is written to
    vms: list[str] | None  # names of the machines it belongs to; null while libvirt does not answer
    chain: list[DiskVolume]


@verb(kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /disks")
def list_() -> list[DiskSummary]:
    """Every disk in the storage domains of this host.

    Domains that cannot be read now are left out: `Storage.list` says which those are.
    """


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /disks/{disk_id}",
    raises=(ed.NoSuchDisk, *_STORAGE),
)  # fmt: skip
def get_info(disk_id: DiskId) -> DiskInfo:
    """One disk with its volumes."""


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /disks",
    raises=(*_CHANGES, ed.DiskExists, ed.WhichStorage, ed.StorageDomainDoesNotExist, es.ImageOperationFailed),
    emits=(ev.DiskCreated, ev.DiskRemoved),
)  # fmt: skip
def create(
    name: DiskName,
    *,
    size: Capacity,
    format: DiskFormat = DiskFormat.RAW,
    allocation: VolumeAllocation = VolumeAllocation.SPARSE,
    storage: StorageRef | None = None,
    disk_id: DiskId | None = None,
) -> DiskInfo:
    """Make an empty disk.

    `storage` may be left out where the host has only one. A qcow2 disk can have snapshots; a raw one is a little
    faster, and becomes the base of a chain with its first snapshot.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="DELETE /disks/{disk_id}",
    raises=(*_CHANGES, ed.NoSuchDisk, ed.DiskInUse, e.HypervisorUnavailable), emits=(ev.DiskRemoved,),
)  # fmt: skip
def delete(disk_id: DiskId) -> None:
    """Remove a disk and everything in it. There is no way back."""
