# SPDX-License-Identifier: Apache-2.0
"""What published callers send, made into the contract's arguments; and the table it follows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from harness.memory_host import ADMIN, MemoryHost
from vdsm.contract import VERBS, vm
from vdsm.contract.codec import to_json, to_plain
from vdsm.protocols.dialect import JSONRPC, TASK_ID, XMLRPC, Dialect, DialectError, table

ID = "5f0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11"


@pytest.fixture
async def host() -> AsyncIterator[MemoryHost]:
    made = MemoryHost(None)
    await made.open()
    yield made
    await made.close()


async def said(host: MemoryHost, method: str, dialect: Dialect = JSONRPC, **params: object) -> Any:
    """A verb's answer as it stands in the JSON that is sent."""
    plain = to_plain(await host.call(VERBS[method], **params))
    return json.loads(to_json(dialect.result(method, plain)))


# ---- arguments -------------------------------------------------------------------------------------------------------


def test_arguments_by_position_and_by_name() -> None:
    wanted = {"vmID": ID, "delay": 30, "message": "bye", "reboot": True}
    assert JSONRPC.arguments("VM.shutdown", [ID, 30, "bye", True]) == wanted
    assert JSONRPC.arguments("VM.shutdown", wanted | {"timeout": None}) == wanted
    assert JSONRPC.arguments("VM.rename", [ID, "b"], ["vmID", "name"]) == {"vmID": ID, "name": "b"}
    with pytest.raises(DialectError, match="at most 0"):
        JSONRPC.arguments("Host.ping", [1])


def test_a_lease_is_a_struct_of_its_ids() -> None:
    named, other = {"sd_id": ID, "lease_id": ID}, {"type": "JOB"}
    for given in ([named, other], {"lease": named, "metadata": other}):
        assert JSONRPC.arguments("Lease.create", given) == {**named, "metadata": other}
    assert JSONRPC.arguments("Lease.info", [named]) == named
    assert JSONRPC.arguments("Lease.info", {"lease": named | {"more": 1}}) == {**named, "lease": {"more": 1}}
    assert JSONRPC.early("Lease.delete") == TASK_ID


def test_numbers_where_the_published_type_is_text_become_text() -> None:
    assert JSONRPC.arguments("Host.echo", [5]) == {"message": "5"}
    assert JSONRPC.arguments("VM.setTicket", {"vmID": ID, "password": 1234, "ttl": "60"}) == {
        "vmID": ID, "password": "1234", "ttl": "60",
    }  # fmt: skip


async def test_text_is_taken_for_numbers(host: MemoryHost) -> None:
    made = await host.create("a", guestAgent=False)
    params = JSONRPC.arguments(
        "VM.shutdown",
        {"vmID": made.vm_id, "delay": "0", "message": "m", "reboot": "false", "timeout": "20", "force": None},
    )
    await host.bridge.call(vm.shutdown, params, ADMIN, text_numbers=True)
    assert (await said(host, "VM.getInfo", vmID=made.vm_id))["status"] == "Down"


@pytest.mark.parametrize(
    "spec", ["/images/a.iso", {"path": "/images/a.iso"}, {"iface": "ide", "index": "2", "path": "/images/a.iso"}]
)
def test_a_disc_is_its_path(spec: object) -> None:
    assert JSONRPC.arguments("VM.changeCD", {"vmID": ID, "driveSpec": spec})["driveSpec"] == "/images/a.iso"


VOLUME = {"domainID": ID, "imageID": ID, "volumeID": ID}


@pytest.mark.parametrize("spec", [VOLUME, {"iface": "sata", "index": 2, "drive_spec": {**VOLUME, "poolID": ID}}])
def test_a_disc_in_a_storage_domain_is_the_ids_of_its_volume(spec: object) -> None:
    assert JSONRPC.arguments("VM.changeCD", {"vmID": ID, "driveSpec": spec})["driveSpec"] == f"{ID}/{ID}/{ID}"
    ejected = {"vmID": ID, "driveSpec": {"iface": "sata", "index": 2, "drive_spec": {}}}
    assert JSONRPC.arguments("VM.changeCD", ejected)["driveSpec"] == ""


