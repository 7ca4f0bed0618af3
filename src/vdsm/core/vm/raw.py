# SPDX-License-Identifier: Apache-2.0
"""What raw domain XML may hold. Every absolute path in it must be one the host offers; some parts are never taken."""

from __future__ import annotations

import re
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator

from vdsm.contract.errors import XmlRefused
from vdsm.contract.types import VmName
from vdsm.core.ports.hypervisor import HypervisorFacts

from . import xml

REFUSED = {
    "seclabel": "it could lift the guest's confinement",
    "hostdev": "devices of the host are not handed out by raw XML",
    "qemu-commandline": "arguments for QEMU could do anything",
    "script": "libvirt would run it",
}
REFUSED_TYPES = {
    ("interface", "hostdev"): "devices of the host are not handed out by raw XML",
    ("interface", "vdpa"): "devices of the host are not handed out by raw XML",
    ("disk", "nvme"): "devices of the host are not handed out by raw XML",
}
_NAMESPACES = ("http://ovirt.org/vm/1.0", "http://ovirt.org/vm/tune/1.0", xml.NAMESPACE)
_HARMLESS = re.compile(
    r"/dev/(u?random|hwrng)|/usr/(bin|libexec)/qemu-(kvm|system-\w+)|/usr/bin/kvm|/usr/share/(OVMF|qemu|seabios|edk2)/[\w./-]+"
)
_MASK = "*****"


def check(root: ET.Element) -> None:
    """Raises XmlRefused. A password that is only said to be replaced is no password."""
    for element in root.iter():
        _check_element(element)
        if element.get("passwd") == _MASK:
            del element.attrib["passwd"]


def identity(root: ET.Element) -> tuple[str, str | None]:
    """Name and UUID. Raises XmlRefused."""
    name = (root.findtext("name") or "").strip()
    if not re.search(_pattern(VmName), name):
        raise XmlRefused(reason=f"its <name> is not 1 to 128 of letters, digits and _ . + @ -: {name[:40]!r}")
    given = root.findtext("uuid")
    if given is None:
        return name, None
    try:
        return name, str(uuid.UUID(given.strip()))
    except ValueError:
        raise XmlRefused(reason=f"its <uuid> is none: {given[:40]!r}") from None


def _pattern(hint: object) -> str:
    return str(next(m.pattern for m in getattr(hint, "__metadata__", ()) if m.pattern))


def adapt(root: ET.Element, name: str, vm_id: str, facts: HypervisorFacts) -> None:
    """Fit it to this host: identity, and QEMU's translator where the processor cannot run guests."""
    for tag, value in (("name", name), ("uuid", vm_id)):
        element = root.find(tag)
        if element is None:
            element = ET.SubElement(root, tag)
        element.text = value
    if not facts.kvm and root.get("type") == "kvm":
        root.set("type", "qemu")
        cpu = root.find("cpu")
        if cpu is not None and cpu.get("mode") == "host-passthrough":
            cpu.set("mode", "maximum")
            for key in ("check", "migratable"):
                cpu.attrib.pop(key, None)


def paths(root: ET.Element) -> Iterator[tuple[str, str | None]]:
    """Every host path in the document, with the stated format where it is a disk's file."""
    formats = {
        source.get("file", ""): driver.get("type")
        for disk in root.iter("disk")
        if (source := disk.find("source")) is not None and (driver := disk.find("driver")) is not None
    }
    for element in root.iter():
        for value in (*element.attrib.values(), (element.text or "").strip()):
            if value.startswith("/") and not _HARMLESS.fullmatch(value):
                yield value, formats.get(value)


def _check_element(element: ET.Element) -> None:
    tag = str(element.tag)
    if tag.startswith("{"):
        namespace, _, _ = tag[1:].partition("}")
        if namespace not in _NAMESPACES:
            raise XmlRefused(
                reason=f"<{tag}> is of a namespace that is not taken: arguments for QEMU could do anything"
            )
        return
    if tag in REFUSED:
        raise XmlRefused(reason=f"<{tag}> is not taken: {REFUSED[tag]}")
    if (kind := (tag, element.get("type", ""))) in REFUSED_TYPES:
        raise XmlRefused(reason=f"<{tag} type={kind[1]!r}> is not taken: {REFUSED_TYPES[kind]}")
    if element.get("passwd", _MASK) != _MASK:
        raise XmlRefused(reason="a password belongs into VM.setTicket, not into the definition")
    if tag == "source":
        for attribute in ("file", "dir", "path"):
            if not element.get(attribute, "/").startswith("/"):
                raise XmlRefused(reason=f"<source {attribute}={element.get(attribute)!r}> is no absolute path")
    for value in (*element.attrib.values(), element.text or ""):
        if ".." in value.split("/") and value.strip().startswith("/"):
            raise XmlRefused(reason=f"{value.strip()[:80]!r} climbs with '..'")
    if tag == "disk" and element.get("type") == "file":
        driver = element.find("driver")
        if element.find("source") is not None and (driver is None or driver.get("type") not in ("raw", "qcow2")):
            raise XmlRefused(reason="a disk states its format, <driver type='raw'> or 'qcow2': it is never guessed")
