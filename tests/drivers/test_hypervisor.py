# SPDX-License-Identifier: Apache-2.0
"""The `Hypervisor` port: the same promises kept by the simulated driver and by libvirt with real QEMU."""

from __future__ import annotations

import asyncio
import time
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from harness.until import BUSY
from vdsm.contract import errors as e
from vdsm.contract.types import Secret
from vdsm.core.ports.deadline import within
from vdsm.core.ports.hypervisor import DomainEventKind as Kind
from vdsm.core.ports.hypervisor import DomainSample, DomainState, Hypervisor, ShutdownWay

from .conftest import Lab, scsi_disk

STATES = (Kind.STARTED, Kind.SUSPENDED, Kind.STOPPED, Kind.REBOOTED)
PASSWORD = Secret("pa<&>'s")


def new_id() -> str:
    return str(uuid.uuid4())


async def state(lab: Lab, vm_id: str) -> tuple[DomainState, str]:
    domain = await lab.hypervisor.domain(vm_id)
    return domain.state, domain.reason


# ---- definitions -----------------------------------------------------------------------------------------------------


async def test_a_definition_is_listed_and_told(lab: Lab) -> None:
    vm_id = await lab.define()
    (domain,) = [d for d in await lab.hypervisor.domains() if d.vm_id == vm_id]
    assert domain == await lab.hypervisor.domain(vm_id)
    assert (domain.name, domain.state, domain.reason) == (f"{lab.prefix}-a", DomainState.SHUT_OFF, "unknown")
    assert domain.persistent
    assert not domain.autostart
    assert ET.XML(domain.xml).findtext("uuid") == vm_id
    await lab.until_said(vm_id, Kind.DEFINED, "added")


async def test_defined_again_it_is_changed(lab: Lab) -> None:
    vm_id = await lab.define()
    await lab.hypervisor.define(lab.xml(f"{lab.prefix}-a", vm_id, memory=32))
    memory = ET.XML((await lab.hypervisor.domain(vm_id)).xml).find("memory")
    assert memory is not None
    assert (memory.text, memory.get("unit")) in {("32", "MiB"), ("32768", "KiB")}
    await lab.until_said(vm_id, Kind.DEFINED, "updated")


@pytest.mark.parametrize("same", ["name", "id"])
async def test_neither_name_nor_id_is_given_twice(lab: Lab, same: str) -> None:
    vm_id = await lab.define()
    name, other_id = (f"{lab.prefix}-a", new_id()) if same == "name" else (f"{lab.prefix}-b", vm_id)
    with pytest.raises(e.VMExists) as raised:
        await lab.hypervisor.define(lab.xml(name, other_id))
    assert (name if same == "name" else vm_id) in str(raised.value)
    assert [d.vm_id for d in await lab.hypervisor.domains() if d.name.startswith(lab.prefix)] == [vm_id]
    assert (await lab.hypervisor.domain(vm_id)).name == f"{lab.prefix}-a"


@pytest.mark.parametrize("document", ["<domain", "<domain type='qemu'><name>{name}</name></domain>", "<volume/>"])
async def test_a_broken_definition_is_refused(lab: Lab, document: str) -> None:
    with pytest.raises(e.HypervisorError):
        await lab.hypervisor.define(document.format(name=f"{lab.prefix}-a"))
    assert not [d for d in await lab.hypervisor.domains() if d.name.startswith(lab.prefix)]


async def test_a_definition_is_removed(lab: Lab) -> None:
    vm_id = await lab.define()
    await lab.hypervisor.undefine(vm_id)
    with pytest.raises(e.NoSuchVM):
        await lab.hypervisor.domain(vm_id)
    await lab.until_said(vm_id, Kind.UNDEFINED, "removed")


async def test_without_its_definition_a_machine_runs_until_it_stops(lab: Lab) -> None:
    vm_id = await lab.run()
    await lab.hypervisor.set_autostart(vm_id, True)
    await lab.hypervisor.undefine(vm_id)
    domain = await lab.hypervisor.domain(vm_id)
    assert (domain.state, domain.persistent, domain.autostart) == (DomainState.RUNNING, False, False)
    for refused in (lab.hypervisor.undefine(vm_id), lab.hypervisor.set_autostart(vm_id, True)):
        with pytest.raises(e.HypervisorError):
            await refused
    await lab.hypervisor.power_off(vm_id, graceful=False)
    with pytest.raises(e.NoSuchVM):
        await lab.hypervisor.domain(vm_id)


