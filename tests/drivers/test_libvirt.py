# SPDX-License-Identifier: Apache-2.0
"""What only libvirt can do wrong: other people's domains, a daemon that is away or hangs, a KVM that is none."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import threading
import uuid
from pathlib import Path

import libvirt
import pytest

from harness.private_libvirt import PrivateLibvirt
from harness.until import BUSY
from vdsm.contract import errors as e
from vdsm.core.ports.deadline import within
from vdsm.core.ports.hypervisor import DomainEvent
from vdsm.core.ports.hypervisor import DomainEventKind as Kind
from vdsm.drivers.libvirt import LibvirtHypervisor, connection, probe_rom, words

from .conftest import Lab, LibvirtLab

pytestmark = pytest.mark.parametrize("lab", ["libvirt"], indirect=True)


@pytest.fixture
def real(lab: Lab) -> LibvirtLab:
    assert isinstance(lab, LibvirtLab)
    return lab


async def test_other_peoples_domains_stay_as_they_are(real: LibvirtLab, conn: libvirt.virConnect) -> None:
    theirs = conn.createXML(real.xml(f"{real.prefix}-theirs", str(uuid.uuid4())))
    before = theirs.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)
    ours = await real.run("ours", paused=True)
    seen = await real.hypervisor.domain(theirs.UUIDString())
    assert not seen.persistent
    await real.hypervisor.resume(ours)
    await real.hypervisor.power_off(ours, graceful=False)
    await real.hypervisor.undefine(ours)
    await real.hypervisor.samples()
    assert theirs.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE) == before
    assert theirs.state() == [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED]
    theirs.destroy()
    await real.until_said(seen.vm_id, Kind.STOPPED, "destroyed")
    assert seen.vm_id not in [d.vm_id for d in await real.hypervisor.domains()]


async def test_passwords_are_not_read(real: LibvirtLab, conn: libvirt.virConnect) -> None:
    vm_id = await real.define(screen=True)
    assert "nobodys" in conn.lookupByUUIDString(vm_id).XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)
    assert "nobodys" not in (await real.hypervisor.domain(vm_id)).xml


async def test_before_libvirt_is_there(real: LibvirtLab) -> None:
    heard: list[DomainEvent] = []
    early = LibvirtHypervisor(real.libvirtd.uri)
    early.watch(heard.append)
    await real.lose()
    try:
        await early.open()
        assert [event.kind for event in heard] == [Kind.LOST]
        assert "libvirt-sock" in heard[0].detail
        for call in (early.domains(), early.facts(), early.define("<domain/>")):
            with pytest.raises(e.HypervisorUnavailable):
                await call
    finally:
        await real.bring_back()
    await real.until("the early one is there", lambda: [event.kind for event in heard] == [Kind.LOST, Kind.BACK])
    assert await early.domains() is not None
    await early.close()


async def test_a_libvirtd_that_hangs_is_given_up(real: LibvirtLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_KEEPALIVE_S", 1)
    monkeypatch.setattr(connection, "_KEEPALIVES", 1)
    heard: list[DomainEvent] = []
    impatient = LibvirtHypervisor(real.libvirtd.uri)
    impatient.watch(heard.append)
    await impatient.open()
    pid = int(real.libvirtd.run("cat", "/run/libvirtd.pid"))
    os.kill(pid, signal.SIGSTOP)
    try:
        with within(0.2), pytest.raises(e.DeadlineExceeded):
            await impatient.domains()
        await real.until("it is given up", lambda: [event.kind for event in heard] == [Kind.LOST])
    finally:
        os.kill(pid, signal.SIGCONT)
    await real.until("it is back", lambda: [event.kind for event in heard] == [Kind.LOST, Kind.BACK])
    assert await impatient.domains() is not None
    await impatient.close()


async def test_nothing_is_left_of_many_connections(real: LibvirtLab) -> None:
    def libvirt_threads() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name.startswith("libvirt-") and t.name != "libvirt-events"]

    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    mine, files = len(libvirt_threads()), open_files()
    for _ in range(5):
        one = LibvirtHypervisor(real.libvirtd.uri)
        await one.open()
        await one.domains()
        await one.close()
    await real.until("the threads end", lambda: len(libvirt_threads()) <= mine)
    await real.until("the connections end", lambda: open_files() <= files)


async def test_every_state_and_event_of_this_libvirt_has_a_word(real: LibvirtLab) -> None:
    def numbers(prefix: str) -> set[int]:
        return {value for name, value in vars(libvirt).items() if name.startswith(prefix) and not name.endswith("LAST")}

    for number, kind in {
        libvirt.VIR_DOMAIN_RUNNING: "RUNNING", libvirt.VIR_DOMAIN_PAUSED: "PAUSED",
        libvirt.VIR_DOMAIN_SHUTOFF: "SHUTOFF", libvirt.VIR_DOMAIN_CRASHED: "CRASHED",
    }.items():  # fmt: skip
        for reason in numbers(f"VIR_DOMAIN_{kind}_") - {0}:
            assert words.state(number, reason)[1] != "unknown", f"{kind} {reason}"
    for number, kind in {
        libvirt.VIR_DOMAIN_EVENT_DEFINED: "DEFINED", libvirt.VIR_DOMAIN_EVENT_UNDEFINED: "UNDEFINED",
        libvirt.VIR_DOMAIN_EVENT_STARTED: "STARTED", libvirt.VIR_DOMAIN_EVENT_SUSPENDED: "SUSPENDED",
        libvirt.VIR_DOMAIN_EVENT_RESUMED: "RESUMED", libvirt.VIR_DOMAIN_EVENT_STOPPED: "STOPPED",
        libvirt.VIR_DOMAIN_EVENT_SHUTDOWN: "SHUTDOWN", libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: "PMSUSPENDED",
        libvirt.VIR_DOMAIN_EVENT_CRASHED: "CRASHED",
    }.items():  # fmt: skip
        for detail in numbers(f"VIR_DOMAIN_EVENT_{kind}_"):
            known = words.lifecycle(number, detail)
            assert known is not None
            assert known[1] != "unknown", f"{kind} {detail}"


# ---- KVM -------------------------------------------------------------------------------------------------------------


def says_the_word(accelerator: str, rom: Path) -> bool:
    """Whether the test guest gets through, without libvirt."""
    qemu = subprocess.Popen(
        ["qemu-system-x86_64", "-accel", accelerator, "-nodefaults", "-display", "none", "-m", "16", "-bios", str(rom),
         "-serial", "stdio"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert qemu.stdout is not None
    timer = threading.Timer(5.0 * (BUSY if accelerator == "tcg" else 1), qemu.kill)
    timer.start()
    try:
        return qemu.stdout.readline() == probe_rom.WORD
    finally:
        timer.cancel()
        qemu.kill()
        qemu.wait()
        qemu.stdout.close()


@pytest.fixture
def probe(open_path: Path) -> Path:
    file = open_path / "probe.rom"
    file.write_bytes(probe_rom.image())
    file.chmod(0o644)
    return file


async def test_the_test_guest_gets_through_where_it_can(real: LibvirtLab, probe: Path) -> None:
    assert await asyncio.to_thread(says_the_word, "tcg", probe)


async def test_without_the_device_there_is_no_kvm(real: LibvirtLab) -> None:
    facts = await real.hypervisor.facts()
    assert not facts.kvm
    assert "/dev/kvm" in facts.kvm_reason


@pytest.fixture
def kvm(libvirtd: PrivateLibvirt) -> PrivateLibvirt:
    """The same libvirtd with the host's /dev/kvm, open to QEMU."""
    try:
        device = os.stat("/dev/kvm")
    except OSError:
        pytest.skip("this host has no /dev/kvm at all")
    assert stat.S_ISCHR(device.st_mode)
    libvirtd.kill()
    libvirtd.run("mknod", "-m", "666", "/dev/kvm", "c", str(os.major(device.st_rdev)), str(os.minor(device.st_rdev)))
    libvirtd.start()
    return libvirtd


