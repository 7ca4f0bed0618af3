# SPDX-License-Identifier: Apache-2.0
"""The disks in a machine's document: which files each reads and writes. Pure."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import NamedTuple

from vdsm.contract.vm_params import DiskFormat


class Layer(NamedTuple):
    path: str
    format: DiskFormat


class Drive(NamedTuple):
    """A disk with a file, its layers as far as the document names them: of a running machine all."""

    name: str  # vda
    alias: str
    device: str  # disk, cdrom, ...
    layers: tuple[str, ...]  # paths, the one that is written to first
    read_only: bool

    @property
    def path(self) -> str:
        return self.layers[0]

    @property
    def is_disk(self) -> bool:
        return self.device == "disk"


def drives(root: ET.Element) -> list[Drive]:
    return [drive for element in root.findall("devices/disk") if (drive := drive_of(element)) is not None]


def drive_of(disk: ET.Element) -> Drive | None:
    """None for an empty drive, and for what is no file."""
    layers: list[str] = []
    element: ET.Element | None = disk
    while element is not None and (source := element.find("source")) is not None:
        if not (path := source.get("file")):
            break
        layers.append(path)
        element = element.find("backingStore")
    if not layers:
        return None
    return Drive(
        name=_get(disk, "target", "dev"),
        alias=_get(disk, "alias", "name"),
        device=disk.get("device", "disk"),
        layers=tuple(layers),
        read_only=disk.find("readonly") is not None,
    )


def _get(element: ET.Element, path: str, attribute: str) -> str:
    found = element.find(path)
    return "" if found is None else found.get(attribute, "")


def set_layers(disk: ET.Element, layers: Sequence[Layer]) -> None:
    """All of them, so that nobody reads in the files what lies below."""
    for old in disk.findall("backingStore"):
        disk.remove(old)
    driver, source = disk.find("driver"), disk.find("source")
    if driver is None:
        driver = ET.SubElement(disk, "driver", name="qemu")
    if source is None:
        source = ET.SubElement(disk, "source")
    driver.set("type", layers[0].format.value)
    source.set("file", layers[0].path)
    element = disk
    for layer in layers[1:]:
        element = ET.SubElement(element, "backingStore", type="file")
        ET.SubElement(element, "format", type=layer.format.value)
        ET.SubElement(element, "source", file=layer.path)
    ET.SubElement(element, "backingStore")


def free_name(taken: Sequence[str], prefix: str) -> str:
    """The next name for a disk of a bus: vdb."""
    return next(name for letter in "abcdefghijklmnopqrstuvwxyz" if (name := f"{prefix}{letter}") not in taken)