async def test_a_machine_is_renamed(lab: Lab) -> None:
    vm_id = await lab.define()
    await lab.hypervisor.rename(vm_id, f"{lab.prefix}-b")
    domain = await lab.hypervisor.domain(vm_id)
    assert domain.name == ET.XML(domain.xml).findtext("name") == f"{lab.prefix}-b"
    await lab.until_said(vm_id, Kind.DEFINED, "renamed")
    assert lab.said(vm_id)[-2:] == [("undefined", "renamed"), ("defined", "renamed")]
    assert [event.name for event in lab.events if event.vm_id == vm_id][-2:] == [f"{lab.prefix}-a", f"{lab.prefix}-b"]
    await lab.define("a")  # the name is free again


async def test_a_name_that_is_taken_is_refused(lab: Lab) -> None:
    one, two = await lab.define("one"), await lab.define("two")
    with pytest.raises(e.VMExists):
        await lab.hypervisor.rename(two, f"{lab.prefix}-one")
    with pytest.raises(e.HypervisorError):
        await lab.hypervisor.rename(two, f"{lab.prefix}-two")
    await lab.hypervisor.start(one, paused=True)
    with pytest.raises(e.HypervisorError):
        await lab.hypervisor.rename(one, f"{lab.prefix}-three")
    assert (await lab.hypervisor.domain(one)).name == f"{lab.prefix}-one"


async def test_autostart_is_switched(lab: Lab) -> None:
    vm_id = await lab.define()
    for wanted in (True, True, False):
        await lab.hypervisor.set_autostart(vm_id, wanted)
        assert (await lab.hypervisor.domain(vm_id)).autostart is wanted


# ---- power -----------------------------------------------------------------------------------------------------------


async def test_a_machine_starts_and_is_cut_off(lab: Lab) -> None:
    vm_id = await lab.run()
    assert await state(lab, vm_id) == (DomainState.RUNNING, "booted")
    await lab.hypervisor.power_off(vm_id, graceful=False)
    assert await state(lab, vm_id) == (DomainState.SHUT_OFF, "destroyed")
    await lab.until_said(vm_id, Kind.STOPPED)
    assert lab.said(vm_id, *STATES) == [("started", "booted"), ("stopped", "destroyed")]


async def test_cut_off_gracefully_nobody_blames_the_guest(lab: Lab) -> None:
    vm_id = await lab.run()
    await lab.hypervisor.power_off(vm_id, graceful=True)
    await lab.until_said(vm_id, Kind.STOPPED, "destroyed")
    assert not any(event.guest_asked for event in lab.events)


async def test_a_disk_without_room_stops_the_machine_and_says_why(lab: Lab) -> None:
    vm_id = await lab.run_into_full_storage()
    await lab.until_said(vm_id, Kind.SUSPENDED, "ioerror")
    assert lab.said(vm_id, Kind.IO_ERROR, Kind.SUSPENDED) == [("io-error", "enospc"), ("suspended", "ioerror")]
    assert await state(lab, vm_id) == (DomainState.PAUSED, "ioerror")
    assert await lab.hypervisor.io_error(vm_id) == "enospc"
    await lab.make_room()
    await lab.hypervisor.resume(vm_id)
    assert await state(lab, vm_id) == (DomainState.RUNNING, "unpaused")


async def test_paused_and_resumed_in_order(lab: Lab) -> None:
    vm_id = await lab.run(paused=True)
    assert await state(lab, vm_id) == (DomainState.PAUSED, "user")
    await lab.hypervisor.resume(vm_id)
    assert await state(lab, vm_id) == (DomainState.RUNNING, "unpaused")
    with pytest.raises(e.HypervisorError):
        await lab.hypervisor.resume(vm_id)
    await lab.hypervisor.suspend(vm_id)
    await lab.hypervisor.suspend(vm_id)
    assert await state(lab, vm_id) == (DomainState.PAUSED, "user")
    await lab.until("all of it is told", lambda: len(lab.said(vm_id, *STATES, Kind.RESUMED)) == 4)
    assert lab.said(vm_id, *STATES, Kind.RESUMED) == [
        ("started", "booted"),
        ("suspended", "paused"),
        ("resumed", "unpaused"),
        ("suspended", "paused"),
    ]


