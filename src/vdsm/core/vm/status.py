# SPDX-License-Identifier: Apache-2.0
"""libvirt's words for a domain's state -> the published states and exit reasons. Tables, no decisions elsewhere."""

from __future__ import annotations

import msgspec

from vdsm.contract.vm_info import ExitReason, VmState
from vdsm.core.ports.hypervisor import DomainEventKind, DomainState

STATES = {
    DomainState.RUNNING: VmState.UP,
    DomainState.PAUSED: VmState.PAUSED,
    DomainState.SHUTTING_DOWN: VmState.POWERING_DOWN,
    DomainState.SHUT_OFF: VmState.DOWN,
    DomainState.CRASHED: VmState.DOWN,
}

AFTER_EVENT = {
    DomainEventKind.STARTED: DomainState.RUNNING,
    DomainEventKind.RESUMED: DomainState.RUNNING,
    DomainEventKind.SUSPENDED: DomainState.PAUSED,
    DomainEventKind.SHUTDOWN: DomainState.SHUTTING_DOWN,
    DomainEventKind.STOPPED: DomainState.SHUT_OFF,
}

IO_PAUSE_CODES = {"enospc": "ENOSPC", "eio": "EIO", "eperm": "EPERM"}


class Exit(msgspec.Struct, frozen=True):
    """Why a machine is Down."""

    code: int  # 0 normal, 1 error
    reason: ExitReason
    message: str


EXITS = {
    "shutdown": Exit(0, ExitReason.USER_SHUTDOWN, "The guest shut itself down"),
    "destroyed": Exit(0, ExitReason.ADMIN_SHUTDOWN, "The power was cut on request"),
    "migrated": Exit(0, ExitReason.MIGRATED, "It moved to another host"),
    "saved": Exit(0, ExitReason.SAVED, "Its state was saved"),
    "crashed": Exit(1, ExitReason.LOST_QEMU, "QEMU died"),
    "failed": Exit(1, ExitReason.START_FAILED, "It failed to start, or QEMU died"),
}


def pause_code(reason: str, io_error: str) -> str:
    """The published code of a paused machine; libvirt names no disk's error but the full disk."""
    if reason == "ioerror":
        return IO_PAUSE_CODES.get(io_error, "EOTHER")
    return "POSTCOPY" if reason == "postcopy" else "NOERR"


def did_not_start(reason: str) -> Exit:
    return Exit(1, ExitReason.START_FAILED, reason)


def exit_of(state: DomainState, reason: str) -> Exit | None:
    """None for a machine that was not started since it was defined."""
    if state is DomainState.CRASHED:
        return EXITS["crashed"]
    return EXITS.get(reason) if state is DomainState.SHUT_OFF else None
