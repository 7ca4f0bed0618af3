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
from .storage_words import LARGEST_VOLUME, Capacity, DomainId, ImageId, VolumeAllocation, VolumeId, VolumeStatus
from .types import END, Bytes, Output, UnixTime, Uuid
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

UploadSize = Annotated[
    int, Meta(ge=1, le=LARGEST_VOLUME, description="Bytes of a file that will be uploaded; rounded up to whole 4096.")
]

_STORAGE = (ed.StorageUnusable, es.StorageBroken, es.PathEscapes, e.DeadlineExceeded, e.TooBusy)
_CHANGES = (
    *_STORAGE, es.NoSpaceLeftOnDomain, es.StorageReadOnly, es.ClusterLockInitError, es.LockManagerUnavailable,
    ed.SpmStatusError, e.ObjectBusy, e.StateUnavailable,
)  # fmt: skip


class DataExtent(Output, frozen=True, kw_only=True):
    """A part of a file that has data."""

    start: Bytes
    length: Bytes


class DiskTransfer(Output, frozen=True, kw_only=True):
    """A door to a disk's file at the host's image port: `/images/{id}` there, for whoever knows the id."""

    id: Uuid
    check_id: Uuid | None = None  # of an upload: the same door, only to read what is there
    disk_id: DiskId
    format: DiskFormat
    size: Bytes  # of the file
    transferred: Bytes  # already there, from the beginning on
    listen: str  # the address the port is on; `::` and 0.0.0.0 mean all the host has
    port: int
    tls: bool
    fingerprint: str  # SHA-256 of the certificate there, in hexadecimal; empty without TLS
    data: list[DataExtent] | None = None  # of a download, zeros between them; null: ask `/images/{id}/extents`


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
    raises=(*_CHANGES, ed.DiskExists, ed.WhichStorage, ed.StorageDomainDoesNotExist, ed.ImagesNotSupportedError,
            es.ImageOperationFailed),
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
    upload_size: UploadSize | None = None,
) -> DiskInfo:
    """Make an empty disk.

    `storage` may be left out where the host has only one. A qcow2 disk can have snapshots; a raw one is a little
    faster, and becomes the base of a chain with its first snapshot.

    With `uploadSize` it waits, as ILLEGAL, for a file of that many bytes: `Disk.startUpload`, `Disk.finishUpload`.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="DELETE /disks/{disk_id}",
    raises=(*_CHANGES, ed.NoSuchDisk, ed.DiskInUse, ed.CannotDeleteSharedVolume, e.HypervisorUnavailable),
    emits=(ev.DiskRemoved,),
)  # fmt: skip
def delete(disk_id: DiskId) -> None:
    """Remove a disk and everything in it. There is no way back."""


_LAYERS = (
    *_CHANGES, ed.NoSuchDisk, ed.DiskUnusable, ed.DiskInUse, es.ImageOperationFailed, es.ImageVerificationError,
    e.HypervisorUnavailable, e.HypervisorError, e.NoSuchVM, e.VMIsDown,
)  # fmt: skip


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /disks/{disk_id}/snapshot",
    raises=(*_LAYERS, e.SnapshotFailed, ed.CannotCloneVolume),
)  # fmt: skip
def snapshot(disk_id: DiskId) -> DiskInfo:
    """Keep what a disk holds now: what is written from here on goes into a new volume.

    A running machine of this host's goes on in it; `VM.snapshot` does that to all its disks at one moment.
    `Disk.merge` ends a snapshot; what was written since stays.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /disks/{disk_id}/merge",
    raises=(*_LAYERS, e.MergeFailed, ed.MergeSnapshotsError, ed.VolumeDoesNotExist, ed.GenerationMismatch,
            es.AcquireLockFailure),
)  # fmt: skip
def merge(disk_id: DiskId, *, volume_id: VolumeId | None = None) -> DiskInfo:
    """Fold a volume of a disk into the one it goes on from: the disk reads as before, and has one snapshot less.

    `volumeID` names the volume that goes; without it the last one, which ends the newest snapshot.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /disks/{disk_id}/extend",
    raises=(*_LAYERS, e.BadDiskResizeParameter, ed.VolumeNonWritable, ed.VolumeResizeValueError),
)  # fmt: skip
def extend(disk_id: DiskId, size: Capacity) -> DiskInfo:
    """Make a disk larger; a file system in it does not grow by itself. A disk does not shrink."""


_TRANSFERS = (
    *_CHANGES, ed.NoSuchDisk, ed.DiskUnusable, ed.DiskInUse, ed.StorageUnusable, e.HypervisorUnavailable,
    es.ImageTicketsError, es.ImageDaemonError, es.TicketRefused, es.FileMissing,
)  # fmt: skip


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /disks/{disk_id}/upload",
    raises=_TRANSFERS,
)  # fmt: skip
def start_upload(disk_id: DiskId) -> DiskTransfer:
    """Open the door for what a disk made with `uploadSize` waits for; again, to go on after an interruption.

    What is written in order, zeros too, need not be sent again: `transferred` says how much that is. An hour without
    a request closes the door.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /disks/{disk_id}/finish-upload",
    raises=(*_TRANSFERS, es.ImageOperationFailed, es.ImageVerificationError),
)  # fmt: skip
def finish_upload(disk_id: DiskId) -> DiskInfo:
    """Close the door and verify what was uploaded; from then on it is a disk.

    An image that needs other files, is damaged or not of the stated format is refused, and the disk stays ILLEGAL.
    """


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /disks/{disk_id}/download",
    raises=(*_TRANSFERS, es.ImageOperationFailed, es.ImageVerificationError),
)  # fmt: skip
def start_download(disk_id: DiskId) -> DiskTransfer:
    """Open the door to read a disk; `Host.remove_image_ticket` closes it, as does an hour without a request.

    What is read is the disk's file. Of a disk with snapshots, or made from a template, it is what a guest would see, as
    a raw image: no machine can start with it meanwhile, and so a minute or two without a connection closes the door.
    No machine may have the disk.
    """
