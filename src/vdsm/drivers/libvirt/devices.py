# SPDX-License-Identifier: Apache-2.0
"""Screen, password and disc of a running machine. Every function blocks and runs in a thread of a line."""

from __future__ import annotations

import datetime
import xml.etree.ElementTree as ET

import libvirt

from vdsm.contract.errors import ChangeDiskFailed, NoDisplay, TicketError
from vdsm.contract.types import Secret

from . import problems
from .domains import find

_VNC_PASSWORD_MAX = 8  # bytes; QEMU refuses more, the protocol cannot carry them
_PICTURE_MAX = 64 * 1024 * 1024
_TIME = "%Y-%m-%dT%H:%M:%S"


def screenshot(conn: libvirt.virConnect, vm_id: str) -> tuple[str, bytes]:
    """MIME type and picture of the first screen. Raises NoDisplay."""
    domain = find(conn, vm_id)
    stream = conn.newStream()
    try:
        mime = domain.screenshot(stream, 0)
    except libvirt.libvirtError:
        if ET.XML(domain.XMLDesc(0)).find("devices/video") is None:
            raise NoDisplay(vm=domain.name()) from None
        raise
    picture = bytearray()
    while data := stream.recv(262_120):  # the most that one message of libvirt's protocol carries
        picture += data
        if len(picture) > _PICTURE_MAX:
            stream.abort()
            raise NoDisplay(vm=domain.name())
    stream.finish()
    return str(mime), bytes(picture)


def set_ticket(conn: libvirt.virConnect, vm_id: str, password: Secret, *, ttl: int, on_conflict: str) -> None:
    """Raises TicketError, whose reason never holds the password."""
    domain = find(conn, vm_id)
    text = password.reveal()
    if not text.isprintable():  # libvirt's XML parser would quote the line that it cannot read
        raise TicketError(vm=domain.name(), reason="the password holds a character that is not printable")
    consoles = ET.XML(domain.XMLDesc(0)).findall("devices/graphics")
    if not consoles:
        raise TicketError(vm=domain.name(), reason="it has no graphics device")
    for graphics in consoles:
        vnc = graphics.get("type") == "vnc"
        if vnc and len(text.encode()) > _VNC_PASSWORD_MAX:
            raise TicketError(vm=domain.name(), reason=f"a VNC password has at most {_VNC_PASSWORD_MAX} bytes")
        graphics.set("passwd", text)
        graphics.attrib.pop("passwdValidTo", None)
        if ttl:
            end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=ttl)
            graphics.set("passwdValidTo", end.strftime(_TIME))
        if not vnc:  # QEMU's VNC server only knows how to keep whoever is connected
            graphics.set("connected", on_conflict)
        try:
            domain.updateDeviceFlags(ET.tostring(graphics, encoding="unicode"), libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except libvirt.libvirtError as error:
            if problems.is_general(error):
                raise
            raise TicketError(vm=domain.name(), reason=problems.reason(error)) from None


def change_cd(conn: libvirt.virConnect, vm_id: str, path: str) -> None:
    """Raises ChangeDiskFailed."""
    domain = find(conn, vm_id)
    try:
        if domain.isActive():
            _put_disc(domain, path, 0, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        if domain.isPersistent():
            _put_disc(domain, path, libvirt.VIR_DOMAIN_XML_INACTIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    except libvirt.libvirtError as error:
        if problems.is_general(error):
            raise
        raise ChangeDiskFailed(vm=domain.name(), reason=problems.reason(error)) from None


def _put_disc(domain: libvirt.virDomain, path: str, document: int, where: int) -> None:
    drive = ET.XML(domain.XMLDesc(document)).find("devices/disk[@device='cdrom']")
    if drive is None:
        raise ChangeDiskFailed(vm=domain.name(), reason="it has no CD drive")
    for old in ("source", "backingStore"):
        for element in drive.findall(old):
            drive.remove(element)
    if path:
        drive.set("type", "file")
        driver = drive.find("driver")
        if driver is None:
            driver = ET.SubElement(drive, "driver", name="qemu")
        driver.set("type", "raw")  # stated: QEMU must not look for another format in a disc image
        ET.SubElement(drive, "source", file=path)
    domain.updateDeviceFlags(ET.tostring(drive, encoding="unicode"), where)
