# SPDX-License-Identifier: Apache-2.0
"""The `Machine` port: one suite for the real and the simulated computer; then the real one against other sources."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vdsm.contract.errors import CannotRetrieveHWInfo, DeadlineExceeded
from vdsm.core.ports.deadline import within
from vdsm.core.ports.machine import FibreChannelPort, Machine
from vdsm.drivers.linux.counters import find_ksmd
from vdsm.drivers.linux.facts import read_hardware
from vdsm.drivers.linux.machine import LinuxMachine
from vdsm.drivers.simulated.computer import SimulatedMachine


@pytest.fixture(params=["linux", "simulated"])
async def machine(request: pytest.FixtureRequest) -> AsyncIterator[Machine]:
    made: Machine = LinuxMachine() if request.param == "linux" else SimulatedMachine()
    yield made
    await made.close()


@pytest.fixture
async def linux() -> AsyncIterator[LinuxMachine]:
    made = LinuxMachine()
    yield made
    await made.close()


# ---- the port --------------------------------------------------------------------------------------------------------


async def test_facts_stay(machine: Machine) -> None:
    first, second = await machine.facts(), await machine.facts()
    assert first == second
    assert first.cpu_flags
    assert first.cpu_model
    assert first.kernel_release
    assert str(uuid.UUID(first.boot_id)) == first.boot_id
    assert 0 < first.boot_time <= time.time()


async def test_setup_agrees_with_itself(machine: Machine) -> None:
    setup = await machine.setup()
    online = {cpu.id for cpu in setup.processors}
    assert online
    assert set(setup.own_cpus) <= online
    assert str(uuid.UUID(setup.host_uuid)) == setup.host_uuid
    assert setup.host_uuid == (await machine.setup()).host_uuid
    for node in setup.nodes:
        assert {cpu.id for cpu in setup.processors if cpu.node == node.id} == set(node.cpus) & online
        assert len(node.distances) == len(setup.nodes)
        assert 0 < node.memory_kib <= setup.memory_kib


async def test_samples_move_forward(machine: Machine) -> None:
    older = await machine.sample()
    deadline = time.monotonic() + 10
    newer = await machine.sample()
    while (newer.cpu == older.cpu or newer.own_user_s == older.own_user_s) and time.monotonic() < deadline:
        newer = await machine.sample()
    assert newer.taken > older.taken
    assert newer.cpu.user + newer.cpu.system + newer.cpu.idle > older.cpu.user + older.cpu.system + older.cpu.idle
    assert newer.own_user_s + newer.own_system_s > older.own_user_s + older.own_system_s


async def test_sample_agrees_with_setup(machine: Machine) -> None:
    setup, sample = await machine.setup(), await machine.sample()
    assert set(sample.cpus) == {cpu.id for cpu in setup.processors}
    assert set(sample.nodes) <= {node.id for node in setup.nodes}
    assert sample.memory_kib == setup.memory_kib
    assert 0 < sample.available_kib <= sample.memory_kib
    assert sample.swap_free_kib <= sample.swap_kib
    assert sample.transparent_huge_pages in ("", "always", "madvise", "never")
    assert all(free >= 0 for free in sample.free_bytes.values())


async def test_packages_are_the_installed_ones_of_those_asked_for(machine: Machine) -> None:
    found = await machine.packages(["qemu-utils", "no-such-package"])
    assert list(found) == ["qemu-utils"]
    assert re.match(r"[0-9]", found["qemu-utils"])
    assert await machine.packages(["no-such-package"]) == {}


# ---- the real one against other sources ------------------------------------------------------------------------------


def output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


async def test_facts_against_uname_and_proc(linux: LinuxMachine) -> None:
    facts = await linux.facts()
    assert facts.arch == output("uname", "-m")
    assert facts.kernel_release == output("uname", "-r")
    assert facts.boot_id == output("cat", "/proc/sys/kernel/random/boot_id")
    assert facts.kernel_args == " ".join(output("cat", "/proc/cmdline").split())
    up_since = time.time() - float(output("cat", "/proc/uptime").split()[0])
    assert abs(facts.boot_time - up_since) < 5
    described = dict(re.findall(r"^([^:]+):\s*(.*)$", output("lscpu"), re.MULTILINE))
    assert facts.cpu_model == described["Model name"]
    assert facts.cpu_flags == described["Flags"].split()


async def test_processors_against_lscpu(linux: LinuxMachine) -> None:
    setup = await linux.setup()
    rows = [line.split(",") for line in output("lscpu", "-p=CPU,SOCKET,NODE").splitlines() if line[0] != "#"]
    assert [(cpu.id, cpu.socket, cpu.node) for cpu in setup.processors] == [
        (int(cpu), int(socket), int(node or 0)) for cpu, socket, node in rows
    ]
    cores = [line for line in output("lscpu", "-p=CORE,SOCKET").splitlines() if line[0] != "#"]
    assert len({(cpu.socket, cpu.die, cpu.core) for cpu in setup.processors}) == len(set(cores))
    assert len(setup.own_cpus) == int(output("nproc"))


async def test_memory_against_free(linux: LinuxMachine) -> None:
    setup, sample = await linux.setup(), await linux.sample()
    total, _used, _free, _shared, _cache, available = map(int, output("free", "-k").splitlines()[1].split()[1:])
    assert setup.memory_kib == sample.memory_kib == total
    assert abs(sample.available_kib - available) < 256 * 1024
    assert abs(sample.load - os.getloadavg()[0]) < 1


@pytest.mark.skipif(not shutil.which("virsh"), reason="no virsh")
async def test_nodes_against_libvirt(linux: LinuxMachine) -> None:
    asked = subprocess.run(["virsh", "-r", "-c", "qemu:///system", "capabilities"], capture_output=True, text=True)
    if asked.returncode:
        pytest.skip("no libvirt")
    setup = await linux.setup()
    cells = re.findall(r"<cell id='(\d+)'>(.*?)</cell>", asked.stdout, re.DOTALL)
    assert [node.id for node in setup.nodes] == [int(number) for number, _ in cells]
    for node, (_, cell) in zip(setup.nodes, cells, strict=True):
        assert f"<memory unit='KiB'>{node.memory_kib}</memory>" in cell
        assert node.distances == [int(d) for d in re.findall(r"<sibling id='\d+' value='(\d+)'", cell)]
        assert node.cpus == [int(c) for c in re.findall(r"<cpu id='(\d+)'", cell)]
        for size, pages in node.huge_pages.items():
            assert f"<pages unit='KiB' size='{size}'>{pages}</pages>" in cell
    frequency = re.search(r"<counter name='tsc' frequency='(\d+)'", asked.stdout)
    if frequency and (hz := (await linux.facts()).tsc_hz):
        assert abs(hz - int(frequency[1])) <= 5000


async def test_system_against_os_release(linux: LinuxMachine) -> None:
    setup = await linux.setup()
    assert setup.system.pretty_name == output("sh", "-c", ". /etc/os-release; echo $PRETTY_NAME")
    assert setup.system.id == output("sh", "-c", ". /etc/os-release; echo $ID")


async def test_own_packages_against_dpkg(linux: LinuxMachine) -> None:
    found = await linux.packages(["dpkg"])
    assert found["dpkg"] == output("dpkg-query", "-W", "-f", "${Version}", "dpkg")


async def test_cpu_against_work_done(linux: LinuxMachine) -> None:
    """One CPU second of our own are seen as ours, and as the computer's."""
    older = await linux.sample()
    until = time.process_time() + 1
    while time.process_time() < until:
        pass
    newer = await linux.sample()
    own = newer.own_user_s + newer.own_system_s - older.own_user_s - older.own_system_s
    assert 0.9 < own < 1.6
    assert newer.cpu.user + newer.cpu.system - older.cpu.user - older.cpu.system > 0.8


