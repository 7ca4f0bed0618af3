# SPDX-License-Identifier: Apache-2.0
"""Images: disks in the words of managers, each a directory of volumes."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from . import errors as e
from . import errors_domains as ed
from . import errors_storage as es
from . import events as ev
from ._verb import Kind, Wire, verb
from .access import Privilege
from .storage_words import DomainId, ImageId, PoolId, VolumeId
from .types import Output

NOUN = "Image"

_READS = (
    ed.StorageDomainDoesNotExist, ed.StorageUnusable, ed.NoSuchDisk, es.StorageBroken, es.PathEscapes,
    e.DeadlineExceeded, e.TooBusy,
)  # fmt: skip
_CHANGES = (
    *_READS, ed.SpmStatusError, es.NoSpaceLeftOnDomain, es.StorageReadOnly, e.ObjectBusy, e.StateUnavailable,
)  # fmt: skip


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
    never one that others go on from. With all its volumes the image goes.
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
