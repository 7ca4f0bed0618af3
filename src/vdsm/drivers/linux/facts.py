# SPDX-License-Identifier: Apache-2.0
"""Reads what the computer is and how it is set up. Every function takes the root of the file system."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from vdsm.contract.errors import CannotRetrieveHWInfo
from vdsm.core.ports.machine import (
    FibreChannelPort,
    Hardware,
    MachineFacts,
    MachineSetup,
    MemoryNode,
    Processor,
    SystemRelease,
)
from vdsm.drivers.files import clean, names_in, numbered, read_int, read_text, read_word

from . import proc

CPUS = "sys/devices/system/cpu"
NODES = "sys/devices/system/node"
HUGE_PAGES = "sys/kernel/mm/hugepages"

_DMI = "sys/class/dmi/id"
_DMI_FIELDS = {
    "manufacturer": "sys_vendor",
    "product": "product_name",
    "version": "product_version",
    "serial": "product_serial",
    "family": "product_family",
    "uuid": "product_uuid",
}
_ARGS_MAX = 4096  # the kernel's own limit is 2048 on x86
# machine-id(5) forbids to show the id itself on a network; this namespace is vdsm's own.
_HOST_IDS = uuid.UUID("0e0b6c1a-7f0d-4b43-9d55-3a2f1c8f64d7")


def read_hardware(root: Path) -> Hardware:
    """Raises CannotRetrieveHWInfo when none of the firmware's words may be read."""
    directory = root / _DMI
    files = {field: directory / name for field, name in _DMI_FIELDS.items()}
    there = [path for path in files.values() if path.exists()]
    if there and not any(os.access(path, os.R_OK) for path in there):
        raise CannotRetrieveHWInfo(reason="the DMI tables are not readable for this user")
    words = {field: read_word(path) for field, path in files.items()}
    return Hardware(**words | {"uuid": words["uuid"].lower()})


def read_facts(root: Path) -> MachineFacts:
    cpu = proc.parse_cpuinfo(read_text(root / "proc/cpuinfo"))
    return MachineFacts(
        arch=os.uname().machine,
        kernel_release=read_word(root / "proc/sys/kernel/osrelease"),
        kernel_args=clean(" ".join(read_text(root / "proc/cmdline").split()), _ARGS_MAX),
        realtime_kernel=read_int(root / "sys/kernel/realtime") == 1,
        boot_id=read_word(root / "proc/sys/kernel/random/boot_id"),
        boot_time=proc.parse_stat(read_text(root / "proc/stat"), 1).boot_time,
        cpu_model=cpu.model,
        cpu_flags=cpu.flags,
        tsc_hz=_tsc_hz(root, cpu),
        huge_page_sizes_kib=list(page_sizes(root / HUGE_PAGES)),
    )


def _tsc_hz(root: Path, cpu: proc.CpuDescription) -> int:
    if "constant_tsc" not in cpu.flags or "nonstop_tsc" not in cpu.flags:
        return 0
    if (khz := read_int(root / CPUS / "cpu0/tsc_freq_khz")) is not None:
        return khz * 1000
    # "Calibrating delay loop (skipped), value calculated using timer frequency": with a steady TSC bogomips is
    # twice its MHz, to the nearest 5 kHz.
    return round(cpu.bogomips * 500_000)


def page_sizes(directory: Path) -> dict[int, Path]:
    """`hugepages-2048kB`... by their KiB."""
    found = {}
    for name in names_in(directory):
        size = name.removeprefix("hugepages-").removesuffix("kB")
        if size.isascii() and size.isdecimal():
            found[int(size)] = directory / name
    return dict(sorted(found.items()))


def read_setup(root: Path, processors: list[Processor], host_uuid: str) -> MachineSetup:
    memory_kib = proc.parse_table(read_text(root / "proc/meminfo")).get("MemTotal", 0)
    return MachineSetup(
        host_uuid=host_uuid,
        system=read_system(root),
        memory_kib=memory_kib,
        processors=processors,
        own_cpus=sorted(os.sched_getaffinity(0)),
        cpu_mhz=_cpu_mhz(root),
        nodes=_nodes(root) or [_only_node(root, processors, memory_kib)],
        numa_balancing=_switch(root / "proc/sys/kernel/numa_balancing"),
        hwrng=(root / "dev/hwrng").exists(),
        iommu=bool(names_in(root / "sys/class/iommu")),
        nested_virtualization=_nested(root),
        selinux_enforcing=_switch(root / "sys/fs/selinux/enforce"),
        fips=read_int(root / "proc/sys/crypto/fips_enabled") == 1,
        kdump_loaded=_switch(root / "sys/kernel/kexec_crash_loaded"),
        vnc_tls=proc.has_vnc_tls(read_text(root / "etc/libvirt/qemu.conf")),
        iscsi_initiator=proc.parse_initiator(read_text(root / "etc/iscsi/initiatorname.iscsi")),
        fibre_channel=_fibre_channel(root),
    )


