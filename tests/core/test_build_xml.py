# SPDX-License-Identifier: Apache-2.0
"""VmParams become a domain that says what was asked, whatever the values hold."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdsm.contract.errors import CannotCreateVM
from vdsm.contract.vm_params import (
    BootDevice,
    CpuMode,
    Disk,
    DiskBus,
    DiskFormat,
    Firmware,
    Nic,
    NicKind,
    NicModel,
    VmParams,
)  # fmt: skip
from vdsm.core.ports.hypervisor import HypervisorFacts
from vdsm.core.vm import build, xml
from vdsm.core.vm.describe import view
from vdsm.drivers.simulated.facts import FACTS

VM_ID = "5f0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11"
TCG = HypervisorFacts(**{f: getattr(FACTS, f) for f in FACTS.__struct_fields__} | {"kvm": False})

paths = st.from_regex(r"/images/[^\x00-\x1f\x7f]{1,20}", fullmatch=True)
disks = st.builds(Disk, path=paths, format=st.sampled_from(DiskFormat), bus=st.sampled_from(DiskBus))
nics = st.one_of(
    st.builds(Nic, model=st.sampled_from(NicModel)),
    st.builds(Nic, kind=st.just(NicKind.BRIDGE), source=st.just("br0")),
    st.builds(Nic, kind=st.just(NicKind.NETWORK), source=st.just("default")),
)
params = st.builds(
    VmParams,
    name=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,20}", fullmatch=True),
    memory=st.integers(16, 16_777_216),
    vcpus=st.integers(1, 710),
    disks=st.lists(disks, max_size=24),
    nics=st.lists(nics, max_size=4),
    firmware=st.sampled_from(Firmware),
    kernel=st.just("/images/vmlinuz"),
    cmdline=st.from_regex(r"[^\x00-\x1f\x7f]{0,40}", fullmatch=True).filter(lambda t: all(ord(c) < 0xD800 for c in t)),
    boot_order=st.lists(st.sampled_from(BootDevice), unique=True),
)


@given(params)
def test_what_was_asked_is_what_it_says(wanted: VmParams) -> None:
    root = ET.fromstring(xml.text_of(build.domain(wanted, VM_ID, FACTS)))
    assert root.findtext("name") == wanted.name
    assert root.findtext("uuid") == VM_ID
    seen = view(xml.text_of(root))
    assert (seen.memory, seen.vcpus, seen.firmware) == (wanted.memory, wanted.vcpus, wanted.firmware.value)
    assert (root.findtext("os/cmdline") or "") == wanted.cmdline
    files = [d.path for d in seen.devices if d.type == "disk" and d.device == "disk"]
    assert files == [d.path for d in wanted.disks]
    formats = [d.format for d in seen.devices if d.device == "disk"]
    assert formats == [d.format.value for d in wanted.disks]
    targets = [d.name for d in seen.devices if d.type == "disk"]
    assert len(targets) == len(set(targets))
    assert [b.get("dev") for b in root.findall("os/boot")] == [b.value for b in wanted.boot_order]
    assert len(root.findall("devices/interface")) == len(wanted.nics)


def test_where_kvm_does_not_run_guests_the_translator_does() -> None:
    root = build.domain(VmParams(name="a", memory=64), VM_ID, TCG)
    assert root.get("type") == "qemu"
    cpu = root.find("cpu")
    assert cpu is not None
    assert cpu.get("mode") == "maximum"


@pytest.mark.parametrize("kind", ["vnc", "spice"])
def test_nobody_sees_the_screen_before_a_ticket(kind: str) -> None:
    root = ET.fromstring(f"<domain><devices><graphics type='{kind}'/></devices></domain>")
    xml.close_screens(root)
    graphics = root.find("devices/graphics")
    assert graphics is not None
    assert graphics.get("passwdValidTo", "").startswith("1970")
    assert len(graphics.get("passwd", "")) == 8


def test_a_screen_is_on_the_loopback_only() -> None:
    listen = build.domain(VmParams(name="a", memory=64), VM_ID, FACTS).find("devices/graphics/listen")
    assert listen is not None
    assert listen.get("address") == "127.0.0.1"


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (VmParams(name="a", memory=64, machine_type="z"), "machine type z"),
        (VmParams(name="a", memory=64, cpu_mode=CpuMode.CUSTOM, cpu_model="Z80"), "Z80"),
    ],
)
def test_what_the_host_does_not_offer_is_refused(wanted: VmParams, says: str) -> None:
    with pytest.raises(CannotCreateVM, match=says):
        build.domain(wanted, VM_ID, FACTS)


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("<memory>1048576</memory>", 1024),
        ("<memory unit='KiB'>2048</memory>", 2),
        ("<memory unit='GiB'>2</memory>", 2048),
        ("<memory unit='bytes'>1048576</memory>", 1),
        ("<memory unit='MB'>1049</memory>", 1000),
        ("<memory/>", 0),
        ("<memory>many</memory>", 0),
        ("", 0),
    ],
)
def test_memory_in_any_unit(text: str, mib: int) -> None:
    assert xml.memory_mib(ET.fromstring(f"<domain>{text}</domain>")) == mib
