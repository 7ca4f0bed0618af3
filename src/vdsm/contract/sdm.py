# SPDX-License-Identifier: Apache-2.0
"""Jobs on the data of volumes, which any host of a pool may do: `Host.getJobs` tells how they stand.

Each job is told, or finds, of which generation its volume is, and makes it the next one as its last act.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from . import errors as e
from . import errors_domains as ed
from . import errors_storage as es
from ._verb import ChosenTaskId, Kind, Wire, verb
from .access import Privilege
from .storage_words import Description, DomainId, ImageId, VolumeId, VolumeLegality, VolumeRole
from .types import END, Input, JobId, Text, Uuid

NOUN = "SDM"

Generation = Annotated[int, Meta(ge=0, le=999, description="How many jobs a volume has seen, counted up to 999.")]
BitmapName = Annotated[
    str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,1023}" + END, description="1 to 1023 printable characters; mostly a UUID.")
]
Job = Annotated[JobId, Wire("job_id"), ChosenTaskId()]

_JOB = (
    e.JobExists, ed.StorageDomainDoesNotExist, ed.StorageUnusable, ed.SpmStatusError, ed.VolumeDoesNotExist,
    ed.DiskUnusable, ed.DiskInUse, ed.GenerationMismatch, es.AcquireHostIdFailure, es.AcquireLockFailure,
    es.LockManagerUnavailable,
    es.NoSpaceLeftOnDomain, es.StorageReadOnly, es.StorageBroken, es.PathEscapes, es.FileMissing,
    es.ImageOperationFailed, es.ImageVerificationError, e.HypervisorUnavailable, e.DeadlineExceeded, e.TooBusy,
    e.ObjectBusy, e.StateUnavailable, e.TaskAborted,
)  # fmt: skip


class EndpointType(enum.StrEnum):
    """`div`: a volume by domain, image and volume; `external`: one of a storage that vdsm does not know."""

    DIV = "div"
    EXTERNAL = "external"


class ExternalLease(Input, frozen=True, kw_only=True, rename=None):
    sd_id: DomainId
    lease_id: Uuid


class CopyDataEndpoint(Input, frozen=True, kw_only=True, rename=None):
    """A volume to copy from or into. Of the type `div` it has the three ids; this host copies no other."""

    endpoint_type: EndpointType = EndpointType.DIV
    sd_id: DomainId | None = None
    img_id: ImageId | None = None
    vol_id: VolumeId | None = None
    generation: Generation | None = None
    url: Text | None = None
    lease: ExternalLease | None = None
    format: Text | None = None
    sparse: bool = msgspec.field(name="sprase", default=False)  # as published
    create: bool = True
    is_zero: bool = False


class CopyDataDIVEndpoint(Input, frozen=True, kw_only=True, rename=None):
    """A volume, and of which generation the caller takes it to be."""

    sd_id: DomainId
    img_id: ImageId
    vol_id: VolumeId
    generation: Generation | None = None


class VolumeAttributes(Input, frozen=True, kw_only=True):
    """What changes; the generation becomes the next one unless it is given. SHARED makes a volume a template."""

    legality: VolumeLegality | None = None
    description: Description | None = None
    generation: Generation | None = None
    type: VolumeRole | None = None


class Qcow2Compat(enum.StrEnum):
    """The oldest QEMU that reads it: 1.1 is needed for bitmaps."""

    V0_10 = "0.10"
    V1_1 = "1.1"


class Qcow2Attributes(Input, frozen=True, kw_only=True):
    compat: Qcow2Compat | None = None


class SubchainInfo(Input, frozen=True, kw_only=True, rename=None):
    """A volume, `top_id`, to be folded into the one it goes on from, `base_id`."""

    sd_id: DomainId
    img_id: ImageId
    top_id: VolumeId
    base_id: VolumeId
    base_generation: Generation | None = None


MERGE_REFUSALS = (
    ed.VolumeIsNotInChain, ed.WrongParentVolume, ed.SharedVolumeNonWritable, ed.UnexpectedVolumeState,
)  # fmt: skip


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /sdm/copy-data", published="copy_data",
    raises=(*_JOB, ed.CannotCopyVolume, es.DestinationVolumeTooSmall, ed.ManagedVolumeNotSupported),
)  # fmt: skip
def copy_data(
    job_id: Job,
    source: CopyDataEndpoint,
    destination: CopyDataEndpoint,
    copy_bitmaps: Annotated[bool, Wire("copy_bitmaps")] = False,
    *,
    legal: bool = True,
) -> None:
    """Copy what a volume and its parents hold into another volume that is there, each in its own format.

    Into a volume with the same parent only what the source itself holds. The destination is ILLEGAL meanwhile, and
    stays so if the copy fails, or with `legal` false; another copy begins anew.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /sdm/merge",
    raises=(*_JOB, *MERGE_REFUSALS),
)  # fmt: skip
def merge(
    job_id: Job,
    subchain_info: Annotated[SubchainInfo, Wire("subchain_info")],
    merge_bitmaps: Annotated[bool, Wire("merge_bitmaps")] = False,
) -> None:
    """Write what a volume holds into the one it goes on from, after `StoragePool.prepareMerge`.

    The base stays ILLEGAL until `StoragePool.finalizeMerge`; what is read through the chain does not change. With
    `merge_bitmaps` the base records what either recorded; a raw one has no bitmaps, and drops those of the top.
    """


VolInfo = Annotated[CopyDataDIVEndpoint, Wire("vol_info")]


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /sdm/update-volume",
    published="update_volume", raises=(*_JOB, ed.InvalidVolumeUpdate),
)  # fmt: skip
def update_volume(job_id: Job, vol_info: VolInfo, vol_attr: Annotated[VolumeAttributes, Wire("vol_attr")]) -> None:
    """Change what is known of a volume."""


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /sdm/amend-volume",
    published="amend_volume", raises=(*_JOB, ed.IncorrectFormat),
)  # fmt: skip
def amend_volume(job_id: Job, vol_info: VolInfo, qcow2_attr: Annotated[Qcow2Attributes, Wire("qcow2_attr")]) -> None:
    """Bring a COW volume to another version of its format."""


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /sdm/sparsify-volume",
    published="sparsify_volume", raises=(*_JOB, *MERGE_REFUSALS, es.ToolMissing),
)  # fmt: skip
def sparsify_volume(job_id: Job, vol_info: VolInfo) -> None:
    """Give back what the file systems in a volume do not use. No machine may have it, and it has no parent.

    By virt-sparsify, where the host has it (Debian: guestfs-tools).
    """


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /sdm/add-bitmap", published="add_bitmap",
    raises=(*_JOB, es.AddBitmapError),
)  # fmt: skip
def add_bitmap(job_id: Job, vol_info: VolInfo, bitmap: BitmapName) -> None:
    """Let a COW volume record, under that name, which parts are written from here on: for incremental backups."""


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /sdm/remove-bitmap",
    published="remove_bitmap", raises=(*_JOB, es.BitmapDoesNotExist),
)  # fmt: skip
def remove_bitmap(job_id: Job, vol_info: VolInfo, bitmap: BitmapName) -> None:
    """End a record of changes, also one that is broken."""


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /sdm/clear-bitmaps",
    published="clear_bitmaps", raises=_JOB,
)  # fmt: skip
def clear_bitmaps(job_id: Job, vol_info: VolInfo) -> None:
    """End all records of changes of a volume."""
