# SPDX-License-Identifier: Apache-2.0
"""Images: disks in the words of managers, each a directory of volumes."""

from __future__ import annotations

import enum
from typing import Annotated

from msgspec import Meta

from . import errors as e
from . import errors_domains as ed
from . import errors_storage as es
from . import events as ev
from ._verb import ByteStream, ChosenTaskId, Kind, Wire, verb
from .access import Privilege
from .storage_words import LARGEST_VOLUME, DomainId, ImageId, PoolId, VolumeId
from .types import END, Input, Output, Secret, TaskId

NOUN = "Image"

_READS = (
    ed.StorageDomainDoesNotExist, ed.StorageUnusable, ed.NoSuchDisk, es.StorageBroken, es.PathEscapes,
    e.DeadlineExceeded, e.TooBusy,
)  # fmt: skip
_LEASES = (
    es.ClusterLockInitError, es.AcquireHostIdFailure, es.AcquireLockFailure, es.ReleaseLockFailure,
    es.LockManagerUnavailable,
)  # fmt: skip
_CHANGES = (
    *_READS, ed.SpmStatusError, es.NoSpaceLeftOnDomain, es.StorageReadOnly, e.ObjectBusy, e.StateUnavailable,
)  # fmt: skip


class ImageMoveOperation(enum.StrEnum):
    """Whether the source stays."""

    COPY = "COPY"
    MOVE = "MOVE"


class SyncType(enum.StrEnum):
    """Which of an image's volumes: all, all but the one that is written to, or that alone."""

    ALL = "ALL"
    INTERNAL = "INTERNAL"
    LEAF = "LEAF"


StreamSize = Annotated[int, Meta(ge=1, le=2 * LARGEST_VOLUME, description="Bytes.")]


class TransferMethod(enum.StrEnum):
    """How an image goes from or to elsewhere. There is one."""

    HTTP = "http"


class HttpTransfer(Input, frozen=True, kw_only=True):
    """A request that this host makes. A header's value is kept nowhere."""

    url: Annotated[
        str,
        Meta(
            pattern=r"^https?://[!-~]{1,2040}" + END,
            description="Of a server that the host's configuration names. A secret belongs into a header, not here.",
            examples=["https://images.example.com/debian.raw"],
        ),
    ]
    headers: dict[str, Secret] = {}
    method: TransferMethod = TransferMethod.HTTP


