# SPDX-License-Identifier: Apache-2.0
"""libvirt's events as the port's."""

from __future__ import annotations

from collections.abc import Callable

import libvirt

from vdsm.core.ports.hypervisor import DomainEvent, DomainEventKind

from . import words


def subscribe(conn: libvirt.virConnect, tell: Callable[[DomainEvent], None]) -> list[int]:
    """Call `tell`, in libvirt's event thread, for what happens to any domain. Returns the subscriptions' numbers."""

    def say(domain: libvirt.virDomain, kind: DomainEventKind, detail: str = "", *, guest_asked: bool = False) -> None:
        tell(
            DomainEvent(
                kind=kind, vm_id=domain.UUIDString(), name=domain.name(), detail=detail, guest_asked=guest_asked
            )
        )

    def lifecycle(_conn: object, domain: libvirt.virDomain, event: int, detail: int, _opaque: object) -> None:
        if (known := words.lifecycle(event, detail)) is not None:
            kind, word = known
            say(domain, kind, word, guest_asked=kind is DomainEventKind.SHUTDOWN and word == "guest")

    def rebooted(_conn: object, domain: libvirt.virDomain, _opaque: object) -> None:
        say(domain, DomainEventKind.REBOOTED)

    def io_error(
        _conn: object, domain: libvirt.virDomain, _path: str, _alias: str, action: int, reason: str, _opaque: object
    ) -> None:
        if action == libvirt.VIR_DOMAIN_EVENT_IO_ERROR_PAUSE:
            say(domain, DomainEventKind.IO_ERROR, reason or "eother")  # QEMU names only the full disk

    def added(_conn: object, domain: libvirt.virDomain, _alias: str, _opaque: object) -> None:
        say(domain, DomainEventKind.DEVICES, "added")

    def removed(_conn: object, domain: libvirt.virDomain, _alias: str, _opaque: object) -> None:
        say(domain, DomainEventKind.DEVICES, "removed")

    def tray(_conn: object, domain: libvirt.virDomain, _alias: str, reason: int, _opaque: object) -> None:
        say(domain, DomainEventKind.DEVICES, words.TRAY.get(reason, ""))

    def disk_job(
        _conn: object, domain: libvirt.virDomain, _drive: str, _kind: int, status: int, _opaque: object
    ) -> None:
        say(domain, DomainEventKind.DISK_JOB, words.DISK_JOB.get(status, ""))

    def agent(_conn: object, domain: libvirt.virDomain, state: int, _reason: int, _opaque: object) -> None:
        say(domain, DomainEventKind.AGENT, words.AGENT.get(state, ""))

    wanted = {
        libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE: lifecycle,
        libvirt.VIR_DOMAIN_EVENT_ID_REBOOT: rebooted,
        libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON: io_error,
        libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED: added,
        libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED: removed,
        libvirt.VIR_DOMAIN_EVENT_ID_TRAY_CHANGE: tray,
        libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2: disk_job,
        libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE: agent,
    }
    return [int(conn.domainEventRegisterAny(None, event, call, None)) for event, call in wanted.items()]