async def test_the_same_machine_starts_once(lab: Lab) -> None:
    vm_id = await lab.run()
    with pytest.raises(e.HypervisorError):
        await lab.hypervisor.start(vm_id, paused=False)
    assert await state(lab, vm_id) == (DomainState.RUNNING, "booted")


async def test_reset(lab: Lab) -> None:
    vm_id = await lab.run()
    await lab.hypervisor.reset(vm_id)
    await lab.until_said(vm_id, Kind.REBOOTED)
    assert (await state(lab, vm_id))[0] is DomainState.RUNNING


async def greeted(lab: Lab, vm_id: str) -> None:
    """Until the guest of a paused machine is up; `resume` it and hear it."""
    console = await lab.hypervisor.open_console(vm_id, force=False)
    await lab.hypervisor.resume(vm_id)
    await hear(console.read, b"login: ")
    await console.close()


async def test_the_guest_obeys_the_power_button(lab: Lab) -> None:
    vm_id = await lab.run(paused=True)
    await greeted(lab, vm_id)
    await lab.hypervisor.ask_shutdown(vm_id, ShutdownWay.ACPI, reboot=False)
    await lab.until_said(vm_id, Kind.STOPPED)
    assert lab.said(vm_id, Kind.SHUTDOWN, Kind.STOPPED) == [("shutdown", "guest"), ("stopped", "shutdown")]
    assert [event.guest_asked for event in lab.events if event.kind is Kind.SHUTDOWN] == [True]
    assert await state(lab, vm_id) == (DomainState.SHUT_OFF, "shutdown")


async def test_the_guest_boots_again(lab: Lab) -> None:
    vm_id = await lab.run(paused=True)
    await greeted(lab, vm_id)
    await lab.hypervisor.ask_shutdown(vm_id, ShutdownWay.ACPI, reboot=True)
    await lab.until_said(vm_id, Kind.REBOOTED)
    assert (await state(lab, vm_id))[0] is DomainState.RUNNING
    assert not lab.said(vm_id, Kind.STOPPED)


@pytest.mark.parametrize("reboot", [False, True])
async def test_a_guest_without_an_agent_cannot_be_asked(lab: Lab, reboot: bool) -> None:
    vm_id = await lab.run()
    with pytest.raises(e.NonResponsiveGuestAgent):
        await lab.hypervisor.ask_shutdown(vm_id, ShutdownWay.AGENT, reboot=reboot)
    assert (await state(lab, vm_id))[0] is DomainState.RUNNING


Call = Callable[[Hypervisor, str], Awaitable[object]]
ON_RUNNING: dict[str, Call] = {
    "power_off": lambda h, vm: h.power_off(vm, graceful=False),
    "ask_shutdown": lambda h, vm: h.ask_shutdown(vm, ShutdownWay.ACPI, reboot=False),
    "suspend": lambda h, vm: h.suspend(vm),
    "resume": lambda h, vm: h.resume(vm),
    "reset": lambda h, vm: h.reset(vm),
    "screenshot": lambda h, vm: h.screenshot(vm),
    "open_console": lambda h, vm: h.open_console(vm, force=True),
    "add_layers": lambda h, vm: h.add_layers(vm, {}, quiesce=None),
    "begin_commit": lambda h, vm: h.begin_commit(vm, "sda", top="/a", base="/b", bandwidth=0),
    "commit_job": lambda h, vm: h.commit_job(vm, "sda"),
    "end_commit": lambda h, vm: h.end_commit(vm, "sda", pivot=True),
    "resize_disk": lambda h, vm: h.resize_disk(vm, "sda", 1 << 20),
    "attach_disk": lambda h, vm: h.attach_disk(vm, scsi_disk(Path("/a"), "sda")),
}
ON_ANY: dict[str, Call] = {
    "domain": lambda h, vm: h.domain(vm),
    "undefine": lambda h, vm: h.undefine(vm),
    "start": lambda h, vm: h.start(vm, paused=False),
    "set_autostart": lambda h, vm: h.set_autostart(vm, True),
    "rename": lambda h, vm: h.rename(vm, "vdsmtest-nobody"),
    "set_ticket": lambda h, vm: h.set_ticket(vm, PASSWORD, ttl=60, on_conflict="keep"),
    "change_cd": lambda h, vm: h.change_cd(vm, ""),
    "drop_disk": lambda h, vm: h.drop_disk(vm, "sda"),
}


