# SPDX-License-Identifier: Apache-2.0
"""A published manager's document and an old script's struct, on real libvirt, over the old wire."""

from __future__ import annotations

import re
import uuid
import xml.etree.ElementTree as ET
import xmlrpc.client
from collections.abc import Iterator
from typing import Any

import pytest

from harness.daemon import Daemon
from harness.engine_xml import ALIAS, DISK, IMAGE, document
from harness.machines import halting_rom
from harness.until import until
from vdsm.contract.events import VMStatus

RUNNING = ("Up", "Powering up")


@pytest.fixture
def host(daemon: Daemon) -> Iterator[Any]:
    daemon.configure('[plain]\nlisten = "127.0.0.1"\nport = 0\nrole = "admin"\n')
    daemon.start()
    until("it says where it serves", lambda: "http://" in daemon.said())
    port = int(re.findall(r"http://127\.0\.0\.1:(\d+)", daemon.said())[-1])
    with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{port}/RPC2") as proxy:
        yield proxy


@pytest.fixture
def disk(daemon: Daemon) -> str:
    file = daemon.images / "a.raw"
    file.write_bytes(bytes(1 << 20))
    file.chmod(0o666)
    return f"{file}"


def good(answer: Any) -> Any:
    assert answer["status"] == {"code": 0, "message": "Done"}, answer
    return answer


def stats(host: Any, vm_id: str) -> Any:
    (row,) = good(host.getVmStats(vm_id))["statsList"]
    return row


def wait_until_running(host: Any, vm_id: str) -> Any:
    until("it runs", lambda: stats(host, vm_id)["status"] in RUNNING)
    until("it was sampled", lambda: stats(host, vm_id)["disks"])
    return stats(host, vm_id)


@pytest.mark.parametrize("more", [{}, {"firmware": "uefi"}, {"firmware": "uefi", "secure": "yes"}], ids=str)
def test_a_managers_document_runs(daemon: Daemon, host: Any, disk: str, more: dict[str, str]) -> None:
    vm_id = str(uuid.uuid4())
    made = good(host.create({"vmId": vm_id, "xml": document(daemon.name("e"), vm_id, disk, **more)}))["vmList"]
    assert (made["vmId"], made["status"]) == (vm_id, "WaitForLaunch")
    row = wait_until_running(host, vm_id)
    assert row["disks"]["vda"]["imageID"] == IMAGE
    assert row["disks"]["vda"]["apparentsize"] == f"{1 << 20}"
    assert [(display["type"], display["ipAddress"]) for display in row["displayInfo"]] == [("vnc", "127.0.0.1")]
    assert row["timeOffset"] == "7"
    (text,) = good(host.Host.dumpxmls([vm_id]))["domxmls"].values()
    devices = ET.fromstring(text[text.index("<devices>") : text.index("</devices>") + len("</devices>")])
    (found,) = [e for e in devices.findall("disk") if e.findtext("serial") == DISK]
    alias, address = found.find("alias"), found.find("address")
    assert alias is not None
    assert alias.get("name") == ALIAS
    assert address is not None
    assert address.get("type") == "pci"
    assert "ovirt-vm:clusterVersion" in text
    assert not re.search("passwd *=", text)
    assert "OS-NAME:" not in text
    assert "HOST-SERIAL:" not in text
    good(host.setVmTicket(vm_id, "secret", "60"))
    assert stats(host, vm_id)["hash"] == row["hash"]
    good(host.destroy(vm_id))
    assert not daemon.domains()


def test_a_managers_document_starts_paused(daemon: Daemon, host: Any, disk: str) -> None:
    vm_id = str(uuid.uuid4())
    good(host.create({"vmId": vm_id, "xml": document(daemon.name("e"), vm_id, disk, paused="true")}))
    until("it is paused", lambda: stats(host, vm_id)["status"] == "Paused")
    good(host.cont(vm_id))
    wait_until_running(host, vm_id)
    good(host.destroy(vm_id))


def test_a_struct_of_old_runs(daemon: Daemon, host: Any, disk: str) -> None:
    vm_id = str(uuid.uuid4())
    rom = halting_rom(daemon.images)
    good(
        host.create(
            {
                "vmId": vm_id, "vmName": daemon.name("o"), "memSize": "64", "smp": "1", "kvmEnable": "true",
                "vmType": "kvm", "display": "vnc", "emulatedMachine": "pc", "cpuType": "qemu64", "nicModel": "pv",
                "boot": "c", "drives": [{"path": disk, "format": "raw", "iface": "virtio"}], "cdrom": f"{rom}",
            }
        )
    )  # fmt: skip
    row = wait_until_running(host, vm_id)
    assert row["disks"].keys() == {"vda", "sda"}
    good(host.destroy(vm_id))
    assert not daemon.domains()


def test_typed_firmware_runs(daemon: Daemon, host: Any) -> None:
    params = {"name": daemon.name("u"), "memory": 128, "firmware": "uefi", "guestAgent": False}
    vm_id = good(host.VM.create({"vmParams": params}))["vmList"]["vmId"]
    wait_until_running(host, vm_id)
    good(host.destroy(vm_id))


def test_what_libvirt_refuses_is_told_by_the_machines_end(daemon: Daemon, host: Any, disk: str) -> None:
    """`create` answered by then: its task has the reason, and the machine is gone."""
    vm_id = str(uuid.uuid4())
    text = document(daemon.name("e"), vm_id, disk, bridge="no-such-br")
    good(host.create({"vmId": vm_id, "xml": text}))
    until("it is gone", lambda: host.getVmStats(vm_id)["status"]["code"] == 1)
    with daemon.connect() as client:
        (task,) = client.task.list()
        told = [e.data for e in client.event.list(subjects=[vm_id]).events if isinstance(e.data, VMStatus)]
        last = told[-1]
    assert task.problem is not None
    assert "no-such-br" in task.problem.detail
    assert [event.status for event in told] == ["WaitForLaunch", "Down"]
    assert (last.exit_code, last.exit_reason) == (1, 3)
    assert "no-such-br" in last.exit_message
    assert not daemon.domains()
