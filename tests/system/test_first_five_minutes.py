# SPDX-License-Identifier: Apache-2.0
"""What a person does first, with a real Linux guest: boot it, look, talk, pause, stop; by vdsmsh where they would."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from harness.daemon import Daemon
from harness.machines import WORDS, Console, linux, summary
from vdsm.client import Host
from vdsm.contract.vm_info import VmState


@pytest.fixture
def host(daemon: Daemon) -> Iterator[Host]:
    daemon.start()
    with daemon.connect() as host:
        yield host


def test_a_guest_boots_talks_and_obeys(daemon: Daemon, host: Host, guest: Path, tmp_path: Path) -> None:
    name = daemon.name("linux")
    params = linux(name, guest, daemon.images)
    daemon.shell(
        "vm", "create", "--name", name, "--memory", "256", "--kernel", f"{params.kernel}",
        "--initrd", f"{params.initrd}", "--cmdline", params.cmdline,
    )  # fmt: skip
    (vm_id,) = [vm.vm_id for vm in host.vm.list() if vm.vm_name == name]

    with Console(host, vm_id) as console:
        assert WORDS in console.wait_for(f"{name} login:")
        console.say("root")
        console.wait_for(f"root@{name}:")
        console.say("echo six times seven is $((6 * 7))")
        console.wait_for("six times seven is 42")

    (row,) = [row for row in daemon.json("vm", "list") if row["vmName"] == name]
    assert (row["status"], row["foreign"], row["memory"]) == ("Up", False, 256)
    stats = daemon.json("vm", "stats", name)
    assert f"'vmName': '{name}'" in str(stats)

    daemon.shell("vm", "pause", name)
    assert daemon.domains()[name].state()[0] == libvirt.VIR_DOMAIN_PAUSED
    daemon.shell("vm", "cont", name)
    assert daemon.domains()[name].state()[0] == libvirt.VIR_DOMAIN_RUNNING

    daemon.shell("vm", "screenshot", name, "-o", f"{tmp_path}/screen.png")
    width, height, colours = _seen((tmp_path / "screen.png").read_bytes())
    assert width >= 640
    assert height >= 400
    assert colours >= 2, "the screen is blank although the kernel writes to it"

    daemon.shell("vm", "shutdown", name)
    assert not daemon.domains()[name].isActive()
    assert (gone := summary(host, name)) is not None
    assert gone.status is VmState.DOWN
    daemon.shell("vm", "destroy", name)
    assert summary(host, name) is None
    assert daemon.domains() == {}
    _the_journal_tells_it(daemon, vm_id)


def _the_journal_tells_it(daemon: Daemon, vm_id: str) -> None:
    events = [event for event in _events(daemon) if event["subject"] == vm_id]
    assert [event["id"] for event in events] == sorted(event["id"] for event in events)
    states = [event["data"]["status"] for event in events if event["data"]["type"] == "VM_status"]
    story = iter(states)
    for state in ("Up", "Paused", "Up", "Powering down", "Down"):
        assert state in story, f"{state} is missing or out of order in {states}"
    assert events[-1]["data"]["type"] == "VM_removed"


def _events(daemon: Daemon) -> list[Any]:
    listed: list[Any] = daemon.json("events", "--since", "0")
    return listed


def _seen(png: bytes) -> tuple[int, int, int]:
    """Width and height of a picture, and how many different rows it has."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n", f"this is no PNG: {png[:16]!r}"
    at, width, height, data = 8, 0, 0, b""
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + body) == int.from_bytes(png[at + 8 + length : at + 12 + length], "big")
        if kind == b"IHDR":
            width, height = struct.unpack(">II", body[:8])
        elif kind == b"IDAT":
            data += body
        at += 12 + length
    rows = zlib.decompress(data)
    line = len(rows) // height
    return width, height, len({rows[n * line : (n + 1) * line] for n in range(height)})