def test_a_volume_is_its_ids_whatever_is_said_beside_them() -> None:
    said = {**VOLUME, "poolID": ID, "device": "disk"}
    wanted = {**VOLUME, "poolID": ID}
    merge = {"vmID": ID, "drive": said, "baseVolUUID": ID, "topVolUUID": ID, "bandwidth": "0", "jobUUID": ID}
    assert JSONRPC.arguments("VM.merge", merge)["drive"] == wanted
    grow = JSONRPC.arguments("VM.diskSizeExtend", {"vmID": ID, "driveSpecs": said, "newSize": "4096"})
    assert grow == {"vmID": ID, "driveSpecs": wanted, "newSize": "4096"}
    assert XMLRPC.arguments("VM.getDiskAlignment", {"vmID": ID, "disk": said})["disk"] == wanted


def test_a_disk_is_plugged_in_the_old_form_and_in_a_managers() -> None:
    drive = {**VOLUME, "poolID": ID, "device": "disk", "format": "cow", "iface": "virtio", "index": 1, "shared": "none"}
    old = {"params": {"vmId": ID, "drive": drive}}
    disk = {"path": f"{ID}/{ID}/{ID}", "format": "qcow2", "bus": "virtio"}
    assert JSONRPC.arguments("VM.hotplugDisk", old) == {"vmID": ID, "params": {"disk": disk}}
    assert JSONRPC.arguments("VM.hotunplugDisk", old) == {"vmID": ID, "params": {"disk": disk}}
    new = {"params": {"vmId": ID, "xml": "<hotplug/>", "drive": None}}
    assert JSONRPC.arguments("VM.hotplugDisk", new) == {"vmID": ID, "params": {"xml": "<hotplug/>"}}
    with pytest.raises(DialectError) as error:
        JSONRPC.arguments("VM.hotplugDisk", {"params": {"vmId": ID, "drive": {"GUID": "3600"}}})
    assert error.value.path == "$.params.drive"


def test_a_disc_that_is_not_wholly_named_is_refused_with_its_place() -> None:
    spec = {"iface": "ide", "index": "2", "drive_spec": {"poolID": ID, "domainID": ID}}
    with pytest.raises(DialectError) as error:
        JSONRPC.arguments("VM.changeCD", {"vmID": ID, "driveSpec": spec})
    assert error.value.path == "$.driveSpec"


def test_a_machine_in_xml_is_that_alone() -> None:
    inside = {"vmId": ID, "xml": "<domain/>", "vmName": "a", "memSize": 64, "kvmEnable": "true"}
    given = dict(inside)
    assert JSONRPC.arguments("VM.create", {"vmID": ID, "vmParams": given}) == {
        "vmID": ID, "vmParams": {"xml": "<domain/>"},
    }  # fmt: skip
    assert given == inside


def test_what_a_machine_in_xml_needs_beside_it_is_not_dropped() -> None:
    params = {"vmID": ID, "vmParams": {"xml": "<domain/>", "memoryDumpVolume": {"poolID": ID}}}
    assert "memoryDumpVolume" in JSONRPC.arguments("VM.create", params)["vmParams"]


# ---- the table -------------------------------------------------------------------------------------------------------


def test_every_shape_in_the_table_can_be_made() -> None:
    for method, verb in table().verbs.items():
        for dialect in (JSONRPC, XMLRPC):
            dialect.result(method, [] if isinstance(verb.gives, list) else {})
            dialect.arguments(method, {name: "" for name in verb.takes if verb.takes[name] != "machine"})


def test_published_parameters_are_those_of_the_contract() -> None:
    """A verb of both has the published names, but for structs that are taken apart: old callers are understood."""
    for method, verb in table().verbs.items():
        if method in VERBS:
            mine = set(VERBS[method].params.__struct_encode_fields__)
            apart = {struct for struct, _ in verb.lift.values()} - mine
            assert (set(verb.params) - apart) | (set(verb.lift) if apart else set()) == mine, method
