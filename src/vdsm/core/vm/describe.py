# SPDX-License-Identifier: Apache-2.0
"""Domain XML -> what people and managers are told of a machine."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import msgspec

from vdsm.contract.vm_info import Accelerator, DisplayInfo, VmDevice
from vdsm.core.storage.format.lines import is_uuid

from . import xml
from .drives import Drive, drives

_SHOWN = ("disk", "interface", "graphics", "console", "channel", "video", "rng", "memballoon", "controller", "input")

_RESUME = f"metadata/{xml.ENGINE}vm/{xml.ENGINE}resumeBehavior"


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A domain document, read once."""

    owner: str | None  # None: not made by vdsm
    kept: bool
    memory: int  # MiB
    vcpus: int
    accelerator: Accelerator
    machine_type: str
    arch: str
    firmware: str
    cpu_mode: str
    devices: list[VmDevice]
    displays: list[DisplayInfo]
    has_agent: bool
    has_serial: bool
    hash: str
    time_offset: int  # seconds the guest's clock is off UTC
    drives: list[Drive]
    images: dict[str, str]  # ids of the images of the storage, by the disk's name
    resumes: bool  # whether it goes on by itself when its storage is well again


def view(text: str) -> View:
    """Of a document libvirt gave out, which is well-formed and without entities."""
    root = ET.fromstring(text)  # noqa: S314
    mark = xml.mark_of(root)
    kind = root.find("os/type")
    cpu = root.find("cpu")
    loader = root.find("os/loader")
    uefi = _get(root, "os", "firmware") == "efi" or (loader is not None and loader.get("type") == "pflash")
    return View(
        owner=mark[0] if mark else None,
        kept=mark[1] if mark else True,
        memory=xml.memory_mib(root),
        vcpus=xml.vcpus(root),
        accelerator=Accelerator.KVM if root.get("type") == "kvm" else Accelerator.TCG,
        machine_type=kind.get("machine", "") if kind is not None else "",
        arch=kind.get("arch", "") if kind is not None else "",
        firmware="uefi" if uefi else "bios",
        cpu_mode=cpu.get("mode", "custom") if cpu is not None else "",
        devices=[_device(e) for e in root.findall("devices/*") if e.tag in _SHOWN and not _is_wiring(e)],
        displays=[_display(e) for e in root.findall("devices/graphics")],
        has_agent=root.find("devices/channel/target[@name='org.qemu.guest_agent.0']") is not None,
        has_serial=root.find("devices/serial") is not None or root.find("devices/console") is not None,
        hash=xml.devices_hash(root),
        time_offset=_time_offset(root),
        drives=drives(root),
        images=_images(root),
        resumes=(root.findtext(_RESUME) or "").strip() in ("", "auto_resume"),
    )


def _is_wiring(element: ET.Element) -> bool:
    """The bus devices are plugged into, of which a machine has a dozen parts."""
    return element.tag == "controller" and element.get("type") == "pci"


def _time_offset(root: ET.Element) -> int:
    """libvirt keeps the adjustment of a running machine up to what its guest sets."""
    said = _get(root, "clock", "adjustment")
    return int(said) if re.fullmatch(r"-?[0-9]{1,12}", said, re.ASCII) else 0


def _images(root: ET.Element) -> dict[str, str]:
    """As the manager says, else as the path of a volume does."""
    by_path = {drive.name: drive.path.split("/")[-2:] for drive in drives(root)}
    return {name: parts[0] for name, parts in by_path.items() if all(map(is_uuid, parts))} | {
        device.get("name", ""): image
        for device in root.findall(f"metadata/{xml.ENGINE}vm/{xml.ENGINE}device[@devtype='disk']")
        if (image := (device.findtext(f"{xml.ENGINE}imageID") or "").strip())
    }


def _get(element: ET.Element, path: str, attribute: str) -> str:
    found = element.find(path)
    return "" if found is None else found.get(attribute, "")


def _device(element: ET.Element) -> VmDevice:
    tag = str(element.tag)
    source = element.find("source")
    return VmDevice(
        type=tag,
        device=element.get("device") or element.get("type") or element.get("model") or tag,
        name=_get(element, "target", "dev") or _get(element, "target", "name"),
        alias=_get(element, "alias", "name"),
        path="" if source is None else source.get("file") or source.get("dev") or source.get("path") or "",
        format=_get(element, "driver", "type"),
        bus=_get(element, "target", "bus") or element.get("bus", ""),
        mac_addr=_get(element, "mac", "address"),
        network="" if source is None else source.get("network") or source.get("bridge") or "",
        model=_get(element, "model", "type"),
        read_only=element.find("readonly") is not None,
    )


def _display(element: ET.Element) -> DisplayInfo:
    return DisplayInfo(
        type=element.get("type", ""),
        port=element.get("port", "-1"),
        tls_port=element.get("tlsPort", "-1"),
        ip_address=_get(element, "listen", "address") or element.get("listen", ""),
    )
