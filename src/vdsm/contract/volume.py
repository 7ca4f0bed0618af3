# SPDX-License-Identifier: Apache-2.0
"""Volumes: the files of an image, each the whole disk or what changed since its parent."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from . import errors as e
from . import errors_domains as ed
from . import errors_storage as es
from . import events as ev
from ._verb import Kind, Wire, verb
from .access import Privilege
from .storage_words import (
    BLANK,
    Capacity,
    Description,
    DiskContentType,
    DomainId,
    ImageId,
    PoolId,
    VolumeAllocation,
    VolumeFormat,
    VolumeId,
    VolumeLegality,
    VolumeRole,
    VolumeStatus,
)
from .types import Bytes, Output, Uuid

NOUN = "Volume"

_READS = (
    ed.StorageDomainDoesNotExist, ed.StorageUnusable, ed.VolumeDoesNotExist, es.StorageBroken, es.PathEscapes,
    e.DeadlineExceeded, e.TooBusy,
)  # fmt: skip
_LEASES = (
    es.ClusterLockInitError, es.AcquireHostIdFailure, es.AcquireLockFailure, es.ReleaseLockFailure,
    es.LockManagerUnavailable,
)  # fmt: skip
_CHANGES = (
    *_READS, ed.SpmStatusError, es.NoSpaceLeftOnDomain, es.StorageReadOnly, es.ImageOperationFailed,
    es.ImageVerificationError, es.ClusterLockInitError, es.LockManagerUnavailable, e.ObjectBusy, e.StateUnavailable,
)  # fmt: skip


class VolumeLeaseStatus(Output, frozen=True, kw_only=True):
    """A volume's lease, and the ids of the hosts that hold it."""

    path: str
    offset: Bytes
    owners: list[int] | None = None
    version: int | None = None


class VolumeInfo(Output, frozen=True, kw_only=True):
    """A volume as its metadata and its file tell it."""

    uuid: VolumeId
    image: ImageId
    domain: DomainId
    pool: PoolId
    parent: VolumeId
    children: list[VolumeId]
    description: str
    disktype: DiskContentType
    format: VolumeFormat
    alloc_type: VolumeAllocation
    voltype: VolumeRole
    legality: VolumeLegality
    status: VolumeStatus
    generation: int
    sequence: int
    capacity: Bytes
    truesize: Bytes
    apparentsize: Bytes
    ctime: int  # seconds since 1970
    mtime: int = 0  # not kept since version 5
    lease: VolumeLeaseStatus | None = None


class VolumeSizeInfo(Output, frozen=True, kw_only=True):
    """What a volume's file takes, and how long it is."""

    truesize: Bytes
    apparentsize: Bytes


class QemuImageInfo(Output, frozen=True, kw_only=True):
    """What a volume's file says of itself; of a raw one there is nothing but its size."""

    format: str
    virtualsize: Bytes
    clustersize: int | None = None
    backingfile: str | None = None
    compat: str | None = None


class VolumeMeasureResult(Output, frozen=True, kw_only=True):
    """What a volume would need."""

    required: Bytes
    bitmaps: Bytes = 0  # more, when what it records of changes is copied too


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /volumes/{volume_id}",
    raises=(*_CHANGES, ed.VolumeAlreadyExists, ed.ImagesNotSupportedError, ed.CannotCloneVolume, ed.DiskUnusable,
            ed.DiskInUse, e.HypervisorUnavailable),
    emits=(ev.DiskCreated, ev.DiskRemoved),
)  # fmt: skip
def create(
    volume_id: VolumeId,
    storagepool_id: PoolId,
    storagedomain_id: DomainId,
    image_id: ImageId,
    size: Capacity,
    vol_format: VolumeFormat,
    preallocate: VolumeAllocation,
    disk_type: DiskContentType,
    desc: Description,
    src_image_id: Annotated[ImageId, Wire("srcImgUUID")] = BLANK,
    src_volume_id: Annotated[VolumeId, Wire("srcVolUUID")] = BLANK,
    *,
    initial_size: Annotated[int, Meta(ge=0, description="Bytes; for block storage.")] | None = None,
    add_bitmaps: bool = False,
    legal: bool = True,
    sequence: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0,
    bitmap: Uuid | None = None,
) -> VolumeInfo:
    """Make a volume: the first of an image, or, with `srcVolUUID`, one that goes on from the image's last.

    With `srcImgUUID` of another image it goes on from that one's template, and is the first of its own. A volume with a
    parent is of the format COW, and at least as large. `addBitmaps` lets it record changes where its parent does;
    `bitmap` names one more such record.
    """


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /volumes/{volume_id}", raises=_READS,
)  # fmt: skip
def get_info(volume_id: VolumeId, storagepool_id: PoolId, storagedomain_id: DomainId, image_id: ImageId) -> VolumeInfo:
    """One volume."""


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /volumes/{volume_id}/size", raises=_READS,
)  # fmt: skip
def get_size(
    volume_id: VolumeId, storagepool_id: PoolId, storagedomain_id: DomainId, image_id: ImageId
) -> VolumeSizeInfo:
    """How much a volume takes."""


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /volumes/{volume_id}/image",
    raises=(*_READS, es.ImageOperationFailed, es.ImageVerificationError),
)  # fmt: skip
def get_qemu_image_info(
    volume_id: VolumeId, storagepool_id: PoolId, storagedomain_id: DomainId, image_id: ImageId
) -> QemuImageInfo:
    """What a volume's file says of itself, opened as what its metadata says it is."""


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /volumes/{volume_id}/description",
    raises=_CHANGES,
)  # fmt: skip
def set_description(
    volume_id: VolumeId,
    storagepool_id: PoolId,
    storagedomain_id: DomainId,
    image_id: ImageId,
    description: Description,
) -> None:
    """Give a volume another description."""


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /volumes/{volume_id}/legality",
    raises=_CHANGES,
)  # fmt: skip
def set_legality(
    volume_id: VolumeId,
    storagepool_id: PoolId,
    storagedomain_id: DomainId,
    image_id: ImageId,
    legality: VolumeLegality,
) -> None:
    """Say whether a volume's data may be used."""


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /volumes/{volume_id}/refresh",
    raises=_READS,
)  # fmt: skip
def refresh(volume_id: VolumeId, storagepool_id: PoolId, storagedomain_id: DomainId, image_id: ImageId) -> None:
    """See what another host changed. Files are always seen as they are: this only finds out whether it is there."""


