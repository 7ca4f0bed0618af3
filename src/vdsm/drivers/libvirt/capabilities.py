# SPDX-License-Identifier: Apache-2.0
"""What this host's hypervisor offers, out of libvirt's capability documents. Every function blocks."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import libvirt
import msgspec

from vdsm.core.ports.hypervisor import CpuPlace, HypervisorFacts, NumaCell

# Later directories override earlier ones, as docs/interop/firmware.json of QEMU says.
_FIRMWARE = (Path("/usr/share/qemu/firmware"), Path("/etc/qemu/firmware"))
_DESCRIPTION_MAX = 1 << 20
_UNWANTED = {"secure-boot", "enrolled-keys", "requires-smm"}  # they want more of the machine than a plain guest has


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be known before KVM can be tried."""

    host: str  # the capabilities document
    arch: str
    kvm: bool  # libvirt would take a domain of type kvm


class KvmVerdict(msgspec.Struct, frozen=True, kw_only=True):
    works: bool
    reason: str = ""


class _File(msgspec.Struct):
    filename: str


class _Mapping(msgspec.Struct, rename="kebab"):
    device: str
    executable: _File | None = None
    nvram_template: _File | None = None


class _Target(msgspec.Struct):
    architecture: str


class _Firmware(msgspec.Struct, rename="kebab"):
    """A description by QEMU's schema of firmware images."""

    interface_types: list[str]
    mapping: _Mapping
    targets: list[_Target]
    features: list[str] = []


def offer(conn: libvirt.virConnect) -> Offer:
    document = conn.getCapabilities()
    root = ET.XML(document)
    arch = root.findtext("host/cpu/arch", "")
    kvm = root.find(f"guest/arch[@name='{arch}']/domain[@type='kvm']") is not None
    return Offer(host=document, arch=arch, kvm=kvm)


def facts(conn: libvirt.virConnect, offered: Offer, kvm: KvmVerdict) -> HypervisorFacts:
    host = ET.XML(offered.host)
    domain = ET.XML(conn.getDomainCapabilities(None, offered.arch, None, "kvm" if kvm.works else "qemu"))
    uefi_code, uefi_vars = _uefi(offered.arch)
    has_uefi = any(value.text == "efi" for value in domain.findall("os/enum[@name='firmware']/value"))
    return HypervisorFacts(
        libvirt_version=_version(conn.getLibVersion()),
        qemu_version=_version(conn.getVersion()),
        arch=offered.arch,
        kvm=kvm.works,
        kvm_reason=kvm.reason,
        machine_types=_machines(host, offered.arch),
        default_machine=domain.findtext("machine", ""),
        cpu_model=host.findtext("host/cpu/model", ""),
        cpu_vendor=host.findtext("host/cpu/vendor", ""),
        cpu_features=sorted({f.get("name", "") for f in host.findall("host/cpu/feature")}),
        custom_cpu_models=sorted(m.text or "" for m in domain.findall("cpu/mode[@name='custom']/model[@usable='yes']")),
        firmware=["bios", "uefi"] if has_uefi else ["bios"],
        uefi_code=uefi_code if has_uefi else "",
        uefi_vars=uefi_vars if has_uefi else "",
        numa_cells=[_cell(cell) for cell in host.findall("host/topology/cells/cell")],
    )


def _version(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def _machines(host: ET.Element, arch: str) -> list[str]:
    """Names and their aliases, each once."""
    found = host.findall(f"guest/arch[@name='{arch}']/machine")
    found += host.findall(f"guest/arch[@name='{arch}']/domain/machine")
    return sorted({machine.text for machine in found if machine.text})


def _cell(cell: ET.Element) -> NumaCell:
    return NumaCell(
        id=_number(cell, "id"),
        memory_kib=int(cell.findtext("memory", "0")),
        cpus=[
            CpuPlace(cpu_id=_number(c, "id"), socket_id=_number(c, "socket_id"), core_id=_number(c, "core_id"))
            for c in cell.findall("cpus/cpu")
        ],
        distances=[_number(sibling, "value") for sibling in cell.findall("distances/sibling")],
    )


def _number(element: ET.Element, name: str) -> int:
    return int(element.get(name, "0"))


def _uefi(arch: str) -> tuple[str, str]:
    """Code and variable template of the first plain UEFI described on this host; empty without."""
    described: dict[str, Path] = {}
    for directory in _FIRMWARE:
        if directory.is_dir():
            described |= {path.name: path for path in directory.glob("*.json")}
    for _, path in sorted(described.items()):
        try:
            if path.stat().st_size > _DESCRIPTION_MAX:
                continue
            one = msgspec.json.decode(path.read_bytes(), type=_Firmware)
        except (OSError, msgspec.DecodeError):
            continue  # an empty file stands for "not this one", as the schema says
        code, variables = one.mapping.executable, one.mapping.nvram_template
        plain = "uefi" in one.interface_types and one.mapping.device == "flash" and not _UNWANTED & set(one.features)
        if plain and code and variables and arch in [target.architecture for target in one.targets]:
            return code.filename, variables.filename
    return "", ""
