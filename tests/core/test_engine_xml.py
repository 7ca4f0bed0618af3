# SPDX-License-Identifier: Apache-2.0
"""The documents a published manager sends: fitted to this host, and given back with all that is the manager's."""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET
from typing import Any

import msgspec
import pytest

from harness.engine_xml import ALIAS, DISK, IMAGE, MAC, document
from harness.memory_host import MemoryHost
from vdsm.contract import host as host_verbs
from vdsm.contract import vm
from vdsm.contract.errors import CannotCreateVM, PathNotAllowed, XmlRefused
from vdsm.contract.vm_info import VmInfo, VmState
from vdsm.core.vm import engine_xml, raw, xml
from vdsm.core.vm.surroundings import Place, Surroundings
from vdsm.drivers.simulated.computer import SimulatedMachine
from vdsm.drivers.simulated.facts import FACTS
from vdsm.drivers.simulated.links import SimulatedLinks

PLACE = Place(os_name="Debian", os_version="12-5", serial="of-this-host", addresses={"ovirtmgmt": "192.0.2.10"})
OVIRT = "{http://ovirt.org/vm/1.0}"


def fitted(place: Place = PLACE, facts: Any = FACTS, **more: str) -> ET.Element:
    root = xml.parse(document("a", str(uuid.uuid4()), "/images/a.raw", **more))
    assert engine_xml.is_engines(root)
    engine_xml.fit(root, facts, place)
    raw.check(root)
    raw.adapt(root, "a", root.findtext("uuid") or "", facts)
    xml.close_screens(root)
    return root


def attribute(root: ET.Element, path: str, name: str) -> str | None:
    found = root.find(path)
    assert found is not None, path
    return found.get(name)


def test_blanks_are_filled() -> None:
    entries = {e.get("name"): e.text for e in fitted().findall("sysinfo/system/entry")}
    assert (entries["product"], entries["version"], entries["serial"]) == ("Debian", "12-5", "of-this-host")
    assert (entries["manufacturer"], entries["sku"]) == ("oVirt", "8.4.0")


def test_a_screen_listens_on_the_networks_own_address() -> None:
    root = fitted()
    assert root.findall("devices/graphics/listen[@type='network']") == []
    assert attribute(root, "devices/graphics/listen", "address") == "192.0.2.10"
    assert (
        attribute(fitted(msgspec.structs.replace(PLACE, addresses={})), "devices/graphics/listen", "address")
        == "127.0.0.1"
    )


def test_a_screen_is_closed_until_a_ticket_opens_it() -> None:
    one, two = (attribute(fitted(), "devices/graphics", "passwd") or "" for _ in range(2))
    assert "*****" not in (one, two)
    assert one != two
    assert len(one) == 8
    assert attribute(fitted(), "devices/graphics", "passwdValidTo") == "1970-01-01T00:00:01"


def test_a_nic_without_a_network_is_plugged_nowhere() -> None:
    nic = fitted().find("devices/interface")
    assert nic is not None
    assert (nic.get("type"), nic.find("source")) == ("ethernet", None)
    assert attribute(fitted(), "devices/interface/filterref", "filter") == "no-mac-spoofing"
    assert attribute(fitted(bridge="br0"), "devices/interface/source", "bridge") == "br0"
    assert attribute(fitted(bridge="br0"), "devices/interface", "type") == "bridge"


def test_sockets_and_programs_are_this_hosts() -> None:
    root = fitted()
    assert root.find("devices/emulator") is None
    assert root.findall("devices/channel/source") == []
    names = [e.get("name") for e in root.findall("devices/channel/target")]
    assert names == ["ovirt-guest-agent.0", "org.qemu.guest_agent.0"]
    console = root.find("devices/console")
    assert console is not None
    assert (console.get("type"), console.find("source")) == ("pty", None)


def test_an_empty_drive_and_shared_storage_labels() -> None:
    root = fitted()
    assert [source.get("file") for source in root.findall("devices/disk/source")] == ["/images/a.raw"]
    assert root.findall("devices/disk/source/seclabel") == []


@pytest.mark.parametrize(("secure", "enabled"), [("no", "no"), ("yes", "yes")])
def test_firmware_is_chosen_by_what_it_does(secure: str, enabled: str) -> None:
    root = fitted(firmware="uefi", secure=secure)
    assert (root.find("os/loader"), root.find("os/nvram")) == (None, None)
    assert attribute(root, "os", "firmware") == "efi"
    assert attribute(root, "os/firmware/feature", "name") == "secure-boot"
    assert attribute(root, "os/firmware/feature", "enabled") == enabled


def test_a_host_without_firmware_says_so() -> None:
    with pytest.raises(CannotCreateVM, match="ovmf"):
        fitted(facts=msgspec.structs.replace(FACTS, firmware=["bios"]), firmware="uefi")