async def test_a_machine_that_is_not_there(lab: Lab) -> None:
    vm_id = new_id()
    for name, call in (ON_RUNNING | ON_ANY).items():
        with pytest.raises(e.NoSuchVM) as raised:
            await call(lab.hypervisor, vm_id)
        assert vm_id in str(raised.value), name


async def test_a_machine_that_does_not_run(lab: Lab) -> None:
    vm_id = await lab.define(screen=True)
    for call in ON_RUNNING.values():
        with pytest.raises(e.HypervisorError):
            await call(lab.hypervisor, vm_id)
    with pytest.raises(e.TicketError):
        await ON_ANY["set_ticket"](lab.hypervisor, vm_id)
    assert await state(lab, vm_id) == (DomainState.SHUT_OFF, "unknown")


# ---- screen and disc -------------------------------------------------------------------------------------------------


async def test_a_picture_of_the_screen(lab: Lab) -> None:
    vm_id = await lab.run(screen=True)
    mime, picture = await lab.hypervisor.screenshot(vm_id)
    assert mime == "image/png"
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert picture.endswith(b"IEND\xaeB`\x82")


async def test_without_a_screen_there_is_no_picture_and_no_ticket(lab: Lab) -> None:
    vm_id = await lab.run()
    with pytest.raises(e.NoDisplay):
        await lab.hypervisor.screenshot(vm_id)
    with pytest.raises(e.TicketError):
        await lab.hypervisor.set_ticket(vm_id, PASSWORD, ttl=60, on_conflict="keep")


@pytest.mark.parametrize("conflict", ["keep", "disconnect", "fail"])
async def test_a_ticket_is_set_and_never_shown(lab: Lab, conflict: str) -> None:
    vm_id = await lab.run(screen=True)
    for ttl in (60, 0):
        await lab.hypervisor.set_ticket(vm_id, PASSWORD, ttl=ttl, on_conflict=conflict)
    assert "passwd=" not in (await lab.hypervisor.domain(vm_id)).xml


@pytest.mark.parametrize("password", ["ninechars", "s3cr\0t", "s3cr\nt"])
async def test_a_password_that_cannot_be_is_refused_and_not_quoted(lab: Lab, password: str) -> None:
    vm_id = await lab.run(screen=True)
    with pytest.raises(e.TicketError) as raised:
        await lab.hypervisor.set_ticket(vm_id, Secret(password), ttl=60, on_conflict="keep")
    assert password[:4] not in str(raised.value)


def disc(xml: str) -> str | None:
    source = ET.XML(xml).find("devices/disk[@device='cdrom']/source")
    return None if source is None else source.get("file")


async def test_the_disc_is_changed_and_stays_changed(lab: Lab) -> None:
    vm_id = await lab.run(drive=True)
    await lab.hypervisor.change_cd(vm_id, str(lab.rom))  # any file will do
    assert disc((await lab.hypervisor.domain(vm_id)).xml) == str(lab.rom)
    await lab.until_said(vm_id, Kind.DEVICES, "tray-closed")
    await lab.hypervisor.power_off(vm_id, graceful=False)
    assert disc((await lab.hypervisor.domain(vm_id)).xml) == str(lab.rom)
    await lab.hypervisor.change_cd(vm_id, "")
    assert disc((await lab.hypervisor.domain(vm_id)).xml) is None


async def test_without_a_drive_there_is_no_disc(lab: Lab) -> None:
    with pytest.raises(e.ChangeDiskFailed):
        await lab.hypervisor.change_cd(await lab.run(), str(lab.rom))


# ---- console ---------------------------------------------------------------------------------------------------------


async def hear(read: Callable[[], Awaitable[bytes]], words: bytes) -> bytes:
    heard = b""
    async with asyncio.timeout(10 * BUSY):
        while words not in heard:
            data = await read()
            assert data, f"the console ended after {heard!r}"
            heard += data
    return heard