async def test_kvm_is_tried_and_remembered(real: LibvirtLab, kvm: PrivateLibvirt, open_path: Path, probe: Path) -> None:
    try:
        heard: list[DomainEvent] = []
        one = LibvirtHypervisor(kvm.uri, cache_dir=open_path)
        one.watch(heard.append)
        await one.open()
        with within(0.05), pytest.raises(e.DeadlineExceeded):
            await one.facts()
        facts = await one.facts()  # one who gave up did not end it for the others
        works = await asyncio.to_thread(says_the_word, "kvm", probe)
        assert facts.kvm is works, facts.kvm_reason
        assert not [event for event in heard if "kvm-trial" in event.name], "the test guest is nobody's business"
        assert not [d for d in await one.domains() if "kvm-trial" in d.name]
        assert sorted(p.name for p in open_path.iterdir()) == ["kvm-trial.json", "probe.rom"]
        await one.close()

        kept = json.loads((open_path / "kvm-trial.json").read_text())
        kept["verdict"] = {"works": not works, "reason": "" if works else "as remembered"}
        (open_path / "kvm-trial.json").write_text(json.dumps(kept))
        two = LibvirtHypervisor(kvm.uri, cache_dir=open_path)
        await two.open()
        assert (await two.facts()).kvm is not works, "it was not tried again"
        await two.close()

        kept["setting"] = "another boot"
        (open_path / "kvm-trial.json").write_text(json.dumps(kept))
        three = LibvirtHypervisor(kvm.uri, cache_dir=open_path)
        await three.open()
        assert (await three.facts()).kvm is works, "what another boot found out does not count"
        await three.close()
    finally:
        kvm.run("rm", "/dev/kvm")
        await real.lose()
        await real.bring_back()