_IN_USE = (ed.DiskUnusable, ed.DiskInUse, e.HypervisorUnavailable)


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /volumes/{volume_id}/delete",
    raises=(*_CHANGES, *_IN_USE, es.FileMissing, ed.NoSuchDisk, ed.VolumeImageHasChildren,
            ed.CannotDeleteSharedVolume),
    emits=(ev.DiskRemoved,),
)  # fmt: skip
def delete(
    volume_id: VolumeId,
    storagepool_id: PoolId,
    storagedomain_id: DomainId,
    image_id: ImageId,
    post_zero: bool = False,
    force: bool = False,
    discard: bool = False,
) -> None:
    """Remove the last volume of an image: its parent is written to again. There is no way back.

    See `Image.deleteVolumes`.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /volumes/{volume_id}/extend",
    command="volume extend",
    raises=(*_CHANGES, *_IN_USE, es.FileMissing, *_LEASES, ed.NoSuchDisk,
            ed.VolumeNonWritable, ed.VolumeResizeValueError),
)  # fmt: skip
def extend_size(
    storagepool_id: PoolId, storagedomain_id: DomainId, image_id: ImageId, volume_id: VolumeId, new_size: Capacity
) -> None:
    """Let the last volume of an image be larger, in bytes. No machine may have it; a volume only grows."""


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /volumes/{volume_id}/measure",
    raises=(*_READS, es.FileMissing, es.ImageOperationFailed, es.ImageVerificationError, ed.NoSuchDisk,
            ed.DiskUnusable, e.ObjectBusy),
)  # fmt: skip
def measure(
    volume_id: VolumeId,
    storagepool_id: PoolId,
    storagedomain_id: DomainId,
    image_id: ImageId,
    dst_vol_format: VolumeFormat,
    backing_chain: Annotated[bool, Wire("backing_chain")] = True,
    base_id: VolumeId | None = None,
) -> VolumeMeasureResult:
    """What a copy of a volume would need in a format: with all it goes on from, down to `baseID`, or the volume alone.

    `baseID` is counted too.
    """


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /volumes/{volume_id}/verify",
    published="verify_untrusted", command="volume verify",
    raises=(*_READS, es.FileMissing, es.ImageOperationFailed, es.ImageVerificationError, ed.DiskUnusable, e.ObjectBusy),
)  # fmt: skip
def verify_untrusted(
    storagepool_id: PoolId, storagedomain_id: DomainId, image_id: ImageId, volume_id: VolumeId
) -> None:
    """Refuse a volume whose data, which came from outside, is not what its metadata says, or leads elsewhere."""


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /volumes/{volume_id}/teardown",
    raises=_READS,
)  # fmt: skip
def teardown(storagedomain_id: DomainId, image_id: ImageId, volume_id: VolumeId) -> None:
    """Let a volume that was read in be used no more. On files there is nothing to do but to see that it is there."""


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /volumes/{volume_id}/copy",
    raises=(*_CHANGES, *_IN_USE, *_LEASES, es.FileMissing, es.DestinationVolumeTooSmall, ed.NoSuchDisk,
            ed.ImagesNotSupportedError, ed.OverwriteImageError,
            ed.VolumeImageHasChildren, ed.CannotCopyVolume, ed.GenerationMismatch, e.InvalidParams),
    emits=(ev.DiskCreated, ev.DiskRemoved),
)  # fmt: skip
def copy(
    volume_id: VolumeId,
    storagepool_id: PoolId,
    storagedomain_id: DomainId,
    image_id: ImageId,
    dst_sd_id: Annotated[DomainId, Wire("dstSdUUID")],
    dst_image_id: Annotated[ImageId, Wire("dstImgUUID")],
    dst_volume_id: Annotated[VolumeId, Wire("dstVolUUID")],
    desc: Description = "",
    vol_type: VolumeRole = VolumeRole.SHARED,
    vol_format: VolumeFormat | None = None,
    preallocate: VolumeAllocation | None = None,
    post_zero: bool = False,
    force: bool = False,
    discard: bool = False,
) -> None:
    """Copy what a volume holds, with all it goes on from, into a new image of one volume: a template, or with LEAF a
    disk.

    `dstSdUUID` is a domain of the same pool; the blank id stands for the volume's own. Format and allocation are those
    of the volume unless they are given. What is there is never written over, also with `force`.
    """