async def test_the_console_speaks_and_listens(lab: Lab) -> None:
    vm_id = await lab.run(paused=True)
    console = await lab.hypervisor.open_console(vm_id, force=False)
    await lab.hypervisor.resume(vm_id)
    await hear(console.read, b"login: ")
    await console.write(b"")
    await console.write(b"grace")
    await console.write(b" hopper")
    assert b"grace hopper" in await hear(console.read, b"grace hopper")
    await console.close()
    assert await console.read() == b""
    await console.close()


async def test_much_is_echoed_and_nothing_lost(lab: Lab) -> None:
    vm_id = await lab.run(paused=True)
    console = await lab.hypervisor.open_console(vm_id, force=False)
    await lab.hypervisor.resume(vm_id)
    await hear(console.read, b"login: ")
    text = b"".join(b"%05d " % number for number in range(60)) + b"end"  # the ROM reads 16 bytes a tick at the least
    await console.write(text)
    assert text in await hear(console.read, b"end")
    await console.close()


async def test_the_console_is_one_persons(lab: Lab) -> None:
    vm_id = await lab.run()
    first = await lab.hypervisor.open_console(vm_id, force=False)
    with pytest.raises(e.ConsoleInUse):
        await lab.hypervisor.open_console(vm_id, force=False)
    second = await lab.hypervisor.open_console(vm_id, force=True)
    async with asyncio.timeout(10 * BUSY):
        while await first.read():  # what was left; then the end
            pass
    await second.write(b"mine")
    await hear(second.read, b"mine")
    await second.close()
    third = await lab.hypervisor.open_console(vm_id, force=False)
    await third.write(b"ours")
    await hear(third.read, b"ours")
    await first.close()
    await third.close()


async def test_the_console_ends_with_the_machine(lab: Lab) -> None:
    vm_id = await lab.run()
    console = await lab.hypervisor.open_console(vm_id, force=False)
    await lab.hypervisor.power_off(vm_id, graceful=False)
    async with asyncio.timeout(10 * BUSY):
        while await console.read():
            pass
    await console.write(b"is anybody there")
    await console.close()


async def test_without_a_serial_port_there_is_no_console(lab: Lab) -> None:
    with pytest.raises(e.NoSerialConsole):
        await lab.hypervisor.open_console(await lab.run(serial=False), force=False)


# ---- statistics, and what hangs --------------------------------------------------------------------------------------


async def sample(lab: Lab, vm_id: str) -> DomainSample | None:
    return next((s for s in await lab.hypervisor.samples() if s.vm_id == vm_id), None)


async def test_counters_of_what_runs(lab: Lab) -> None:
    vm_id, off = await lab.run(drive=True), await lab.define("off")
    first = await sample(lab, vm_id)
    assert first is not None
    assert (first.state, first.answers, first.vcpus) == (DomainState.RUNNING, True, 1)
    assert first.balloon["current"] == 16 * 1024
    assert [disk.name for disk in first.disks] == ["sda"]
    assert await sample(lab, off) is None
    end = time.monotonic() + 10 * BUSY
    while (await sample(lab, vm_id) or first).cpu_ns <= first.cpu_ns:
        assert time.monotonic() < end, "the CPU time stands still"
        await asyncio.sleep(0.05)


async def test_a_machine_that_hangs_delays_no_other(lab: Lab) -> None:
    hangs, lives = await lab.run("hangs"), await lab.run("lives")
    assert (await sample(lab, hangs) or DomainSample(vm_id="", state=DomainState.SHUT_OFF)).answers
    await lab.freeze(hangs)
    end = time.monotonic() + 20 * BUSY
    while True:
        began = time.monotonic()
        samples = {s.vm_id: s for s in await lab.hypervisor.samples()}
        assert time.monotonic() - began < 2 * BUSY
        assert samples[lives].answers
        assert samples[lives].balloon
        if not samples[hangs].answers:
            break
        assert time.monotonic() < end, "nobody noticed"
        await asyncio.sleep(0.1)
    assert samples[hangs].state is DomainState.RUNNING
    assert samples[hangs].balloon == {}

    with within(0.3), pytest.raises(e.DeadlineExceeded):
        await lab.hypervisor.suspend(hangs)
    with within(0.3), pytest.raises(e.DeadlineExceeded):
        await lab.hypervisor.reset(hangs)
    began = time.monotonic()
    await lab.hypervisor.suspend(lives)
    assert await state(lab, lives) == (DomainState.PAUSED, "user")
    assert (await lab.hypervisor.domain(hangs)).state is DomainState.RUNNING
    assert time.monotonic() - began < 1 * BUSY

    await lab.thaw(hangs)
    end = time.monotonic() + 20 * BUSY
    while not (await sample(lab, hangs) or samples[hangs]).answers:
        assert time.monotonic() < end, "it answers, and nobody listens"
        await asyncio.sleep(0.1)


