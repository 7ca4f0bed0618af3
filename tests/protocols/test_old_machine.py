# SPDX-License-Identifier: Apache-2.0
"""Machines in the old form become the contract's, or are refused with the place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdsm.contract import VERBS
from vdsm.contract.codec import from_plain
from vdsm.contract.errors import InvalidParams, InvalidRequest
from vdsm.contract.vm_params import (
    BootDevice,
    CpuMode,
    Disk,
    DiskBus,
    DiskFormat,
    Graphics,
    Nic,
    NicKind,
    NicModel,
    VmParams,
)
from vdsm.protocols.dialect import XMLRPC, DialectError, table

ID = "5f0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11"
LEAST = {"vmId": ID, "vmName": "old", "memSize": 256}


def read(**given: Any) -> VmParams:
    """As the bridge gets it."""
    arguments = XMLRPC.arguments("VM.create", {"vmParams": LEAST | given})
    assert arguments["vmID"] == ID
    return from_plain(arguments["vmParams"], VmParams, text_numbers=True)


def test_the_least() -> None:
    assert read() == VmParams(name="old", memory=256)


def test_what_a_script_of_old_sends() -> None:
    made = read(
        memSize="512", smp="2", maxVCpus="4", vmType="kvm", kvmEnable="true", acpiEnable="true", tabletEnable="true",
        transparentHugePages="true", nice="0", display="vnc", displayIp="0", keyboardLayout="en-us", timeOffset="0",
        emulatedMachine="pc", cpuType="qemu64", kernel="/images/k", initrd="/images/i", kernelArgs="console=ttyS0",
        launchPaused="true", boot="cdn", nicModel="pv,rtl8139", macAddr="52:54:00:AA:00:01,52:54:00:aa:00:02",
        bridge="br0,br1", cdrom="/images/cd.iso", floppy="", custom={}, spiceSecureChannels="",
        drives=[
            {"path": "/images/a.qcow2", "format": "cow", "iface": "virtio", "device": "disk", "index": 0},
            {"file": "/images/b.raw", "format": "raw", "if": "ide", "readonly": "true"},
        ],
    )  # fmt: skip
    assert made == VmParams(
        name="old", memory=512, vcpus=2, cpu_mode=CpuMode.CUSTOM, cpu_model="qemu64", machine_type="pc",
        kernel="/images/k", initrd="/images/i", cmdline="console=ttyS0", launch_paused=True, cdrom="/images/cd.iso",
        boot_order=[BootDevice.HD, BootDevice.CDROM, BootDevice.NETWORK],
        nics=[
            Nic(kind=NicKind.BRIDGE, source="br0", mac="52:54:00:aa:00:01", model=NicModel.VIRTIO),
            Nic(kind=NicKind.BRIDGE, source="br1", mac="52:54:00:aa:00:02", model=NicModel.RTL8139),
        ],
        disks=[
            Disk(path="/images/a.qcow2", format=DiskFormat.QCOW2, bus=DiskBus.VIRTIO),
            Disk(path="/images/b.raw", format=DiskFormat.RAW, bus=DiskBus.SATA, read_only=True),
        ],
    )  # fmt: skip


def test_a_drive_of_the_storage_is_meant_by_its_ids() -> None:
    drive = {"poolID": ID, "domainID": ID, "imageID": ID, "volumeID": ID, "format": "cow", "iface": "virtio"}
    (disk,) = read(memSize="64", drives=[drive]).disks
    assert disk == Disk(path=f"{ID}/{ID}/{ID}", format=DiskFormat.QCOW2, bus=DiskBus.VIRTIO)
    del drive["domainID"]
    (disk,) = read(memSize="64", drives=[drive]).disks
    assert disk == Disk(path=ID, volume=ID, format=DiskFormat.QCOW2, bus=DiskBus.VIRTIO)


def test_devices_say_the_same() -> None:
    made = read(
        devices=[
            {"type": "disk", "device": "disk", "path": "/images/a.raw", "format": "raw", "iface": "scsi"},
            {"type": "disk", "device": "cdrom", "path": "/images/cd.iso", "iface": "ide"},
            {"type": "disk", "device": "cdrom", "path": ""},
            {
                "type": "interface",
                "device": "bridge",
                "network": "br0",
                "nicModel": "pv",
                "macAddr": "52:54:00:aa:00:01",
            },
            {"type": "interface", "device": "bridge", "nicModel": "pv"},
            {"type": "graphics", "device": "vnc"},
            {"type": "video", "device": "qxl"},
            {"type": "balloon", "device": "memballoon", "specParams": {"model": "virtio"}},
            {"type": "console", "device": "console"},
        ]
    )
    assert made == VmParams(
        name="old", memory=256, cdrom="/images/cd.iso", graphics=Graphics(),
        disks=[Disk(path="/images/a.raw", format=DiskFormat.RAW, bus=DiskBus.SCSI)],
        nics=[Nic(kind=NicKind.BRIDGE, source="br0", mac="52:54:00:aa:00:01"), Nic(kind=NicKind.USER)],
    )  # fmt: skip


def test_hard_disks_by_letter_and_a_network_without_a_bridge() -> None:
    made = read(hda="/images/a.raw", hdb="", nicModel="e1000")
    assert made.disks == [Disk(path="/images/a.raw", bus=DiskBus.SATA)]
    assert made.nics == [Nic(model=NicModel.E1000)]


def test_empty_texts_mean_nothing() -> None:
    assert (
        read(kernel="", initrd="", kernelArgs="", cdrom="", bridge="", nicModel="", macAddr="", cpuType="", display="")
        == read()
    )


@pytest.mark.parametrize(("word", "mode"), [("hostPassthrough", "host-passthrough"), ("hostModel", "host-model")])
def test_the_hosts_own_processor(word: str, mode: str) -> None:
    made = read(cpuType=word)
    assert (made.cpu_mode.value, made.cpu_model) == (mode, None)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"display": "qxl"}, "display"),
        ({"nicModel": "pv,ne2k"}, "nicModel"),
        ({"boot": "ca"}, "boot"),
        ({"cpuType": "qemu64,+vmx"}, "cpuType"),
        ({"floppy": "/images/f.img"}, "floppy"),
        ({"timeOffset": "3600"}, "timeOffset"),
        ({"drives": "x"}, "drives"),
        ({"drives": [{"device": "floppy", "path": "/images/f"}]}, "drives[0].device"),
        ({"drives": [{"poolID": ID, "domainID": ID, "volumeID": ID}]}, "drives[0]"),
        ({"drives": [{"path": "/images/a", "format": "vmdk"}]}, "drives[0].format"),
        ({"drives": [{"path": "/images/a", "iface": ["ide"]}]}, "drives[0].iface"),
        ({"devices": [{"type": "video"}, {"type": "hostdev"}]}, "devices[1].type"),
        ({"devices": [{"type": "graphics", "device": "spice"}]}, "display"),
        ({"devices": [5]}, "devices"),
    ],
)
def test_what_is_not_offered_is_refused_with_its_place(given: dict[str, Any], path: str) -> None:
    with pytest.raises(DialectError) as error:
        read(**given)
    assert error.value.path == f"$.vmParams.{path}"


def test_fields_of_the_contract_stay() -> None:
    assert read(guestAgent=False, serial=False) == VmParams(name="old", memory=256, guest_agent=False, serial=False)


@pytest.mark.parametrize("value", ["x", 5, [], [{}]])
def test_what_is_no_struct_is_left_to_the_bridge(value: object) -> None:
    assert XMLRPC.arguments("VM.create", {"vmParams": value}) == {"vmParams": value}


PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=6,
)
WORDS = table().machine
FIELDS = st.sampled_from(
    [
        "boot", "display", "cpuType", "bridge", "nicModel", "macAddr", "drives", "hda", "devices", "xml",
        *WORDS.names, *WORDS.only, *WORDS.ignored[:3],
    ]
)  # fmt: skip
DEVICE = st.dictionaries(
    st.sampled_from(["type", "device", "path", "format", "iface", "readonly", "network", "nicModel", "macAddr"]),
    PLAIN | st.sampled_from(["disk", "interface", "graphics", "cdrom", "raw"]),
)


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(FIELDS, PLAIN | st.lists(DEVICE, max_size=3)))
def test_any_struct_is_a_machine_or_a_refusal(struct: dict[str, Any]) -> None:
    try:
        arguments = XMLRPC.arguments("VM.create", {"vmParams": struct})
        from_plain(arguments, VERBS["VM.create"].params, text_numbers=True)
    except (DialectError, InvalidParams, InvalidRequest):
        pass
