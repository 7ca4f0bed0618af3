# SPDX-License-Identifier: Apache-2.0
"""The host itself."""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from . import errors as e
from . import errors_domains as ed
from . import errors_storage as es
from ._verb import Kind, Wire, verb
from .access import Privilege
from .host_capabilities import Capabilities, HardwareInformation
from .host_stats import HostStats, StorageDomainVitals
from .host_tickets import ImageTicket, ImageTicketInfo, TicketSeconds
from .storage_pool import HostId
from .storage_words import DomainId, PoolId, StorageDomainImageClass, StorageDomainType
from .task import TaskDetails, TaskInfo, TaskStatus
from .types import JobId, Output, TaskId, Text, Uuid, VmId
from .vm_info import VmInfo, VmShortStatus
from .vm_stats import VmStats

NOUN = "Host"


class LogLevel(enum.StrEnum):
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    WARN = "WARN"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"
    CRIT = "CRIT"


class JobError(Output, frozen=True, kw_only=True):
    code: int
    message: str


class HostJob(Output, frozen=True, kw_only=True):
    """A task in the published form of a job."""

    id: JobId
    job_type: str = msgspec.field(name="job_type")
    status: str  # pending, running, done, failed, aborted
    description: str
    progress: float | None = None
    error: JobError | None = None


@verb(kind=Kind.QUERY, needs=Privilege.HOST_READ, since="1.0", http="GET /host/ping")
def ping() -> None:
    """Answer, and note that a client reached this host. Deprecated: `Host.ping2`."""


@verb(kind=Kind.QUERY, needs=Privilege.HOST_READ, since="1.0", http="GET /host/ping2")
def ping2() -> None:
    """Answer."""


@verb(kind=Kind.QUERY, needs=Privilege.HOST_READ, since="1.0", http="GET /host/echo")
def echo(message: Text) -> str:
    """Answer with the same text."""


@verb(
    kind=Kind.QUERY, needs=Privilege.HOST_READ, since="1.0", http="GET /host/capabilities",
    raises=(e.HypervisorUnavailable, e.HypervisorError),
)  # fmt: skip
def get_capabilities() -> Capabilities:
    """What the host is and can do: processors, memory, networks, software, machine types."""


@verb(
    kind=Kind.QUERY, needs=Privilege.HOST_READ, since="1.0", http="GET /host/hardware-info",
    raises=(e.CannotRetrieveHWInfo,),
)  # fmt: skip
def get_hardware_info() -> HardwareInformation:
    """What the firmware calls the computer: maker, product, serial number."""


@verb(kind=Kind.QUERY, needs=Privilege.HOST_READ, since="1.0", http="GET /host/stats")
def get_stats() -> HostStats:
    """How the host does now: processors, memory, networks, and how many machines it runs."""


@verb(
    kind=Kind.QUERY, needs=Privilege.VM_READ, since="1.0", http="GET /host/vm-list", published="getVMList",
    command="host vm-list", raises=(e.HypervisorUnavailable,),
)  # fmt: skip
def get_vm_list(
    *,
    full_status: bool = False,
    vm_list: list[VmId] = [],  # noqa: B006 a declaration, not a function
    only_uuid: Annotated[bool, Wire("onlyUUID")] = False,
) -> list[VmShortStatus]:
    """The machines vdsm manages, or those of them in `vmList`, with their state.

    `fullStatus` and `onlyUUID` are taken for the sake of old callers and change nothing, as published.
    """


@verb(
    kind=Kind.QUERY, needs=Privilege.VM_READ, since="1.0", http="GET /host/vm-full-list", published="getVMFullList",
    command="host vm-full-list", raises=(e.HypervisorUnavailable,),
)  # fmt: skip
def get_vm_full_list(
    *,
    vm_list: list[VmId] = [],  # noqa: B006
) -> list[VmInfo]:
    """The machines vdsm manages, or those of them in `vmList`, in full."""


@verb(
    kind=Kind.QUERY, needs=Privilege.VM_READ, since="1.0", http="GET /host/vm-stats", published="getAllVmStats",
    command="host vm-stats", raises=(e.HypervisorUnavailable,),
)  # fmt: skip
def get_all_vm_stats() -> list[VmStats]:
    """Statistics of every machine vdsm manages."""


@verb(
    kind=Kind.QUERY, needs=Privilege.VM_READ, since="1.0", http="GET /host/xmls", published="dumpxmls",
    raises=(e.NoSuchVM, e.HypervisorUnavailable),
)  # fmt: skip
def dumpxmls(
    *,
    vm_list: list[VmId] = [],  # noqa: B006
) -> dict[str, str]:
    """libvirt's document of each machine in `vmList`, or of all that vdsm manages, without secrets."""


@verb(kind=Kind.ACTION, needs=Privilege.HOST_ADMIN, since="1.0", http="POST /host/log-level", raises=(e.NoSuchLogger,))
def set_log_level(level: LogLevel, *, name: Text = "") -> None:
    """Change what the daemon logs, until it restarts; `name` limits it to one part, `vdsm.core` for instance."""