async def test_a_machine_that_hangs_can_be_cut_off(lab: Lab) -> None:
    vm_id = await lab.run()
    await lab.freeze(vm_id)
    with within(0.3), pytest.raises(e.DeadlineExceeded):
        await lab.hypervisor.suspend(vm_id)
    await lab.hypervisor.power_off(vm_id, graceful=False)
    await lab.until_said(vm_id, Kind.STOPPED)
    assert (await state(lab, vm_id))[0] is DomainState.SHUT_OFF


async def test_many_machines_hang_and_one_lives(lab: Lab) -> None:
    hanging = [await lab.run(f"hangs{number}") for number in range(5)]
    lives = await lab.run("lives")
    for vm_id in hanging:
        await lab.freeze(vm_id)
    for vm_id in [*hanging, *hanging]:
        with within(0.2), pytest.raises(e.DeadlineExceeded):
            await lab.hypervisor.suspend(vm_id)
    began = time.monotonic()
    async with asyncio.timeout(10 * BUSY):
        assert {s.vm_id for s in await lab.hypervisor.samples()} == {*hanging, lives}
        assert len([d for d in await lab.hypervisor.domains() if d.name.startswith(lab.prefix)]) == 6
        await lab.hypervisor.suspend(lives)
    assert time.monotonic() - began < 3 * BUSY
    for vm_id in hanging:
        await lab.thaw(vm_id)


# ---- the connection --------------------------------------------------------------------------------------------------


async def test_libvirt_dies_and_comes_back(lab: Lab) -> None:
    stays, paused = await lab.run("stays"), await lab.run("paused", paused=True)
    console = await lab.hypervisor.open_console(stays, force=False)
    await lab.lose()
    await lab.until_said("", Kind.LOST)
    for call in (lab.hypervisor.domains(), lab.hypervisor.samples(), lab.hypervisor.suspend(stays)):
        with pytest.raises(e.HypervisorUnavailable):
            await call
    await lab.bring_back()
    await lab.until_said("", Kind.BACK)
    assert [event.kind for event in lab.events if not event.vm_id] == [Kind.LOST, Kind.BACK]
    assert (await state(lab, stays))[0] is DomainState.RUNNING
    assert (await state(lab, paused))[0] is DomainState.PAUSED
    await lab.hypervisor.suspend(stays)
    await lab.until_said(stays, Kind.SUSPENDED)
    assert {s.vm_id for s in await lab.hypervisor.samples()} == {stays, paused}
    await console.close()


async def test_nothing_is_said_after_the_end(lab: Lab) -> None:
    vm_id = await lab.define()
    await lab.until_said(vm_id, Kind.DEFINED)
    await lab.hypervisor.close()
    lab.events.clear()
    await lab.hypervisor.open()
    await lab.hypervisor.undefine(vm_id)
    await lab.until_said(vm_id, Kind.UNDEFINED)
    assert lab.said(vm_id) == [("undefined", "removed")]


async def test_facts(lab: Lab) -> None:
    facts = await lab.hypervisor.facts()
    assert facts == await lab.hypervisor.facts()
    assert facts.default_machine in facts.machine_types
    assert facts.kvm is not bool(facts.kvm_reason)
    assert facts.libvirt_version.count(".") == facts.qemu_version.count(".") == 2
    assert facts.numa_cells[0].cpus
    assert facts.custom_cpu_models
    assert ("uefi" in facts.firmware) is bool(facts.uefi_code)
