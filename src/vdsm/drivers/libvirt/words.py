# SPDX-License-Identifier: Apache-2.0
"""libvirt's numbers as words: states with their reasons, events with their details."""

from __future__ import annotations

import libvirt

from vdsm.core.ports.hypervisor import DomainEventKind, DomainState

# By position: the values of libvirt's enumerations count from 0 and are never changed.

STATES = {
    libvirt.VIR_DOMAIN_NOSTATE: DomainState.SHUT_OFF,
    libvirt.VIR_DOMAIN_RUNNING: DomainState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: DomainState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: DomainState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: DomainState.SHUTTING_DOWN,
    libvirt.VIR_DOMAIN_SHUTOFF: DomainState.SHUT_OFF,
    libvirt.VIR_DOMAIN_CRASHED: DomainState.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: DomainState.PAUSED,
}

_REASONS = {
    libvirt.VIR_DOMAIN_RUNNING: (
        "unknown", "booted", "migrated", "restored", "from-snapshot", "unpaused", "migration-canceled",
        "save-canceled", "wakeup", "crashed", "postcopy", "postcopy-failed",
    ),
    libvirt.VIR_DOMAIN_PAUSED: (
        "unknown", "user", "migration", "save", "dump", "ioerror", "watchdog", "from-snapshot", "shutting-down",
        "snapshot", "crashed", "starting-up", "postcopy", "postcopy-failed", "api-error",
    ),
    libvirt.VIR_DOMAIN_SHUTDOWN: ("unknown", "user"),
    libvirt.VIR_DOMAIN_SHUTOFF: (
        "unknown", "shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from-snapshot",
        "daemon",
    ),
    libvirt.VIR_DOMAIN_CRASHED: ("unknown", "panicked"),
    libvirt.VIR_DOMAIN_PMSUSPENDED: ("pm-suspended",),
}  # fmt: skip

_LIFECYCLE: dict[int, tuple[DomainEventKind, tuple[str, ...]]] = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: (DomainEventKind.DEFINED, ("added", "updated", "renamed", "from-snapshot")),
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: (DomainEventKind.UNDEFINED, ("removed", "renamed")),
    libvirt.VIR_DOMAIN_EVENT_STARTED: (
        DomainEventKind.STARTED, ("booted", "migrated", "restored", "from-snapshot", "wakeup"),
    ),
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: (
        DomainEventKind.SUSPENDED,
        ("paused", "migrated", "ioerror", "watchdog", "restored", "from-snapshot", "api-error", "postcopy",
         "postcopy-failed"),
    ),
    libvirt.VIR_DOMAIN_EVENT_RESUMED: (
        DomainEventKind.RESUMED, ("unpaused", "migrated", "from-snapshot", "postcopy", "postcopy-failed"),
    ),
    libvirt.VIR_DOMAIN_EVENT_STOPPED: (
        DomainEventKind.STOPPED,
        ("shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from-snapshot", "recreated"),
    ),
    libvirt.VIR_DOMAIN_EVENT_SHUTDOWN: (DomainEventKind.SHUTDOWN, ("finished", "guest", "host")),
    libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: (DomainEventKind.SUSPENDED, ("pm-memory", "pm-disk")),
    # The guest's kernel is dead and its processors stand; what libvirt then does with it comes as events of its own.
    libvirt.VIR_DOMAIN_EVENT_CRASHED: (DomainEventKind.SUSPENDED, ("crashed", "crash-loaded")),
}  # fmt: skip

TRAY = {
    libvirt.VIR_DOMAIN_EVENT_TRAY_CHANGE_OPEN: "tray-open",
    libvirt.VIR_DOMAIN_EVENT_TRAY_CHANGE_CLOSE: "tray-closed",
}

DISK_JOB = {
    libvirt.VIR_DOMAIN_BLOCK_JOB_COMPLETED: "completed",
    libvirt.VIR_DOMAIN_BLOCK_JOB_FAILED: "failed",
    libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED: "canceled",
    libvirt.VIR_DOMAIN_BLOCK_JOB_READY: "ready",
}

AGENT = {
    libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED: "connected",
    libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_DISCONNECTED: "disconnected",
}

CLOSED = {
    libvirt.VIR_CONNECT_CLOSE_REASON_ERROR: "the connection failed",
    libvirt.VIR_CONNECT_CLOSE_REASON_EOF: "libvirt ended",
    libvirt.VIR_CONNECT_CLOSE_REASON_KEEPALIVE: "libvirt does not answer any more",
    libvirt.VIR_CONNECT_CLOSE_REASON_CLIENT: "the connection was closed",
}


def state(number: int, reason: int) -> tuple[DomainState, str]:
    """A domain's state and libvirt's word for its reason."""
    return STATES.get(number, DomainState.SHUT_OFF), _pick(_REASONS.get(number, ()), reason)


def lifecycle(event: int, detail: int) -> tuple[DomainEventKind, str] | None:
    """None for an event newer than this table."""
    if (known := _LIFECYCLE.get(event)) is None:
        return None
    kind, details = known
    return kind, _pick(details, detail)


def _pick(words: tuple[str, ...], position: int) -> str:
    return words[position] if 0 <= position < len(words) else "unknown"
