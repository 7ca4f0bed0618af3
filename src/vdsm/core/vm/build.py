# SPDX-License-Identifier: Apache-2.0
"""VmParams -> domain XML. Pure: what the host offers comes in as facts."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from vdsm.contract.errors import CannotCreateVM
from vdsm.contract.vm_params import CpuMode, Disk, DiskBus, DiskFormat, Firmware, Nic, NicKind, VmParams
from vdsm.core.ports.hypervisor import HypervisorFacts

from . import xml

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_PORTS = 14  # on q35 each device takes one, and of itself libvirt leaves but one for what is plugged in later
PREFIX = {DiskBus.VIRTIO: "vd", DiskBus.SCSI: "sd", DiskBus.SATA: "sd"}


def domain(params: VmParams, vm_id: str, facts: HypervisorFacts) -> ET.Element:
    """The domain a caller described in types. Raises CannotCreateVM for what this host does not offer."""
    assert params.name is not None
    assert params.memory is not None
    root = ET.Element("domain", type="kvm" if facts.kvm else "qemu")
    _text(root, "name", params.name)
    _text(root, "uuid", vm_id)
    _text(root, "memory", str(params.memory), unit="MiB")
    _text(root, "vcpu", str(params.vcpus))
    _os(root, params, facts)
    features = ET.SubElement(root, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    _cpu(root, params, facts)
    ET.SubElement(root, "clock", offset="utc")
    _text(root, "on_poweroff", "destroy")
    _text(root, "on_reboot", "restart")
    _text(root, "on_crash", "destroy")
    _devices(root, params)
    return root


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element


def _os(root: ET.Element, params: VmParams, facts: HypervisorFacts) -> None:
    machine = params.machine_type or ("q35" if "q35" in facts.machine_types else facts.default_machine)
    if machine not in facts.machine_types:
        raise CannotCreateVM(reason=f"this host has no machine type {machine}; see emulatedMachines of the host")
    os = ET.SubElement(root, "os")
    _text(os, "type", "hvm", arch=facts.arch, machine=machine)
    if params.firmware is Firmware.UEFI:
        if Firmware.UEFI.value not in facts.firmware:
            raise CannotCreateVM(reason="this host has no UEFI firmware; install the package ovmf")
        xml.choose_uefi(os, secure=False)
    for tag, value in (("kernel", params.kernel), ("initrd", params.initrd), ("cmdline", params.cmdline)):
        if value:
            _text(os, tag, value)
    for device in params.boot_order:
        ET.SubElement(os, "boot", dev=device.value)


def _cpu(root: ET.Element, params: VmParams, facts: HypervisorFacts) -> None:
    if params.cpu_mode is CpuMode.CUSTOM:
        assert params.cpu_model is not None
        if params.cpu_model not in facts.custom_cpu_models:
            raise CannotCreateVM(reason=f"this host cannot offer a CPU {params.cpu_model}; see cpuFlags of the host")
        cpu = ET.SubElement(root, "cpu", mode="custom", match="exact")
        _text(cpu, "model", params.cpu_model, fallback="forbid")
        return
    translated = params.cpu_mode is CpuMode.HOST_PASSTHROUGH and not facts.kvm  # QEMU's translator has no host CPU
    ET.SubElement(root, "cpu", mode=CpuMode.MAXIMUM.value if translated else params.cpu_mode.value)


def _devices(root: ET.Element, params: VmParams) -> None:
    devices = ET.SubElement(root, "devices")
    kind = root.find("os/type")
    if kind is not None and "q35" in kind.get("machine", ""):
        ET.SubElement(devices, "controller", type="pci", index="0", model="pcie-root")
        for _ in range(_PORTS):
            ET.SubElement(devices, "controller", type="pci", model="pcie-root-port")
    names = {prefix: map(prefix.__add__, _LETTERS) for prefix in ("vd", "sd")}
    for disk in params.disks:
        add_disk(devices, disk, next(names[PREFIX[disk.bus]]))
    if any(disk.bus is DiskBus.SCSI for disk in params.disks):
        ET.SubElement(devices, "controller", type="scsi", model="virtio-scsi")
    _cdrom(devices, params.cdrom, next(names["sd"]))
    for nic in params.nics:
        _nic(devices, nic)
    if params.serial:
        ET.SubElement(ET.SubElement(devices, "serial", type="pty"), "target", port="0")
        ET.SubElement(ET.SubElement(devices, "console", type="pty"), "target", type="serial", port="0")
    if params.guest_agent:
        channel = ET.SubElement(devices, "channel", type="unix")
        ET.SubElement(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    if params.graphics is not None:
        graphics = ET.SubElement(devices, "graphics", type=params.graphics.kind.value, autoport="yes")
        ET.SubElement(graphics, "listen", type="address", address="127.0.0.1")
        ET.SubElement(ET.SubElement(devices, "video"), "model", type="vga")
        ET.SubElement(devices, "input", type="tablet", bus="usb")
    ET.SubElement(ET.SubElement(devices, "memballoon", model="virtio"), "stats", period="10")
    _text(ET.SubElement(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")


def add_disk(devices: ET.Element, disk: Disk, name: str) -> None:
    image_format = disk.format or DiskFormat.RAW
    element = ET.SubElement(devices, "disk", type="file", device="disk")
    ET.SubElement(
        element, "driver", name="qemu", type=image_format.value, cache="none", error_policy="stop", discard="unmap"
    )
    ET.SubElement(element, "source", file=disk.path)
    if image_format is DiskFormat.RAW:
        ET.SubElement(element, "backingStore")  # a raw file has none, whatever a guest writes into its first sector
    ET.SubElement(element, "target", dev=name, bus=disk.bus.value)
    if disk.read_only:
        ET.SubElement(element, "readonly")


def _cdrom(devices: ET.Element, path: str | None, name: str) -> None:
    element = ET.SubElement(devices, "disk", type="file", device="cdrom")
    ET.SubElement(element, "driver", name="qemu", type="raw")
    if path:
        ET.SubElement(element, "source", file=path)
    ET.SubElement(element, "target", dev=name, bus="sata")
    ET.SubElement(element, "readonly")


def _nic(devices: ET.Element, nic: Nic) -> None:
    element = ET.SubElement(devices, "interface", type=nic.kind.value)
    if nic.mac:
        ET.SubElement(element, "mac", address=nic.mac)
    if nic.kind is not NicKind.USER and nic.source:
        ET.SubElement(element, "source", {nic.kind.value: nic.source})
    ET.SubElement(element, "model", type=nic.model.value)
