# SPDX-License-Identifier: Apache-2.0
"""Every part a machine can be given in types, on real libvirt and QEMU: what the contract offers, they take."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from harness.daemon import Daemon
from vdsm.client import Host
from vdsm.contract.vm_info import VmState
from vdsm.contract.vm_params import (
    BootDevice,
    CpuMode,
    Disk,
    DiskBus,
    DiskFormat,
    Firmware,
    Graphics,
    Nic,
    NicModel,
    VmParams,
)


@pytest.fixture
def host(daemon: Daemon) -> Iterator[Host]:
    for name, kind in (("a.raw", "raw"), ("b.qcow2", "qcow2"), ("cd.iso", "raw")):
        subprocess.run(["qemu-img", "create", "-q", "-f", kind, str(daemon.images / name), "1M"], check=True)
    daemon.start()
    with daemon.connect() as host:
        yield host


def variants(daemon: Daemon) -> dict[str, VmParams]:
    def machine(**more: Any) -> VmParams:
        return VmParams(name=daemon.name("typed"), memory=64, launch_paused=True, **more)

    raw, qcow2 = str(daemon.images / "a.raw"), str(daemon.images / "b.qcow2")
    return {
        "plain": machine(),
        "bare": machine(graphics=None, serial=False, guest_agent=False),
        "uefi": machine(firmware=Firmware.UEFI),
        "i440fx": machine(machine_type="pc"),
        "disks": machine(
            disks=[Disk(path=raw, bus=DiskBus.VIRTIO), Disk(path=qcow2, format=DiskFormat.QCOW2, bus=DiskBus.SCSI)],
            boot_order=[BootDevice.CDROM, BootDevice.HD, BootDevice.NETWORK],
        ),
        "sata": machine(disks=[Disk(path=raw, bus=DiskBus.SATA, read_only=False)], cdrom=str(daemon.images / "cd.iso")),
        "nics": machine(nics=[Nic(model=model) for model in NicModel]),
        "cpus": machine(vcpus=4, cpu_mode=CpuMode.CUSTOM, cpu_model="qemu64"),
        "host model": machine(cpu_mode=CpuMode.HOST_MODEL),
        "maximum": machine(cpu_mode=CpuMode.MAXIMUM),
        "screen": machine(graphics=Graphics()),
    }


@pytest.mark.parametrize(
    "kind",
    ["plain", "bare", "uefi", "i440fx", "disks", "sata", "nics", "cpus", "host model", "maximum", "screen"],
)
def test_it_starts(daemon: Daemon, host: Host, kind: str) -> None:
    made = host.vm.create(variants(daemon)[kind])
    assert made.status is VmState.PAUSED
    assert made.firmware == ("uefi" if kind == "uefi" else "bios")
    host.vm.destroy(made.vm_id)
    assert daemon.domains() == {}
