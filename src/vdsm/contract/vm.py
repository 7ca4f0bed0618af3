# SPDX-License-Identifier: Apache-2.0
"""Virtual machines: what a manager, or a person, may ask of them."""

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
from .storage_words import VolumeId
from .types import Bytes, JobId, Seconds, Secret, Text, VmId, VmName
from .vm_drives import AgentSeconds, Bandwidth, CdImage, HotplugDisk, NewSize, SnapshotDrive, VolumeRef
from .vm_info import Explanation, Screenshot, VmInfo, VmSummary
from .vm_params import VmParams
from .vm_stats import VmStats

NOUN = "VM"

_CHANGES = (e.NoSuchVM, e.ForeignVM, e.ObjectBusy, e.HypervisorUnavailable, e.HypervisorError, e.StateUnavailable)
_CREATES = (
    e.VMExists, e.CannotCreateVM, e.PathNotAllowed, e.FileUnusable, e.XmlRefused, e.ObjectBusy, e.HypervisorUnavailable,
    e.HypervisorError, e.StateUnavailable, ed.NoSuchDisk, ed.DiskInUse, ed.DiskUnusable, ed.ImageInUse,
    ed.StorageUnusable,
)  # fmt: skip


_DISKS = (
    ed.NoSuchDisk, ed.DiskInUse, ed.DiskUnusable, ed.ImageInUse, ed.StorageUnusable, ed.VolumeDoesNotExist,
    ed.StorageDomainDoesNotExist, e.PathNotAllowed, e.FileUnusable, es.StorageBroken, es.PathEscapes,
    es.NoSpaceLeftOnDomain, es.StorageReadOnly, e.DeadlineExceeded, e.TooBusy,
)  # fmt: skip
_ChosenJob = Annotated[JobId | None, Wire("jobUUID"), ChosenTaskId()]

NewVm = Annotated[
    VmParams, Meta(examples=[{"name": "web1", "memory": 1024, "disks": [{"path": "/var/lib/vdsm/images/web1.raw"}]}])
]


class ConflictAction(enum.StrEnum):
    """What becomes of whoever is connected to the console when its password changes."""

    DISCONNECT = "disconnect"
    FAIL = "fail"
    KEEP = "keep"


@verb(kind=Kind.QUERY, needs=Privilege.VM_READ, since="1.0", http="GET /vms", raises=(e.HypervisorUnavailable,))
def list_() -> list[VmSummary]:
    """Every virtual machine of the host at a glance.

    Machines that vdsm did not make are in the list, marked `foreign`.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.VM_CONFIG, since="1.0", http="POST /vms",
    raises=_CREATES, emits=(ev.VMDefined, ev.VMStatus, ev.VMRemoved),
)  # fmt: skip
def create(vm_params: NewVm, *, vm_id: VmId | None = None) -> VmInfo:
    """Make a virtual machine and start it.

    It is reported, also when Down, until `VM.destroy` forgets it. To keep a definition beyond that use `VM.define`.
    `vmID` defaults to a new one, or to the one in raw XML.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.VM_CONFIG, since="1.0", http="POST /vms/define",
    raises=_CREATES, emits=(ev.VMDefined, ev.VMRemoved),
)  # fmt: skip
def define(vm_params: NewVm, *, vm_id: VmId | None = None, autostart: bool = False) -> VmInfo:
    """Make a virtual machine that stays until `VM.undefine`, without starting it."""


@verb(
    kind=Kind.TASK, needs=Privilege.VM_CONFIG, since="1.0", http="DELETE /vms/{vm_id}",
    raises=(*_CHANGES, e.VMIsRunning), emits=(ev.VMRemoved,),
)  # fmt: skip
def undefine(vm_id: VmId) -> None:
    """Remove a stopped virtual machine's definition. Its disks are left alone."""


@verb(
    kind=Kind.TASK, needs=Privilege.VM_POWER, since="1.0", http="POST /vms/{vm_id}/start",
    raises=(*_CHANGES, *_DISKS, e.VMIsRunning), emits=(ev.VMStatus,),
)  # fmt: skip
def start(vm_id: VmId, *, paused: bool = False) -> VmInfo:
    """Start a virtual machine that is Down.

    A disk that got snapshots meanwhile, or lost some, goes on in the volume that is written to now.
    """


