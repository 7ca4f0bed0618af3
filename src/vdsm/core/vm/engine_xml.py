# SPDX-License-Identifier: Apache-2.0
"""The documents a published manager sends, made to fit this host.

They are written for another distribution and leave blanks for the host to fill. What is changed here is only what the
host decides: its own words, the emulator, firmware, sockets, and where a screen listens. The devices' aliases and the
manager's metadata stay as they came, since it looks for them in `Host.dumpxmls`.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable

from vdsm.contract.errors import CannotCreateVM, XmlRefused
from vdsm.contract.vm_params import Firmware
from vdsm.core.ports.hypervisor import HypervisorFacts

from . import xml
from .surroundings import Place

_VM = f"metadata/{xml.ENGINE}vm"

_NOWHERE = ";vdsmdummy;"  # the bridge of a NIC that is plugged into none
_NETWORK = "vdsm-"  # what a libvirt network's name begins with, the host's own name for it following
_LOOPBACK = "127.0.0.1"
# Filters that manager's hosts define: libvirt's own one that does the same.
_FILTERS = {"vdsm-no-mac-spoofing": "no-mac-spoofing"}
_LEASE = ("LEASE-PATH:", "LEASE-OFFSET:")


def is_engines(root: ET.Element) -> bool:
    return root.find(_VM) is not None


def wants_pause(root: ET.Element) -> bool:
    """Whether it is to be started with its CPUs standing still."""
    return (root.findtext(f"{_VM}/{xml.ENGINE}launchPaused") or "").strip().lower() == "true"


def fit(root: ET.Element, facts: HypervisorFacts, place: Place) -> None:
    """Raises XmlRefused for what this host does not offer, CannotCreateVM for firmware it lacks."""
    _refuse_what_is_missing(root)
    _fill_blanks(root, place)
    _fit_firmware(root, facts)
    for tag, change in _DEVICES:
        for element in root.findall(f"devices/{tag}"):
            change(element, place)
    devices = root.find("devices")
    emulator = root.find("devices/emulator")
    if devices is not None and emulator is not None:
        devices.remove(emulator)  # libvirt knows where this host's is


def _refuse_what_is_missing(root: ET.Element) -> None:
    if root.find("devices/lease") is not None or any(
        value.startswith(_LEASE) for element in root.iter() for value in (*element.attrib.values(), element.text or "")
    ):
        raise XmlRefused(reason="leases are not offered by this host")
    if root.find(f"{_VM}/{xml.ENGINE}device/{xml.ENGINE}payload") is not None:
        raise XmlRefused(reason="a payload, from which a disc for the guest would be made, is not offered by this host")


def _fill_blanks(root: ET.Element, place: Place) -> None:
    blanks = {"OS-NAME:": place.os_name, "OS-VERSION:": place.os_version, "HOST-SERIAL:": place.serial}
    for entry in root.findall("sysinfo//entry"):
        said = (entry.text or "").strip()
        entry.text = blanks.get(said, entry.text)


def _fit_firmware(root: ET.Element, facts: HypervisorFacts) -> None:
    os = root.find("os")
    loader = root.find("os/loader")
    if os is None or loader is None or loader.get("type") != "pflash":
        return
    if Firmware.UEFI.value not in facts.firmware:
        raise CannotCreateVM(reason="this host has no UEFI firmware; install the package ovmf")
    for element in (loader, *root.findall("os/nvram")):
        os.remove(element)
    xml.choose_uefi(os, secure=loader.get("secure") == "yes")


def _fit_graphics(graphics: ET.Element, place: Place) -> None:
    for listen in graphics.findall("listen[@type='network']"):
        name = listen.get("network", "").removeprefix(_NETWORK)
        listen.attrib.clear()
        listen.attrib.update(type="address", address=place.addresses.get(name) or _LOOPBACK)
    graphics.attrib.pop("listen", None)


def _fit_nic(nic: ET.Element, place: Place) -> None:
    source = nic.find("source")
    if source is not None and source.get("bridge") == _NOWHERE:
        nic.remove(source)
        nic.set("type", "ethernet")  # a tap that is no port of anything
    for reference in nic.findall("filterref"):
        name = reference.get("filter", "")
        reference.set("filter", _FILTERS.get(name, name))


def _fit_channel(channel: ET.Element, place: Place) -> None:
    """libvirt makes the socket's path itself, where this host's QEMU may write."""
    for source in channel.findall("source"):
        if channel.get("type") == "unix":
            channel.remove(source)


def _fit_console(console: ET.Element, place: Place) -> None:
    """The serial line is reached through `VM.console`, not through a socket of the other manager's proxy."""
    if console.get("type") == "unix":
        console.set("type", "pty")
        for source in console.findall("source"):
            console.remove(source)


def _fit_disk(disk: ET.Element, place: Place) -> None:
    fit_disk(disk)


def fit_disk(disk: ET.Element) -> None:
    for source in disk.findall("source"):
        for label in source.findall("seclabel"):
            source.remove(label)  # "leave the file's owner alone" is for storage that other hosts share
        if not source.get("file", "-"):
            disk.remove(source)  # an empty CD drive


_DEVICES: tuple[tuple[str, Callable[[ET.Element, Place], None]], ...] = (
    ("graphics", _fit_graphics),
    ("interface", _fit_nic),
    ("channel", _fit_channel),
    ("console", _fit_console),
    ("serial", _fit_console),
    ("disk", _fit_disk),
)
