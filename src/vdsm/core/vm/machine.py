# SPDX-License-Identifier: Apache-2.0
"""One virtual machine as the core knows it: libvirt's facts, and what is under way."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass, field

from vdsm.contract.events import VMStatus
from vdsm.contract.vm_info import VmInfo, VmShortStatus, VmState, VmSummary
from vdsm.core.journal import monotonic_ms
from vdsm.core.ports.hypervisor import Domain, DomainState

from . import status as words
from .describe import View

BOOTING = 60.0  # seconds a machine is "Powering up" while its guest agent has not spoken (published)
LEAVING = 300.0  # seconds it is "Powering down" while it has not gone (published)


class Phase(enum.Enum):
    """Something under way that libvirt's state does not show."""

    LAUNCHING = VmState.WAIT_FOR_LAUNCH
    BOOTING = VmState.POWERING_UP
    LEAVING = VmState.POWERING_DOWN
    REBOOTING = VmState.REBOOT_IN_PROGRESS


@dataclass(slots=True)
class Machine:
    """A row of the table. `status_time` moves whenever the status does."""

    domain: Domain
    view: View
    ours: bool
    phase: Phase | None = None
    phase_until: float = 0.0  # monotonic seconds
    started: float | None = None  # Unix seconds; None: before this daemon looked, or not running
    boots: int = 0  # how often it was seen to start or reboot
    expected: bool = False  # a call is about to make it; libvirt does not have it yet
    io_error: str = ""  # libvirt's word for why a disk stopped it, since it last ran
    failure: words.Exit | None = None  # why its last start came to nothing
    status: VmState = VmState.DOWN
    status_time: int = field(default_factory=monotonic_ms)

    def __post_init__(self) -> None:
        self.status = self.current_status()

    @property
    def vm_id(self) -> str:
        return self.domain.vm_id

    @property
    def name(self) -> str:
        return self.domain.name

    @property
    def active(self) -> bool:
        """Whether there is a QEMU process."""
        return self.domain.state not in (DomainState.SHUT_OFF, DomainState.CRASHED)

    @property
    def launching(self) -> bool:
        return self.phase is Phase.LAUNCHING and time.monotonic() < self.phase_until

    @property
    def exit(self) -> words.Exit | None:
        if self.failure is not None and not self.active:
            return self.failure
        return words.exit_of(self.domain.state, self.domain.reason)

    @property
    def pause_code(self) -> str:
        if self.domain.state is not DomainState.PAUSED:
            return ""
        return words.pause_code(self.domain.reason, self.io_error)

    def enter(self, phase: Phase | None, seconds: float = 0.0) -> None:
        self.phase = phase
        self.phase_until = time.monotonic() + seconds

    def current_status(self) -> VmState:
        """libvirt's state, refined by what is under way."""
        if self.phase is not None and time.monotonic() < self.phase_until:
            launching = self.phase is Phase.LAUNCHING and not self.active
            if launching or (self.domain.state is DomainState.RUNNING and self.phase is not Phase.LAUNCHING):
                return self.phase.value
        return words.STATES[self.domain.state]

    def event(self, reason: str) -> VMStatus:
        end = self.exit
        return VMStatus(
            vm_id=self.vm_id,
            vm_name=self.name,
            foreign=not self.ours,
            status=self.status.value,
            reason=reason,
            hash=self.view.hash,
            time_offset=self.view.time_offset,
            exit_code=end.code if end else None,
            exit_reason=end.reason if end else None,
            exit_message=end.message if end else "",
            pause_code=self.pause_code,
        )

    def summary(self, cpu_usage: float | None) -> VmSummary:
        return VmSummary(
            vm_id=self.vm_id,
            vm_name=self.name,
            status=self.status,
            foreign=not self.ours,
            kept=self.view.kept,
            autostart=self.domain.autostart,
            memory=self.view.memory,
            vcpus=self.view.vcpus,
            accelerator=self.view.accelerator,
            cpu_usage=cpu_usage,
            elapsed_time=self.elapsed(),
        )

    def elapsed(self) -> int | None:
        """Seconds since it started, if that was seen."""
        return int(time.time() - self.started) if self.started is not None and self.active else None

    def short(self) -> VmShortStatus:
        return VmShortStatus(vm_id=self.vm_id, status=self.status, status_time=str(self.status_time))

    def info(self) -> VmInfo:
        view, end = self.view, self.exit
        return VmInfo(
            vm_id=self.vm_id,
            vm_name=self.name,
            status=self.status,
            status_time=str(self.status_time),
            foreign=not self.ours,
            kept=view.kept,
            autostart=self.domain.autostart,
            mem_size=view.memory,
            smp=view.vcpus,
            accelerator=view.accelerator,
            kvm_enable=view.accelerator == "kvm",
            emulated_machine=view.machine_type,
            arch=view.arch,
            firmware=view.firmware,
            cpu_mode=view.cpu_mode,
            devices=view.devices,
            display_info=view.displays if self.active else [],
            hash=view.hash,
            exit_code=end.code if end else None,
            exit_reason=end.reason if end else None,
            exit_message=end.message if end else "",
            pause_code=self.pause_code,
            started=self.started if self.active else None,
        )