class PreparedImageInfo(Output, frozen=True, kw_only=True):
    """Where a prepared image is found on this host."""

    path: str


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /images/{image_id}/delete",
    raises=(*_CHANGES, ed.DiskInUse, ed.CannotDeleteSharedVolume, e.HypervisorUnavailable), emits=(ev.DiskRemoved,),
)  # fmt: skip
def delete(
    image_id: ImageId,
    storagepool_id: PoolId,
    storagedomain_id: DomainId,
    post_zero: bool = False,
    force: bool = False,
    discard: bool = False,
) -> None:
    """Remove an image with all its volumes. There is no way back.

    A template stays while other images go on from it. `postZero` and `discard` are for block storage: a file system
    gives nobody what was in a removed file.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /images/{image_id}/volumes/delete",
    command="image delete-volumes",
    raises=(*_CHANGES, ed.VolumeDoesNotExist, ed.VolumeImageHasChildren, ed.CannotDeleteSharedVolume, ed.DiskUnusable,
            ed.DiskInUse, es.FileMissing, es.ImageVerificationError, e.HypervisorUnavailable),
    emits=(ev.DiskRemoved,),
)  # fmt: skip
def delete_volumes(
    image_id: ImageId,
    storagepool_id: PoolId,
    storagedomain_id: DomainId,
    volume_list: Annotated[list[VolumeId], Meta(min_length=1, max_length=1000)],
    post_zero: bool = False,
    force: bool = False,
    discard: bool = False,
) -> None:
    """Remove volumes of an image: those at the end of its chain, and those that merges left. There is no way back.

    What a merge left may go while a machine uses the image. With `force` also a volume whose metadata cannot be read;
    never one that others go on from. With its whole chain the image goes.
    """


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /images/{image_id}/volumes", raises=_READS,
)  # fmt: skip
def get_volumes(image_id: ImageId, storagepool_id: PoolId, storagedomain_id: DomainId) -> list[VolumeId]:
    """The volumes of an image."""


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /images/{image_id}/prepare",
    raises=(*_READS, ed.VolumeDoesNotExist, ed.DiskUnusable, es.StorageReadOnly, e.ObjectBusy),
)  # fmt: skip
def prepare(
    storagepool_id: PoolId,
    storagedomain_id: DomainId,
    image_id: ImageId,
    volume_id: VolumeId,
    *,
    allow_illegal: bool = False,
) -> PreparedImageInfo:
    """Make an image ready to be read and written on this host, and say where."""


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /images/{image_id}/teardown",
    raises=(*_READS, es.StorageReadOnly, e.ObjectBusy),
)  # fmt: skip
def teardown(
    storagepool_id: PoolId, storagedomain_id: DomainId, image_id: ImageId, volume_id: VolumeId | None = None
) -> None:
    """Take back what `Image.prepare` did. Not prepared is fine."""


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /images/{image_id}/reconcile",
    command="image reconcile",
    raises=(*_CHANGES, ed.VolumeDoesNotExist, ed.DiskUnusable, es.FileMissing, es.ImageVerificationError),
)  # fmt: skip
def reconcile_volume_chain(
    storagepool_id: PoolId,
    storagedomain_id: DomainId,
    image_id: ImageId,
    leaf_volume_id: Annotated[VolumeId, Wire("leafVolID")],
) -> list[VolumeId]:
    """Let an image's metadata say what its files say, from the volume on that is written to; answers the true chain.

    The base comes first. Volumes that are in the chain no more are marked ILLEGAL: delete them. A machine may be
    writing meanwhile.
    """


_COPIES = (
    *_CHANGES, ed.ImagesNotSupportedError, ed.VolumeDoesNotExist, ed.DiskUnusable, ed.DiskInUse, ed.CannotCopyVolume,
    ed.GenerationMismatch, es.DestinationVolumeTooSmall, es.FileMissing, es.ImageOperationFailed,
    es.ImageVerificationError, *_LEASES, e.InvalidParams,
    e.HypervisorUnavailable,
)  # fmt: skip


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /images/{image_id}/move",
    raises=(*_COPIES, ed.OverwriteImageError, ed.CouldNotValidateTemplateOnTargetDomain,
            ed.CannotDeleteSharedVolume),
    emits=(ev.DiskCreated, ev.DiskRemoved),
)  # fmt: skip
def move(
    image_id: ImageId,
    storagepool_id: PoolId,
    storagedomain_id: DomainId,
    dst_sd_id: Annotated[DomainId, Wire("dstSdUUID")],
    operation: ImageMoveOperation,
    post_zero: bool = False,
    force: bool = False,
    discard: bool = False,
) -> None:
    """Copy an image with all its volumes to another domain of the pool; with MOVE the source goes once that is done.

    Its ids stay. A template it goes on from must be in the other domain; in one for backups a FAKE volume stands in for
    it until it is copied there. No machine may have it. What is there is never written over, also with `force`.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /images/{image_id}/clone-structure",
    raises=(*_COPIES, ed.OverwriteImageError, ed.CouldNotValidateTemplateOnTargetDomain),
    emits=(ev.DiskCreated, ev.DiskRemoved),
)  # fmt: skip
def clone_structure(
    image_id: ImageId,
    storagepool_id: PoolId,
    storagedomain_id: DomainId,
    dst_sd_id: Annotated[DomainId, Wire("dstSdUUID")],
) -> None:
    """Make an image's volumes in another domain of the pool, without their data, and ILLEGAL until those are there.

    A machine may be using the image.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /images/{image_id}/sync-data",
    raises=_COPIES,
)  # fmt: skip
def sync_data(
    image_id: ImageId,
    storagepool_id: PoolId,
    storagedomain_id: DomainId,
    dst_sd_id: Annotated[DomainId, Wire("dstSdUUID")],
    sync_type: SyncType,
) -> None:
    """Copy the data of an image's volumes into those that `Image.cloneStructure` made; these are LEGAL then.

    With INTERNAL a machine may be using the image: it writes to the last volume alone.
    """


@verb(
    kind=Kind.STREAM, needs=Privilege.STORAGE_DISKS, since="1.0", http="GET /images/{image_id}/receive",
    raises=(*_CHANGES, ed.VolumeDoesNotExist, ed.DiskUnusable, ed.DiskInUse, es.DestinationVolumeTooSmall,
            es.StreamCutShort, es.ImageVerificationError, es.AcquireLockFailure, e.JobExists,
            e.HypervisorUnavailable),
)  # fmt: skip
def receive(
    image_id: ImageId,
    storagepool_id: PoolId,
    storagedomain_id: DomainId,
    size: StreamSize,
    volume_id: VolumeId | None = None,
    *,
    task_id: Annotated[TaskId | None, ChosenTaskId()] = None,
) -> ByteStream:
    """Take a volume's data from its first byte on: `size` bytes, in the volume's format. Without `volumeID` the last.

    A task goes on behind the stream, with the id that the caller chose; the stream ends when all is on the disk. From
    the first byte on, until all came and was verified, the volume is ILLEGAL. A raw one keeps what lies beyond `size`.
    """


@verb(
    kind=Kind.STREAM, needs=Privilege.STORAGE_DISKS, since="1.0", http="GET /images/{image_id}/send",
    raises=(*_READS, ed.VolumeDoesNotExist, ed.DiskUnusable, ed.DiskInUse, es.BeyondVolume, es.StreamCutShort,
            ed.SpmStatusError, e.JobExists, e.ObjectBusy, e.StateUnavailable, e.HypervisorUnavailable),
)  # fmt: skip
def send(
    image_id: ImageId,
    storagepool_id: PoolId,
    storagedomain_id: DomainId,
    size: StreamSize,
    volume_id: VolumeId | None = None,
    *,
    task_id: Annotated[TaskId | None, ChosenTaskId()] = None,
) -> ByteStream:
    """Give the first `size` bytes of a volume's file, in the volume's format. Without `volumeID` of the image's last.

    A task goes on behind the stream, with the id that the caller chose.
    """


_TRANSFERS = (
    *_CHANGES, ed.VolumeDoesNotExist, ed.DiskUnusable, ed.DiskInUse, es.RemoteRefused, es.RemoteTransferError,
    es.FileMissing, *_LEASES, e.InvalidParams, e.HypervisorUnavailable,
)  # fmt: skip


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /images/{image_id}/download",
    command="image fetch",
    raises=(*_TRANSFERS, ed.VolumeNonWritable, ed.GenerationMismatch, es.ImageOperationFailed,
            es.ImageVerificationError),
)  # fmt: skip
def download(
    method_args: HttpTransfer,
    storagepool_id: PoolId,
    storagedomain_id: DomainId,
    image_id: ImageId,
    volume_id: VolumeId | None = None,
) -> None:
    """Let this host GET what an image's last volume shall hold: as it is for RAW, a qcow2 image for COW.

    What comes is no larger than the volume, and is verified before the volume is LEGAL again. No redirect is followed.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /images/{image_id}/upload",
    command="image push", raises=_TRANSFERS,
)  # fmt: skip
def upload(
    method_args: HttpTransfer,
    storagepool_id: PoolId,
    storagedomain_id: DomainId,
    image_id: ImageId,
    volume_id: VolumeId | None = None,
) -> None:
    """Let this host PUT the data of a volume that goes on from no other. No redirect is followed."""