@verb(kind=Kind.QUERY, needs=Privilege.TASK_READ, since="1.0", http="GET /host/tasks")
def get_all_tasks() -> list[TaskDetails]:
    """Every task, in the published words."""


@verb(kind=Kind.QUERY, needs=Privilege.TASK_READ, since="1.0", http="GET /host/tasks-info")
def get_all_tasks_info() -> dict[TaskId, TaskInfo]:
    """Which verb each task runs."""


@verb(kind=Kind.QUERY, needs=Privilege.TASK_READ, since="1.0", http="GET /host/tasks-statuses")
def get_all_tasks_statuses() -> dict[TaskId, TaskStatus]:
    """How each task stands."""


@verb(kind=Kind.QUERY, needs=Privilege.TASK_READ, since="1.0", http="GET /host/jobs")
def get_jobs(
    *,
    job_type: Annotated[Text, Wire("job_type")] = "",
    job_ids: Annotated[list[JobId], Wire("job_ids")] = [],  # noqa: B006
) -> dict[JobId, HostJob]:
    """Tasks in the published form of jobs; `job_type` is "storage" or "virt", or another noun they are about."""


_TICKETS = (es.ImageTicketsError, es.ImageDaemonError, e.DeadlineExceeded, e.TooBusy)


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /host/image-tickets",
    published="add_image_ticket",
    raises=(
        *_TICKETS, es.TicketRefused, ed.DiskUnusable, ed.DiskInUse, ed.StorageUnusable, ed.StorageDomainDoesNotExist,
        es.StorageBroken, es.PathEscapes, e.ObjectBusy, e.HypervisorUnavailable,
    ),
)  # fmt: skip
def add_image_ticket(ticket: ImageTicket) -> None:
    """Let whoever knows this ticket's id read or write one image at this host's image port.

    The URL is the path of a volume of this host's storage, whose file is then transferred as it is, or the URL of one
    of its NBD servers, for what the guest would see. Nothing else can be had.
    """


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /host/image-tickets/{uuid}",
    published="get_image_ticket", raises=_TICKETS,
)  # fmt: skip
def get_image_ticket(uuid: Uuid) -> ImageTicketInfo:
    """How a ticket's transfer stands."""


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /host/image-tickets/{uuid}/extend",
    published="extend_image_ticket", raises=_TICKETS,
)  # fmt: skip
def extend_image_ticket(uuid: Uuid, timeout: TicketSeconds) -> None:
    """Let a ticket live so many seconds from now."""


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_DISKS, since="1.0", http="DELETE /host/image-tickets/{uuid}",
    published="remove_image_ticket", raises=(*_TICKETS, e.ObjectBusy),
)  # fmt: skip
def remove_image_ticket(uuid: Uuid) -> None:
    """Take a ticket back; no request of it is under way any more when this returns. None of that id is fine."""


# ---- storage ---------------------------------------------------------------------------------------------------------

MonitoredId = Annotated[DomainId, Wire("sdUUID")]


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /host/storage-domains",
    raises=(ed.StoragePoolUnknown,),
)  # fmt: skip
def get_storage_domains(
    storagepool_id: PoolId | None = None,
    domain_class: StorageDomainImageClass | None = None,
    storage_type: StorageDomainType | None = None,
    remote_path: Text | None = None,
) -> list[DomainId]:
    """The storage domains where this host is connected to, also those that other hosts have made there since.

    What is given must fit: the pool (the blank id stands for any), the class, the type under which the place was
    connected, and its path.
    """


@verb(kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /host/storage-pools")
def get_connected_storage_pools() -> list[PoolId]:
    """The storage pools this host is connected to."""


@verb(kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /host/storage-stats")
def get_storage_repo_stats(
    domains: list[DomainId] = [],  # noqa: B006
) -> dict[DomainId, StorageDomainVitals]:
    """How the storage domains do, or those of them in `domains`, as they were found at the last look.

    Every domain this host is connected to is looked at every few seconds. One that it is not connected to is left out.
    """


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /host/storage-domains/{sd_uuid}/monitor",
    raises=(ed.StorageDomainDoesNotExist, es.AcquireHostIdFailure, e.ObjectBusy),
)  # fmt: skip
def start_monitoring_domain(sd_uuid: MonitoredId, host_id: HostId) -> None:
    """Take this host's id in a domain that has leases, in the background: `acquired` of its stats tells when it has it.

    Whether a domain's storage answers is watched without this.
    """


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_ADMIN, since="1.0", http="DELETE /host/storage-domains/{sd_uuid}/monitor",
    raises=(
        ed.StorageDomainDoesNotExist, ed.StorageInUse, es.ReleaseHostIdFailure, es.LockManagerUnavailable,
        e.DeadlineExceeded, e.ObjectBusy,
    ),
)  # fmt: skip
def stop_monitoring_domain(sd_uuid: MonitoredId) -> None:
    """Give up this host's id in a domain that has leases and belongs to no pool this host is connected to."""