def read_processors(root: Path, online: str) -> list[Processor]:
    """Where each of the `online` processors ("0-3") is."""
    node_of = {
        cpu: node
        for node, path in numbered(root / NODES, "node").items()
        for cpu in proc.parse_cpu_list(read_text(path / "cpulist"))
    }
    found = []
    for cpu in proc.parse_cpu_list(online) or range(os.cpu_count() or 1):
        topology = root / CPUS / f"cpu{cpu}" / "topology"
        # -1: the firmware does not say.
        socket, die, core = (
            max(read_int(topology / name) or 0, 0) for name in ("physical_package_id", "die_id", "core_id")
        )
        found.append(Processor(id=cpu, socket=socket, die=die, core=core, node=node_of.get(cpu, 0)))
    return found


def read_host_uuid(root: Path) -> str:
    """What an administrator chose, else the firmware's, else one made from the machine id."""
    for name in ("etc/vdsm/vdsm.id", f"{_DMI}/product_uuid"):
        if (found := _uuid(read_word(root / name))) is not None:
            return str(found)
    machine = _uuid(read_word(root / "etc/machine-id"))
    return str(uuid.uuid5(_HOST_IDS, machine.hex)) if machine else ""


def _uuid(text: str) -> uuid.UUID | None:
    try:
        found = uuid.UUID(text)
    except ValueError:
        return None
    return found if found.int not in (0, 2**128 - 1) else None  # what firmware without one says


def read_system(root: Path) -> SystemRelease:
    text = read_text(root / "etc/os-release") or read_text(root / "usr/lib/os-release")
    words = proc.parse_os_release(text)
    version = words.get("VERSION_ID", "")
    exact = read_word(root / "etc/debian_version") if words.get("ID") == "debian" else version
    return SystemRelease(
        id=words.get("ID", "").lower(),
        version=version.partition(".")[0],
        point=exact.partition(".")[2],
        pretty_name=words.get("PRETTY_NAME", ""),
    )


def _nodes(root: Path) -> list[MemoryNode]:
    return [
        MemoryNode(
            id=number,
            cpus=proc.parse_cpu_list(read_text(path / "cpulist")),
            memory_kib=proc.parse_table(read_text(path / "meminfo")).get("MemTotal", 0),
            distances=[int(d) for d in read_text(path / "distance").split() if d.isascii() and d.isdecimal()],
            huge_pages={
                size: read_int(pool / "nr_hugepages") or 0 for size, pool in page_sizes(path / "hugepages").items()
            },
        )
        for number, path in numbered(root / NODES, "node").items()
    ]


def _only_node(root: Path, processors: list[Processor], memory_kib: int) -> MemoryNode:
    """A kernel without NUMA shows no nodes."""
    pools = page_sizes(root / HUGE_PAGES)
    return MemoryNode(
        id=0,
        cpus=[cpu.id for cpu in processors],
        memory_kib=memory_kib,
        distances=[10],
        huge_pages={size: read_int(pool / "nr_hugepages") or 0 for size, pool in pools.items()},
    )


def _cpu_mhz(root: Path) -> float:
    """The highest it can run at, else what it runs at now."""
    if khz := read_int(root / CPUS / "cpu0/cpufreq/cpuinfo_max_freq"):
        return khz / 1000
    return proc.parse_cpuinfo(read_text(root / "proc/cpuinfo")).mhz


def _switch(path: Path) -> bool | None:
    value = read_int(path)
    return None if value is None else value != 0


def _nested(root: Path) -> bool:
    modules = root / "sys/module"
    return any(
        read_word(modules / name / "parameters/nested") in ("1", "Y")
        for name in names_in(modules)
        if name.startswith("kvm")
    )


def _fibre_channel(root: Path) -> list[FibreChannelPort]:
    found = []
    for name in names_in(root / "sys/class/fc_host"):
        port = root / "sys/class/fc_host" / name
        if wwpn := proc.parse_wwn(read_text(port / "port_name")):
            wwnn = proc.parse_wwn(read_text(port / "node_name"))
            model = read_word(port / "symbolic_name") or read_word(root / "sys/class/scsi_host" / name / "model_name")
            found.append(FibreChannelPort(wwpn=wwpn, wwnn=wwnn, model=model))
    return found
