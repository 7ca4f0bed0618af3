# SPDX-License-Identifier: Apache-2.0
"""What is done with domains. Every function blocks and runs in a thread of a line."""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ET

import libvirt

from vdsm.contract.errors import NonResponsiveGuestAgent, VMExists
from vdsm.core.ports.hypervisor import Domain, ShutdownWay

from . import problems, words

_CANNOT_ASK = {
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,  # no agent's channel in the definition
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
}


def find(conn: libvirt.virConnect, vm_id: str) -> libvirt.virDomain:
    return conn.lookupByUUIDString(vm_id)


def describe(domain: libvirt.virDomain) -> Domain:
    """One domain as it is. XML without VIR_DOMAIN_XML_SECURE: no password is ever in it."""
    number, reason = domain.state()
    state, word = words.state(number, reason)
    persistent = bool(domain.isPersistent())
    return Domain(
        vm_id=str(domain.UUIDString()),
        name=str(domain.name()),
        state=state,
        reason=word,
        persistent=persistent,
        autostart=persistent and bool(domain.autostart()),
        xml=str(domain.XMLDesc(0)),
    )


def read(conn: libvirt.virConnect, vm_id: str) -> Domain:
    return describe(find(conn, vm_id))


def read_all(conn: libvirt.virConnect) -> list[Domain]:
    found = []
    for domain in conn.listAllDomains():
        try:
            found.append(describe(domain))
        except libvirt.libvirtError as error:
            if problems.code(error) != libvirt.VIR_ERR_NO_DOMAIN:  # gone since it was listed
                raise
    return found


def io_error(conn: libvirt.virConnect, vm_id: str) -> str:
    errors = find(conn, vm_id).diskErrors().values()
    if libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE in errors:
        return "enospc"
    return "eother" if libvirt.VIR_DOMAIN_DISK_ERROR_UNSPEC in errors else ""


def define(conn: libvirt.virConnect, xml: str) -> None:
    """Raises VMExists."""
    try:
        conn.defineXML(xml)
    except libvirt.libvirtError as error:
        # "domain 'a' already exists with uuid ...": the list of domains says so, not the parser or QEMU.
        if (
            error.get_error_domain() == libvirt.VIR_FROM_DOMAIN
            and problems.code(error) == libvirt.VIR_ERR_OPERATION_FAILED
        ):
            raise VMExists(what=_which(conn, xml)) from None
        raise


def _which(conn: libvirt.virConnect, xml: str) -> str:
    """What of the definition is taken: libvirt took it apart already, so it can be parsed."""
    root = ET.XML(xml)
    name, vm_id = root.findtext("name", ""), root.findtext("uuid", "")
    with contextlib.suppress(libvirt.libvirtError):
        conn.lookupByName(name)
        return f"named {name}"
    return f"with the id {vm_id}"


def undefine(conn: libvirt.virConnect, vm_id: str) -> None:
    find(conn, vm_id).undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)


def start(conn: libvirt.virConnect, vm_id: str, *, paused: bool) -> None:
    find(conn, vm_id).createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED if paused else 0)


def power_off(conn: libvirt.virConnect, vm_id: str, *, graceful: bool) -> None:
    find(conn, vm_id).destroyFlags(libvirt.VIR_DOMAIN_DESTROY_GRACEFUL if graceful else 0)


def ask_shutdown(conn: libvirt.virConnect, vm_id: str, way: ShutdownWay, *, reboot: bool) -> None:
    """Raises NonResponsiveGuestAgent."""
    domain = find(conn, vm_id)
    try:
        match way, reboot:
            case ShutdownWay.AGENT, False:
                domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT)
            case ShutdownWay.AGENT, True:
                domain.reboot(libvirt.VIR_DOMAIN_REBOOT_GUEST_AGENT)
            case ShutdownWay.ACPI, False:
                domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
            case ShutdownWay.ACPI, True:
                domain.reboot(libvirt.VIR_DOMAIN_REBOOT_ACPI_POWER_BTN)
    except libvirt.libvirtError as error:
        if problems.code(error) in _CANNOT_ASK:
            raise NonResponsiveGuestAgent(vm=vm_id, reason=problems.reason(error)) from None
        raise


def suspend(conn: libvirt.virConnect, vm_id: str) -> None:
    find(conn, vm_id).suspend()


def resume(conn: libvirt.virConnect, vm_id: str) -> None:
    find(conn, vm_id).resume()


def reset(conn: libvirt.virConnect, vm_id: str) -> None:
    find(conn, vm_id).reset()


def set_autostart(conn: libvirt.virConnect, vm_id: str, *, enabled: bool) -> None:
    find(conn, vm_id).setAutostart(int(enabled))


def rename(conn: libvirt.virConnect, vm_id: str, name: str) -> None:
    """Raises VMExists."""
    domain = find(conn, vm_id)
    try:
        domain.rename(name)
    except libvirt.libvirtError:
        with contextlib.suppress(libvirt.libvirtError):
            if conn.lookupByName(name).UUIDString() != vm_id:
                raise VMExists(what=f"named {name}") from None
        raise