def test_where_the_processor_cannot_the_translator_does() -> None:
    assert fitted().get("type") == "kvm"
    assert fitted(facts=msgspec.structs.replace(FACTS, kvm=False)).get("type") == "qemu"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"devices": "<lease><key>a</key><lockspace>b</lockspace><target path='LEASE-PATH:a:b'/></lease>"}, "leases"),
        ({"devices": "<disk type='file'><source file='LEASE-PATH:a:b'/></disk>"}, "leases"),
        ({"metadata": "<ovirt-vm:device><ovirt-vm:payload/></ovirt-vm:device>"}, "payload"),
        ({"devices": "<hostdev mode='subsystem' type='pci'/>"}, "handed out"),
        ({"devices": "<graphics type='vnc' passwd='secret'/>"}, "setTicket"),
    ],
)
def test_what_is_not_offered_is_refused(more: dict[str, str], says: str) -> None:
    with pytest.raises(XmlRefused, match=says):
        fitted(**more)


def test_other_documents_are_left_alone() -> None:
    assert not engine_xml.is_engines(xml.parse("<domain><metadata/></domain>"))
    assert not engine_xml.is_engines(xml.parse("<domain><metadata><vm xmlns='urn:x'/></metadata></domain>"))


async def test_the_surroundings_are_read() -> None:
    place = await Surroundings(SimulatedMachine(), SimulatedLinks()).look()
    assert (place.os_name, place.os_version) == ("Debian", "12-5")
    assert place.serial == (await SimulatedMachine().setup()).host_uuid
    assert place.addresses["vdsmbr0"] == "192.0.2.10"
    assert "eth0" not in place.addresses  # it has none


# ---- on a host in memory ---------------------------------------------------------------------------------------------


async def create(host: MemoryHost, **more: str) -> tuple[VmInfo, str]:
    """The machine, and its document as dumpxmls gives it back."""
    vm_id = str(uuid.uuid4())
    made = await host.call(vm.create, vmID=vm_id, vmParams={"xml": document("web1", vm_id, "/images/a.raw", **more)})
    assert isinstance(made, VmInfo)
    assert made.vm_id == vm_id
    return made, (await host.call(host_verbs.dumpxmls, vmList=[vm_id]))[vm_id]


async def test_aliases_and_metadata_come_back(host: MemoryHost) -> None:
    _, text = await create(host)
    devices = ET.fromstring(text[text.index("<devices>") : text.index("</devices>") + len("</devices>")])
    disks = {e.findtext("serial"): e for e in devices.findall("disk")}
    assert attribute(disks[DISK], "alias", "name") == ALIAS
    assert attribute(devices, "interface/alias", "name") == f"{ALIAS[:-1]}7"
    assert attribute(devices, "interface/mac", "address") == MAC
    assert all((e.get("name") or "").startswith("ua-") for e in devices.iter("alias"))
    for prefix in ("ovirt-vm:vm", "ovirt-vm:device", "ovirt-tune:qos"):
        assert f"<{prefix}" in text
    kept = ET.fromstring(text).find(f"metadata/{OVIRT}vm")
    assert kept is not None
    assert kept.findtext(f"{OVIRT}clusterVersion") == "4.7"
    assert kept.findtext(f"{OVIRT}resumeBehavior") == "auto_resume"
    assert attribute(kept, f"{OVIRT}minGuaranteedMemoryMb", "type") == "int"


async def test_it_can_be_started_paused(host: MemoryHost) -> None:
    made, _ = await create(host, paused="true")
    assert made.status is VmState.PAUSED


async def test_its_disks_are_known_by_their_images(host: MemoryHost) -> None:
    made, _ = await create(host)
    (stats,) = await host.call(vm.get_stats, vmID=made.vm_id)
    assert {name: disk.image_id for name, disk in stats.disks.items()} == {"vda": IMAGE, "sdc": None}


async def test_the_guests_clock(host: MemoryHost) -> None:
    made, _ = await create(host)
    (stats,) = await host.call(vm.get_stats, vmID=made.vm_id)
    assert stats.time_offset == 7


async def test_paths_are_checked_as_everybodys(host: MemoryHost) -> None:
    vm_id = str(uuid.uuid4())
    with pytest.raises(PathNotAllowed):
        await host.call(vm.create, vmParams={"xml": document("a", vm_id, "/rhev/data-center/a/b/images/c/d")})
    with pytest.raises(PathNotAllowed):
        await host.call(
            vm.create,
            vmParams={
                "xml": document("a", vm_id, "/images/a", devices="<serial type='file'><source path='/etc/x'/></serial>")
            },
        )

