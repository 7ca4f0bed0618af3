# SPDX-License-Identifier: Apache-2.0
"""What happens on a host, as types. Names are the published ones (`VM_status`) where there is one."""

from __future__ import annotations

import enum
import functools
import operator
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import msgspec

from .storage_words import DomainId, ImageId, PoolId
from .types import EventId, Output, TaskId, UnixTime, VmId


class Severity(enum.StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


_SUBJECTS = ("vm_id", "task_id", "disk_id", "storage_id", "pool_id")


class Event(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type"):
    """Base of all events; the tag of a subclass is the event's name on every wire."""

    severity: ClassVar[Severity] = Severity.INFO

    @property
    def subject(self) -> str:
        """The id of the object it is about; empty for the host itself."""
        return next((str(found) for name in _SUBJECTS if (found := getattr(self, name, ""))), "")

    @property
    def name(self) -> str:
        return str(self.__struct_config__.tag)


class VMStatus(Event, frozen=True, kw_only=True, tag="VM_status"):
    """A virtual machine entered a state."""

    vm_id: VmId
    vm_name: str
    foreign: bool = False  # not made by vdsm
    status: str
    reason: str = ""
    hash: str = ""  # changes when the machine's devices do
    time_offset: int = 0  # seconds the guest's clock is off UTC
    exit_code: int | None = None
    exit_reason: int | None = None
    exit_message: str = ""
    pause_code: str = ""  # of a paused machine, as in VmStats


class VMDefined(Event, frozen=True, kw_only=True, tag="VM_defined"):
    """A virtual machine's definition was made or changed."""

    vm_id: VmId
    vm_name: str
    change: str  # created, renamed, autostart, cd, changed


class VMRemoved(Event, frozen=True, kw_only=True, tag="VM_removed"):
    """A virtual machine's definition is gone from the host."""

    vm_id: VmId
    vm_name: str


class TaskStatus(Event, frozen=True, kw_only=True, tag="Task_status"):
    """A task was created, moved on, or ended."""

    task_id: TaskId
    verb: str
    state: str
    progress: float | None = None  # 0 to 100
    step: str = ""
    object_id: str = ""
    job_type: str = ""  # as in `Host.getJobs`
    code: int | None = None  # of the problem it met
    message: str = ""


class DiskCreated(Event, frozen=True, kw_only=True, tag="Disk_created"):
    """A disk was made."""

    disk_id: ImageId
    disk_name: str
    storage_id: DomainId


class DiskRemoved(Event, frozen=True, kw_only=True, tag="Disk_removed"):
    """A disk is gone, with its data."""

    disk_id: ImageId
    disk_name: str
    storage_id: DomainId


class StorageStatus(Event, frozen=True, kw_only=True, tag="Storage_status"):
    """A storage domain came, became usable or unusable, or went."""

    storage_id: DomainId
    storage_name: str
    status: str  # active, read-only, unusable, gone
    reason: str = ""


class PoolStatus(Event, frozen=True, kw_only=True, tag="Pool_status"):
    """This host took charge of a storage pool, gave it up, or lost it."""

    pool_id: PoolId
    in_charge: bool
    reason: str = ""  # why it is not; empty when it gave it up


class EventsLost(Event, frozen=True, kw_only=True, tag="Journal_lost"):
    """The disk refused events for so long that the oldest waiting ones were dropped."""

    severity: ClassVar[Severity] = Severity.ERROR
    count: int


class HypervisorLost(Event, frozen=True, kw_only=True, tag="Host_hypervisor_lost"):
    """The connection to libvirt broke; machines keep running, what happens to them is read again afterwards."""

    severity: ClassVar[Severity] = Severity.ERROR
    reason: str


class HypervisorBack(Event, frozen=True, kw_only=True, tag="Host_hypervisor_back"):
    """The connection to libvirt stands again; changes that were missed follow as events of their own."""


class HostStarted(Event, frozen=True, kw_only=True, tag="Host_started"):
    """The daemon started; `clean` is false after a crash."""

    version: str
    clean: bool


class HostStopping(Event, frozen=True, kw_only=True, tag="Host_stopping"):
    """The daemon is going down in good order; machines keep running."""


EVENTS: Mapping[str, type[Event]] = MappingProxyType({str(e.__struct_config__.tag): e for e in Event.__subclasses__()})
"""Every event type by name."""

if TYPE_CHECKING:
    AnyEvent: TypeAlias = Event
else:
    AnyEvent = functools.reduce(operator.or_, EVENTS.values())


class EventRecord(Output, frozen=True, kw_only=True):
    """An event as the journal holds it and every wire carries it."""

    id: EventId
    time: UnixTime
    notify_time: int  # milliseconds of the same monotonic clock as `statusTime`
    severity: Severity
    subject: str
    flow_id: str
    data: AnyEvent


class Gap(Output, frozen=True, kw_only=True):
    """Said to a reader instead of silence: the events after `since` up to `until` are no longer kept.

    Read the objects again (`Host.getVMList`, `Host.getAllTasks`), then go on from `until`.
    """

    since: EventId
    until: EventId
    reason: str


class EventFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What a subscriber wants; an empty list means everything."""

    types: list[str] = []
    subjects: list[str] = []
    severities: list[Severity] = []

    def matches(self, record: EventRecord) -> bool:
        return (
            (not self.types or record.data.name in self.types)
            and (not self.subjects or record.subject in self.subjects)
            and (not self.severities or record.severity in self.severities)
        )
