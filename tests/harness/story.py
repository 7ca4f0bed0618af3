# SPDX-License-Identifier: Apache-2.0
"""A machine's life as a published manager sees it on its connection: from capabilities to the end."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from . import readers
from .engine_xml import ALIAS, document
from .stomp import EVENTS, Failed, StompClient
from .until import until

NO_VM = 1
LINUX = "<kernel>{images}/vmlinuz</kernel><initrd>{images}/initrd.gz</initrd><cmdline>console=ttyS0 quiet</cmdline>"
"""`boot` of the Linux guest, which tells of its memory."""


def status_of(event: dict[str, Any], vm_id: str) -> str:
    """What an event says of the machine's status; "" if it is about something else."""
    if event["method"] != f"|virt|VM_status|{vm_id}":
        return ""
    assert set(event["params"]) == {vm_id, "notify_time"}
    assert isinstance(event["params"]["notify_time"], int)
    status: str = event["params"][vm_id]["status"]
    return status


def sampled(client: StompClient, vm_id: str) -> Any:
    (row,) = client.call("VM.getStats", {"vmID": vm_id})
    return row if {"disks", "memoryStats", "balloonInfo"} <= row.keys() and row["disks"] else None


def live(client: StompClient, name: str, disk: str, boot: str = "") -> None:
    """Make it, see it Up, ask how it does, and destroy it. `boot` goes into the document's <os>."""
    vm_id = f"{uuid.uuid4()}"
    if EVENTS not in client.destinations:
        client.subscribe(EVENTS)
    assert client.call("Host.ping") is True
    capabilities = client.call("Host.getCapabilities")
    readers.read_capabilities(capabilities)
    readers.read_statistics(capabilities, client.call("Host.getStats"))

    text = document(name, vm_id, disk, boot=boot, mib=256)
    made = client.call("VM.create", {"vmID": vm_id, "vmParams": {"vmId": vm_id, "xml": text}})
    assert (made["vmId"], made["status"]) == (vm_id, "WaitForLaunch")
    client.wait_event(lambda event: status_of(event, vm_id) == "Up")
    seen = [event for event in client.events if status_of(event, vm_id)]
    assert [status_of(event, vm_id) for event in seen] == ["WaitForLaunch", "Powering up", "Up"]
    times = [event["params"]["notify_time"] for event in seen]
    assert times == sorted(times)

    stats = until("it was sampled", lambda: sampled(client, vm_id))
    readers.read_machine(stats)
    assert stats["status"] == "Up"
    assert int(stats["statusTime"]) >= times[0], "of the same clock as the events"
    (same,) = [row for row in client.call("Host.getAllVmStats") if row["vmId"] == vm_id]
    assert same["hash"] == stats["hash"] == seen[-1]["params"][vm_id]["hash"]
    assert f'<alias name="{ALIAS}"' in client.call("Host.dumpxmls", {"vmList": [vm_id]})[vm_id].replace("'", '"')

    assert client.call("VM.destroy", {"vmID": vm_id}) is True
    client.wait_event(lambda event: status_of(event, vm_id) == "Down")
    with pytest.raises(Failed) as failed:
        client.call("VM.getStats", {"vmID": vm_id})
    assert failed.value.code == NO_VM
