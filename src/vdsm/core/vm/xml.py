# SPDX-License-Identifier: Apache-2.0
"""Domain XML as data: parsed without entities, and marked as vdsm's own."""

from __future__ import annotations

import copy
import hashlib
import re
import secrets
import xml.etree.ElementTree as ET
from xml.parsers import expat

from vdsm.contract.errors import XmlRefused

NAMESPACE = "http://vdsm.org/vm/1.0"
ENGINE = "{http://ovirt.org/vm/1.0}"
"""The namespace of the published manager's own metadata, as ElementTree writes it before a name."""
MARK = f"{{{NAMESPACE}}}vm"
MAX_DEPTH = 100

ET.register_namespace("vdsm", NAMESPACE)
# The published namespaces keep their published prefixes, so that readers who match text find them.
ET.register_namespace("ovirt-vm", "http://ovirt.org/vm/1.0")
ET.register_namespace("ovirt-tune", "http://ovirt.org/vm/tune/1.0")
ET.register_namespace("qemu", "http://libvirt.org/schemas/domain/qemu/1.0")


class Guard:
    """Watches a document go by and stops at what a domain never needs and attacks do: DOCTYPE, entities, depth."""

    def __init__(self) -> None:
        self._depth = 0
        self._parser = expat.ParserCreate()
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.EntityDeclHandler = self._refuse
        self._parser.StartElementHandler = self._enter
        self._parser.EndElementHandler = self._leave

    def check(self, text: str) -> None:
        """Raises XmlRefused."""
        try:
            self._parser.Parse(text.encode(), True)
        except (expat.ExpatError, UnicodeEncodeError) as error:
            raise XmlRefused(reason=f"it is not well-formed: {error}") from None

    def _refuse(self, *_: object) -> None:
        raise XmlRefused(reason="it has a DOCTYPE or declares entities")

    def _enter(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise XmlRefused(reason=f"it is nested more than {MAX_DEPTH} deep")

    def _leave(self, name: str) -> None:
        self._depth -= 1


def parse(text: str) -> ET.Element:
    """A domain document from outside. Raises XmlRefused."""
    Guard().check(text)
    root = ET.fromstring(text)  # noqa: S314 the guard above has seen the whole of it
    if root.tag != "domain":
        raise XmlRefused(reason=f"its root is <{root.tag}>, not <domain>")
    return root


def text_of(root: ET.Element) -> str:
    return ET.tostring(root, encoding="unicode")


def set_mark(root: ET.Element, owner: str, *, kept: bool) -> None:
    """Say that the domain is vdsm's, and whose."""
    metadata = root.find("metadata")
    if metadata is None:
        metadata = ET.SubElement(root, "metadata")
    for old in metadata.findall(MARK):
        metadata.remove(old)
    ET.SubElement(metadata, MARK, {"owner": owner, "kept": "yes" if kept else "no"})


def mark_of(root: ET.Element) -> tuple[str, bool] | None:
    """Owner and kept, or None for a domain somebody else made."""
    found = root.find(f"metadata/{MARK}")
    return None if found is None else (found.get("owner", ""), found.get("kept") == "yes")


def close_screens(root: ET.Element) -> None:
    """Let nobody see a screen before VM.setTicket: a password that nobody knows and that is over.

    It takes both: without one from the start QEMU's VNC asks for none, and refuses to be given one.
    """
    for graphics in root.iter("graphics"):
        if graphics.get("type") in ("vnc", "spice"):
            graphics.set("passwd", secrets.token_urlsafe(6))
            graphics.set("passwdValidTo", "1970-01-01T00:00:01")


_TICKET = re.compile(rb' (passwdValidTo|connected)="[^"]*"')  # of a screen: no other device for a new password


def devices_hash(root: ET.Element) -> str:
    """Changes when, and only when, the devices do: each change makes managers read the whole document again."""
    devices = copy.deepcopy(root.find("devices"))
    for disk in [] if devices is None else devices.findall("disk"):
        for mirror in disk.findall("mirror"):  # a job of the disk's, no other disk
            disk.remove(mirror)
    raw = b"" if devices is None else _TICKET.sub(b"", ET.tostring(devices))
    return hashlib.blake2b(raw, digest_size=8).hexdigest()


_UNITS = {"b": 1, "bytes": 1, "k": 1024, "kib": 1024, "m": 1024**2, "mib": 1024**2, "g": 1024**3, "gib": 1024**3,
          "t": 1024**4, "tib": 1024**4, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4}  # fmt: skip


def choose_uefi(os: ET.Element, *, secure: bool) -> None:
    """Which files UEFI is in differs between distributions: let libvirt choose, by what they can do.

    libvirt before 9.2 takes no `<loader secure="no">` together with that.
    """
    os.set("firmware", "efi")
    feature = ET.SubElement(ET.SubElement(os, "firmware"), "feature")
    feature.attrib.update(enabled="yes" if secure else "no", name="secure-boot")


def memory_mib(root: ET.Element) -> int:
    """The <memory> of a domain; 0 if it has none that can be read."""
    element = root.find("memory")
    if element is None or not (element.text or "").strip().isdecimal():
        return 0
    unit = _UNITS.get(element.get("unit", "KiB").lower(), 1024)
    return int((element.text or "0").strip()) * unit // 1024**2


def vcpus(root: ET.Element) -> int:
    element = root.find("vcpu")
    if element is None:
        return 1
    count = element.get("current") or (element.text or "").strip()
    return int(count) if count.isdecimal() else 1
