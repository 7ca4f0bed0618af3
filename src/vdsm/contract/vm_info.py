# SPDX-License-Identifier: Apache-2.0
"""What is known of a virtual machine, apart from its statistics."""

from __future__ import annotations

import enum

import msgspec

from .errors import ProblemBody
from .types import MiB, Output, Percent, UnixTime


class VmState(enum.StrEnum):
    """The published states."""

    WAIT_FOR_LAUNCH = "WaitForLaunch"
    POWERING_UP = "Powering up"
    UP = "Up"
    PAUSED = "Paused"
    SAVING = "Saving State"
    RESTORING = "Restoring state"
    MIGRATION_SOURCE = "Migration Source"
    MIGRATION_DESTINATION = "Migration Destination"
    REBOOT_IN_PROGRESS = "RebootInProgress"
    POWERING_DOWN = "Powering down"
    DOWN = "Down"


class Accelerator(enum.StrEnum):
    """What runs the guest's instructions: the processor, or QEMU's translator (slow, but runs anywhere)."""

    KVM = "kvm"
    TCG = "tcg"


class ExitReason(enum.IntEnum):
    """Why a machine is Down: the published numbers."""

    SUCCESS = 0
    GENERIC_ERROR = 1
    LOST_QEMU = 2
    START_FAILED = 3
    MIGRATED = 4
    SAVED = 5
    ADMIN_SHUTDOWN = 6
    USER_SHUTDOWN = 7
    MIGRATION_FAILED = 8
    DOMAIN_MISSING = 9
    DESTROYED_ON_STARTUP = 10
    HOST_SHUTDOWN = 11
    POSTCOPY_FAILED = 12
    DESTROYED_ON_REBOOT = 13
    PAUSE_TIMEOUT = 14


class VmSummary(Output, frozen=True, kw_only=True):
    """One row of the list of machines."""

    vm_id: str
    vm_name: str
    status: VmState
    foreign: bool  # not made by vdsm: shown, never touched
    kept: bool  # made by VM.define: stays until VM.undefine
    autostart: bool
    memory: MiB
    vcpus: int
    accelerator: Accelerator
    cpu_usage: Percent | None = None
    elapsed_time: int | None = None  # seconds since start


class DisplayInfo(Output, frozen=True, kw_only=True):
    """Where a graphical console listens."""

    type: str
    port: str
    tls_port: str = "-1"
    ip_address: str


class VmDevice(Output, frozen=True, kw_only=True):
    """One device, by the published words."""

    type: str  # disk, interface, graphics, console, ...
    device: str  # disk, cdrom, bridge, vnc, ...
    name: str = ""  # vda, vnet0
    alias: str = ""
    path: str = ""
    format: str = ""
    bus: str = ""
    mac_addr: str = ""
    network: str = ""
    model: str = ""
    read_only: bool = False


class VmInfo(Output, frozen=True, kw_only=True):
    """What a machine is made of and how it stands (the published VmDefinition, with true types)."""

    vm_id: str
    vm_name: str
    status: VmState
    status_time: str  # milliseconds of the monotonic clock, as text: the published form
    foreign: bool
    kept: bool
    autostart: bool
    mem_size: MiB
    smp: int
    accelerator: Accelerator
    kvm_enable: bool
    emulated_machine: str
    arch: str
    firmware: str
    cpu_mode: str
    devices: list[VmDevice]
    display_info: list[DisplayInfo]
    hash: str  # changes when the devices do
    launch_paused: bool = False
    exit_code: int | None = None
    exit_reason: ExitReason | None = None
    exit_message: str = ""
    pause_code: str = ""  # of a paused machine, as in VmStats
    started: UnixTime | None = None


class VmShortStatus(Output, frozen=True, kw_only=True):
    """One row of the published `Host.getVMList`."""

    vm_id: str
    status: VmState
    status_time: str


class Screenshot(Output, frozen=True, kw_only=True):
    """A picture as text."""

    data: str  # base64
    encoding: str  # "base64"
    mime_type: str = msgspec.field(name="mime_type")  # as QEMU makes it: image/png or image/x-portable-pixmap


class Allowance(Output, frozen=True, kw_only=True):
    """Whether one verb is allowed on an object now, and if not, every reason."""

    method: str
    allowed: bool
    problems: list[ProblemBody] = []


class Explanation(Output, frozen=True, kw_only=True):
    """What may be done with an object, in its state, by this caller."""

    object_id: str
    name: str
    status: str
    verbs: list[Allowance]
