# SPDX-License-Identifier: Apache-2.0
"""Why a verb may be refused on a machine: the same objects refuse the call, explain it, and list what is allowed."""

from __future__ import annotations

from vdsm.contract.errors import (
    ForeignVM,
    NoDisplay,
    NoSerialConsole,
    NoSuchVM,
    Problem,
    UnexpectedState,
    VMIsDown,
    VMIsRunning,
)
from vdsm.contract.storage_words import BLANK
from vdsm.contract.vm_info import VmState

from .machine import Machine


def ours(machine: Machine | None) -> Problem | None:
    """vdsm leaves alone what it did not make. None stands for the id of all zeros, which some verbs take."""
    if machine is None:
        return NoSuchVM(vm=BLANK)
    return None if machine.ours else ForeignVM(vm=machine.name)


def running(machine: Machine) -> Problem | None:
    """There is a QEMU process, whatever it does."""
    return None if machine.active else VMIsDown(vm=machine.name)


def stopped(machine: Machine) -> Problem | None:
    return VMIsRunning(vm=machine.name, state=machine.status) if machine.active else None


def not_paused(machine: Machine) -> Problem | None:
    if machine.status is VmState.PAUSED:
        return UnexpectedState(vm=machine.name, state=machine.status, reason="its CPUs stand still; continue it first")
    return None


def may_continue(machine: Machine) -> Problem | None:
    """Published: refused while it is saved, or migrated."""
    if machine.status in (VmState.SAVING, VmState.MIGRATION_SOURCE, VmState.MIGRATION_DESTINATION):
        return UnexpectedState(vm=machine.name, state=machine.status, reason="it is on its way elsewhere")
    return None


def has_display(machine: Machine) -> Problem | None:
    return None if machine.view.displays else NoDisplay(vm=machine.name)


def has_serial(machine: Machine) -> Problem | None:
    return None if machine.view.has_serial else NoSerialConsole(vm=machine.name)