def test_the_merging_thread_is_found_by_its_name() -> None:
    found = [p.parent.name for p in Path("/proc").glob("[0-9]*/comm") if _comm(p) == "ksmd"]
    assert find_ksmd(Path("/")) == (int(found[0]) if found else None)


def _comm(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:  # it has ended
        return ""


# ---- a computer made of files ----------------------------------------------------------------------------------------

TREE = {
    "proc/cpuinfo": "model name : CPU\x1b[0m X\nflags : constant_tsc nonstop_tsc\nbogomips : 5192.28\ncpu MHz : 20.5\n",
    "proc/meminfo": "MemTotal: 4096 kB\nMemFree: 1024 kB\n",
    "proc/stat": "cpu 1 2 3 4\ncpu0 1 2 3 4\nbtime 1700000000\n",
    "proc/sys/kernel/osrelease": "6.1.0-rt\n",
    "proc/sys/kernel/numa_balancing": "1\n",
    "proc/sys/crypto/fips_enabled": "1\n",
    "proc/12/comm": "ksmd\n",
    "proc/12/stat": "12 (ksmd) S 2 0 0 0 -1 0 0 0 0 0 100 100 0 0 20 0 1 0 10 0 0\n",
    "sys/kernel/realtime": "1\n",
    "sys/kernel/kexec_crash_loaded": "1\n",
    "sys/fs/selinux/enforce": "0\n",
    "sys/module/kvm_amd/parameters/nested": "1\n",
    "sys/class/iommu/dmar0/x": "",
    "sys/class/dmi/id/sys_vendor": "ACME\x00\x1b]0;owned\x07 Inc.\n",
    "sys/class/dmi/id/product_uuid": "4C4C4544-0042-4810-8056-B4C04F395931\n",
    "sys/class/fc_host/host3/port_name": "0x10000090fa000001\n",
    "sys/class/fc_host/host3/node_name": "0x20000090fa000001\n",
    "sys/class/fc_host/host3/symbolic_name": "LPe12000\n",
    "sys/devices/system/cpu/online": "0-3\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "3500000\n",
    "sys/devices/system/cpu/cpu0/topology/physical_package_id": "0\n",
    "sys/devices/system/cpu/cpu1/topology/physical_package_id": "0\n",
    "sys/devices/system/cpu/cpu1/topology/core_id": "1\n",
    "sys/devices/system/cpu/cpu2/topology/physical_package_id": "1\n",
    "sys/devices/system/cpu/cpu3/topology/physical_package_id": "-1\n",
    "sys/devices/system/cpu/cpu3/topology/die_id": "1\n",
    "sys/devices/system/node/node0/cpulist": "0-1\n",
    "sys/devices/system/node/node0/distance": "10 20\n",
    "sys/devices/system/node/node0/meminfo": "Node 0 MemTotal: 2048 kB\nNode 0 MemFree: 100 kB\n",
    "sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages": "7\n",
    "sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages": "5\n",
    "sys/devices/system/node/node10/cpulist": "2-3\n",
    "sys/devices/system/node/node10/distance": "20 10\n",
    "sys/devices/system/node/nodex/cpulist": "9\n",
    "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "7\n",
    "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages": "1\n",
    "sys/kernel/mm/ksm/run": "1\n",
    "sys/kernel/mm/ksm/pages_sharing": "256\n",
    "etc/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian"\n',
    "etc/debian_version": "12.5\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/iscsi/initiatorname.iscsi": "InitiatorName=iqn.2026-01.example:a\n",
    "etc/libvirt/qemu.conf": "vnc_tls = 1\n",
}


def plant(root: Path, tree: dict[str, str]) -> Path:
    for name, text in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


async def test_a_computer_made_of_files(tmp_path: Path) -> None:
    machine = LinuxMachine(plant(tmp_path, TREE), directories=[tmp_path, tmp_path / "missing"])
    facts, setup, sample = await machine.facts(), await machine.setup(), await machine.sample()
    hardware = await machine.hardware()
    await machine.close()
    assert (facts.cpu_model, facts.tsc_hz, facts.boot_time) == ("CPU[0m X", 2_596_140_000, 1700000000)
    assert (facts.realtime_kernel, facts.huge_page_sizes_kib) == (True, [2048, 1048576])
    assert [(c.id, c.socket, c.die, c.core, c.node) for c in setup.processors] == [
        (0, 0, 0, 0, 0),
        (1, 0, 0, 1, 0),
        (2, 1, 0, 0, 10),
        (3, 0, 1, 0, 10),
    ]
    assert [(n.id, n.cpus, n.memory_kib, n.distances, n.huge_pages) for n in setup.nodes] == [
        (0, [0, 1], 2048, [10, 20], {2048: 7}),
        (10, [2, 3], 0, [20, 10], {}),
    ]
    assert (setup.cpu_mhz, setup.numa_balancing, setup.fips, setup.kdump_loaded) == (3500.0, True, True, True)
    assert (setup.selinux_enforcing, setup.nested_virtualization, setup.iommu, setup.vnc_tls) == (
        False,
        True,
        True,
        True,
    )
    assert setup.fibre_channel == [FibreChannelPort(wwpn="10000090fa000001", wwnn="20000090fa000001", model="LPe12000")]
    assert (setup.iscsi_initiator, setup.system.version, setup.system.point) == ("iqn.2026-01.example:a", "12", "5")
    assert setup.host_uuid == hardware.uuid == "4c4c4544-0042-4810-8056-b4c04f395931"
    assert hardware.manufacturer == "ACME]0;owned Inc."
    assert (sample.ksm.running, sample.ksm.saved_kib, sample.ksm.cpu_s) == (True, 1024, 2.0)
    assert sample.available_kib == 1024
    assert sample.nodes[0].free_huge_pages == {2048: 5}
    assert list(sample.free_bytes) == [str(tmp_path)]


async def test_a_computer_that_says_nothing(tmp_path: Path) -> None:
    machine = LinuxMachine(tmp_path)
    facts, setup, hardware = await machine.facts(), await machine.setup(), await machine.hardware()
    sample = await machine.sample()
    await machine.close()
    assert (facts.cpu_flags, facts.boot_id, facts.tsc_hz) == ([], "", 0)
    assert [cpu.id for cpu in setup.processors] == list(range(os.cpu_count() or 1))
    assert (setup.host_uuid, setup.selinux_enforcing, setup.kdump_loaded) == ("", None, None)
    assert [node.distances for node in setup.nodes] == [[10]]
    assert hardware.manufacturer == ""
    assert sample.cpus == {}


async def test_a_computer_that_talks_nonsense(tmp_path: Path) -> None:
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\xff\xfe\x00 -9999999999999999999999999 : = [x] \n" * 100)
    (tmp_path / "sys/class/dmi/id/product_name").mkdir()
    machine = LinuxMachine(tmp_path)
    facts, setup, hardware = await machine.facts(), await machine.setup(), await machine.hardware()
    await machine.sample()
    await machine.close()
    for text in (facts.kernel_release, facts.boot_id, setup.system.id, setup.iscsi_initiator, hardware.manufacturer):
        assert text.isprintable()


async def test_host_uuid_without_firmware_hides_the_machine_id(tmp_path: Path) -> None:
    tree = TREE | {"sys/class/dmi/id/product_uuid": "00000000-0000-0000-0000-000000000000\n"}
    machine = LinuxMachine(plant(tmp_path, tree))
    host_uuid = (await machine.setup()).host_uuid
    await machine.close()
    assert uuid.UUID(host_uuid).version == 5
    assert host_uuid.replace("-", "") != TREE["etc/machine-id"].strip()


async def test_an_administrators_uuid_wins(tmp_path: Path) -> None:
    chosen = str(uuid.uuid4())
    machine = LinuxMachine(plant(tmp_path, TREE | {"etc/vdsm/vdsm.id": f"{chosen}\n"}))
    assert (await machine.setup()).host_uuid == chosen
    await machine.close()


async def test_processors_are_read_again_when_one_goes(tmp_path: Path) -> None:
    machine = LinuxMachine(plant(tmp_path, TREE))
    assert len((await machine.setup()).processors) == 4
    (tmp_path / "sys/devices/system/cpu/online").write_text("0,2\n")
    assert [cpu.id for cpu in (await machine.setup()).processors] == [0, 2]
    await machine.close()


def test_firmware_that_may_not_be_read_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, TREE)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as root, every file may be read
    with pytest.raises(CannotRetrieveHWInfo):
        read_hardware(tmp_path)


async def test_a_file_that_hangs_meets_the_deadline(tmp_path: Path) -> None:
    plant(tmp_path, TREE)
    pipe = tmp_path / "proc/loadavg"
    os.mkfifo(pipe)
    machine = LinuxMachine(tmp_path)
    with within(0.1), pytest.raises(DeadlineExceeded):
        await machine.sample()
    assert (await machine.facts()).boot_time == 1700000000  # another thread of the pool
    with pipe.open("wb"):  # lets the reader end
        pass
    await machine.close()


async def test_a_slow_simulated_machine_meets_the_deadline() -> None:
    with within(0.05), pytest.raises(DeadlineExceeded):
        await SimulatedMachine(delay=5).sample()