@verb(
    kind=Kind.ACTION, needs=Privilege.VM_POWER, since="1.0", http="POST /vms/{vm_id}/destroy",
    raises=(*_CHANGES, e.VMDestroyFailed), emits=(ev.VMStatus, ev.VMRemoved),
)  # fmt: skip
def destroy(vm_id: VmId, *, graceful_attempts: Annotated[int, Meta(ge=0, le=100)] = 1) -> None:
    """Cut the power, at once and without asking the guest.

    A machine made by `VM.create` is forgotten; one made by `VM.define` stays, Down.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.VM_POWER, since="1.0", http="POST /vms/{vm_id}/shutdown",
    raises=(*_CHANGES, e.VMIsDown, e.NonResponsiveGuestAgent, e.UnexpectedState), emits=(ev.VMStatus,),
)  # fmt: skip
def shutdown(
    vm_id: VmId,
    *,
    delay: Seconds = 0.0,
    message: Text = "",
    reboot: bool = False,
    timeout: Seconds = 120.0,
    force: bool = False,
) -> None:
    """Ask the guest to power off, or to reboot: through its agent, then by ACPI.

    Waits `delay` seconds before asking and up to `timeout` seconds for the guest to obey each way; then, with `force`,
    the power is cut, else the task fails and the machine runs on.
    """


@verb(
    kind=Kind.ACTION, needs=Privilege.VM_POWER, since="1.0", http="POST /vms/{vm_id}/pause",
    raises=(*_CHANGES, e.VMIsDown, e.UnexpectedState), emits=(ev.VMStatus,),
)  # fmt: skip
def pause(vm_id: VmId) -> VmInfo:
    """Stop a running machine's CPUs; its memory stays."""


@verb(
    kind=Kind.ACTION, needs=Privilege.VM_POWER, since="1.0", http="POST /vms/{vm_id}/cont",
    raises=(*_CHANGES, e.VMIsDown, e.UnexpectedState), emits=(ev.VMStatus,),
)  # fmt: skip
def cont(vm_id: VmId) -> VmInfo:
    """Let a paused machine run on."""


@verb(
    kind=Kind.ACTION, needs=Privilege.VM_POWER, since="1.0", http="POST /vms/{vm_id}/reset",
    raises=(*_CHANGES, e.VMIsDown, e.ResetFailed), emits=(ev.VMStatus,),
)  # fmt: skip
def reset(vm_id: VmId) -> None:
    """Press the reset button: the guest boots again without being asked."""


@verb(
    kind=Kind.QUERY, needs=Privilege.VM_READ, since="1.0", http="GET /vms/{vm_id}/stats",
    raises=(e.NoSuchVM, e.HypervisorUnavailable),
)  # fmt: skip
def get_stats(vm_id: VmId) -> list[VmStats]:
    """Statistics of one machine, as a list of one."""


@verb(
    kind=Kind.QUERY, needs=Privilege.VM_READ, since="1.0", http="GET /vms/{vm_id}",
    raises=(e.NoSuchVM, e.HypervisorUnavailable),
)  # fmt: skip
def get_info(vm_id: VmId) -> VmInfo:
    """What a machine is made of and how it stands."""


@verb(
    kind=Kind.QUERY, needs=Privilege.VM_READ, since="1.0", http="GET /vms/{vm_id}/explain", command="explain vm",
    raises=(e.NoSuchVM, e.HypervisorUnavailable),
)  # fmt: skip
def explain(vm_id: VmId) -> Explanation:
    """What the caller may do with this machine now, and for the rest, why not."""


@verb(
    kind=Kind.QUERY, needs=Privilege.VM_CONSOLE, since="1.0", http="GET /vms/{vm_id}/screenshot",
    raises=(e.NoSuchVM, e.ForeignVM, e.VMIsDown, e.NoDisplay, e.HypervisorUnavailable, e.HypervisorError,
            e.DeadlineExceeded),
)  # fmt: skip
def screenshot(vm_id: VmId) -> Screenshot:
    """A picture of the machine's screen."""


@verb(
    kind=Kind.ACTION, needs=Privilege.VM_CONSOLE, since="1.0", http="POST /vms/{vm_id}/ticket",
    raises=(*_CHANGES, e.VMIsDown, e.TicketError),
)  # fmt: skip
def set_ticket(
    vm_id: VmId,
    password: Secret,
    ttl: Annotated[int, Meta(ge=0, le=31_536_000, description="Seconds the password is good for; 0: no limit.")],
    existing_conn_action: ConflictAction = ConflictAction.DISCONNECT,
    params: dict[str, str] = {},  # noqa: B006 a declaration, not a function
) -> None:
    """Set the password of the machine's graphical console, and what becomes of whoever is connected.

    The password has at most 8 characters for VNC.
    """


@verb(
    kind=Kind.ACTION, needs=Privilege.VM_CONFIG, since="1.0", http="POST /vms/{vm_id}/cd", published="changeCD",
    raises=(*_CHANGES, *_DISKS, e.ChangeDiskFailed), emits=(ev.VMDefined,),
)  # fmt: skip
def change_cd(vm_id: VmId, drive_spec: CdImage) -> VmInfo:
    """Put another disc image into the machine's CD drive; an empty text ejects."""


@verb(
    kind=Kind.TASK, needs=Privilege.VM_CONFIG, since="1.0", http="POST /vms/{vm_id}/disks",
    raises=(*_CHANGES, *_DISKS, e.VMIsDown, e.XmlRefused, e.HotplugDiskFailed), emits=(ev.VMDefined, ev.VMStatus),
)  # fmt: skip
def hotplug_disk(vm_id: VmId, params: HotplugDisk) -> VmInfo:
    """Plug a disk into a running machine; it stays in the machine's definition."""


@verb(
    kind=Kind.TASK, needs=Privilege.VM_CONFIG, since="1.0", http="POST /vms/{vm_id}/disks/unplug",
    raises=(*_CHANGES, *_DISKS, e.VMIsDown, e.XmlRefused, e.HotunplugDiskFailed),
    emits=(ev.VMDefined, ev.VMStatus),
)  # fmt: skip
def hotunplug_disk(vm_id: VmId, params: HotplugDisk) -> VmInfo:
    """Ask the guest to let go of a disk, wait up to 30 s for that, and take it out of the machine.

    In types the disk is named by its name in the storage, its path, or its name in the machine ("vdb").
    """


@verb(
    kind=Kind.ACTION, needs=Privilege.VM_CONFIG, since="1.0", http="POST /vms/{vm_id}/freeze",
    raises=(*_CHANGES, e.VMIsDown, e.NonResponsiveGuestAgent, e.FreezeGuestFSFailed, e.DeadlineExceeded, e.TooBusy),
)  # fmt: skip
def freeze(vm_id: VmId) -> None:
    """Let the guest write out and freeze its file systems. Nothing in it is written until `VM.thaw`."""


@verb(
    kind=Kind.ACTION, needs=Privilege.VM_CONFIG, since="1.0", http="POST /vms/{vm_id}/thaw",
    raises=(*_CHANGES, e.VMIsDown, e.NonResponsiveGuestAgent, e.ThawGuestFSFailed, e.DeadlineExceeded, e.TooBusy),
)  # fmt: skip
def thaw(vm_id: VmId) -> None:
    """Let the guest's file systems go on after `VM.freeze`. Not frozen is fine."""


@verb(
    kind=Kind.TASK, needs=Privilege.VM_CONFIG, since="1.0", http="POST /vms/{vm_id}/snapshot",
    raises=(
        *_CHANGES, *_DISKS, e.VMIsDown, e.JobExists, e.SnapshotFailed, e.InvalidParameter, e.SnapshotMemoryNotOffered,
        ed.SpmStatusError, ed.CannotCloneVolume, es.ImageOperationFailed, es.ImageVerificationError,
    ),
    emits=(ev.VMStatus,),
)  # fmt: skip
def snapshot(
    vm_id: VmId,
    snap_drives: Annotated[list[SnapshotDrive], Meta(max_length=64)] = [],  # noqa: B006 a declaration
    *,
    snap_memory: Text | None = None,
    frozen: bool = False,
    job_uuid: _ChosenJob = None,
    timeout: AgentSeconds = 30,
    freeze_timeout: Annotated[AgentSeconds, Wire("freeze_timeout")] = 8,
) -> None:
    """Let a running machine's disks go on in new volumes, all from one moment on; what they had until then stays.

    Without `snapDrives` every disk the machine has in this host's storage gets a new volume; with them only those
    named, whose volumes were made before. The guest's file systems are frozen for that moment if its agent answers
    within `freeze_timeout` seconds, or, with `frozen`, by the caller. `timeout` is for the whole.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.VM_CONFIG, since="1.0", http="POST /vms/{vm_id}/merge",
    raises=(*_CHANGES, *_DISKS, e.VMIsDown, e.JobExists, e.MergeFailed), emits=(ev.VMStatus,),
)  # fmt: skip
def merge(
    vm_id: VmId,
    drive: VolumeRef,
    base_vol_uuid: Annotated[VolumeId, Wire("baseVolUUID")],
    top_vol_uuid: Annotated[VolumeId, Wire("topVolUUID")],
    bandwidth: Bandwidth = 0,
    *,
    job_uuid: _ChosenJob = None,
) -> None:
    """Write what a running machine's disk has in its volumes from the top one down to above the base into the base.

    `drive` is the volume that is written to. The volumes that were merged are ILLEGAL afterwards and in no chain: to be
    deleted. The job is in the machine's statistics, `vmJobs`, until it has ended. `Disk.merge` does all of it.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.VM_CONFIG, since="1.0", http="POST /vms/{vm_id}/disk-size",
    raises=(*_CHANGES, *_DISKS, ed.SpmStatusError, e.BadDiskResizeParameter, es.ImageOperationFailed,
            es.ImageVerificationError),
)  # fmt: skip
def disk_size_extend(vm_id: VmId, drive_specs: VolumeRef, new_size: NewSize) -> Bytes:
    """Let a running machine's disk grow, and tell its guest. The answer is its size.

    For the id of all zeros: a volume that no machine runs with.
    """


@verb(
    kind=Kind.ACTION, needs=Privilege.VM_CONFIG, since="1.0", http="POST /vms/{vm_id}/disk-alignment",
    raises=(e.MethodNotImplemented,),
)  # fmt: skip
def get_disk_alignment(vm_id: VmId, disk: VolumeRef) -> dict[str, bool]:
    """Where the partitions in a disk begin: published, and not offered."""


@verb(
    kind=Kind.ACTION, needs=Privilege.VM_CONFIG, since="1.0", http="POST /vms/{vm_id}/autostart",
    raises=_CHANGES, emits=(ev.VMDefined,),
)  # fmt: skip
def set_autostart(vm_id: VmId, enabled: bool) -> None:
    """Choose whether the machine starts with the host."""


@verb(
    kind=Kind.ACTION, needs=Privilege.VM_CONFIG, since="1.0", http="POST /vms/{vm_id}/rename",
    raises=(*_CHANGES, e.VMExists, e.VMIsRunning), emits=(ev.VMDefined,),
)  # fmt: skip
def rename(vm_id: VmId, name: VmName) -> VmInfo:
    """Give a stopped machine another name."""


@verb(
    kind=Kind.STREAM, needs=Privilege.VM_CONSOLE, since="1.0", http="GET /vms/{vm_id}/console",
    raises=(e.NoSuchVM, e.ForeignVM, e.VMIsDown, e.NoSerialConsole, e.ConsoleInUse, e.HypervisorUnavailable),
)  # fmt: skip
def console(vm_id: VmId, *, force: bool = False) -> ByteStream:
    """The machine's serial console, both ways; `force` takes it over from whoever has it."""
