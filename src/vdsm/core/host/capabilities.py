# SPDX-License-Identifier: Apache-2.0
"""Facts of the computer, the hypervisor and the network -> capabilities. Computes only."""

from __future__ import annotations

from vdsm import __version__
from vdsm.contract.host_capabilities import (
    AutoNumaBalancing,
    Capabilities,
    CpuInfo,
    FcHba,
    HbaInventory,
    IscsiHba,
    KdumpStatus,
    NumaNode,
    NumaNodeHugePages,
    RngSource,
    SelinuxMode,
    SelinuxStatus,
    VmType,
)
from vdsm.contract.vm_info import Accelerator
from vdsm.core.ports.hypervisor import HypervisorFacts
from vdsm.core.ports.machine import MachineFacts, MachineSetup
from vdsm.core.storage.format import domain_meta

from . import software
from .network import Picture

_KIB_PER_MIB = 1024
_RESERVED_MIB = 321  # the published default: 256 for the host's processes, 65 for what nobody counts
_GUEST_OVERHEAD_MIB = 65  # the published default for QEMU itself
_VIRT_FLAGS = ("svm", "vmx")


def capabilities(
    machine: MachineFacts,
    setup: MachineSetup,
    hypervisor: HypervisorFacts,
    network: Picture,
    installed: dict[str, str],
    reached: str = "",
) -> Capabilities:
    """`reached` is the address of this host that the caller uses."""
    packages = software.packages(installed, machine.kernel_release, hypervisor, setup.system)
    own = packages["vdsm"]
    return Capabilities(
        kvm_enabled=bool(hypervisor.machine_types),
        accelerator=Accelerator.KVM if hypervisor.kvm else Accelerator.TCG,
        kvm_reason="" if hypervisor.kvm else hypervisor.kvm_reason,
        vm_types=[VmType.KVM],
        emulated_machines=hypervisor.machine_types,
        nested_virtualization=setup.nested_virtualization and hypervisor.kvm,
        hostdev_passthrough=setup.iommu,
        rng_sources=[RngSource.HWRNG, RngSource.RANDOM] if setup.hwrng else [RngSource.RANDOM],
        cpu_model=machine.cpu_model,
        cpu_flags=cpu_flags(machine, hypervisor),
        cpu_speed=setup.cpu_mhz,
        cpu_sockets=len({cpu.socket for cpu in setup.processors}),
        cpu_cores=len({(cpu.socket, cpu.die, cpu.core) for cpu in setup.processors}),
        cpu_threads=len(setup.processors),
        online_cpus=[cpu.id for cpu in setup.processors],
        cpu_topology=_topology(setup),
        vdsm_to_cpus_affinity=setup.own_cpus,
        tsc_frequency=machine.tsc_hz,
        tsc_scaling="tsc_scale" in machine.cpu_flags or "tsc_scaling" in machine.cpu_flags,
        mem_size=setup.memory_kib // _KIB_PER_MIB,
        reserved_mem=_RESERVED_MIB,
        guest_overhead=_GUEST_OVERHEAD_MIB,
        hugepages=machine.huge_page_sizes_kib,
        numa_nodes=_nodes(setup),
        numa_node_distance={str(node.id): node.distances for node in setup.nodes},
        auto_numa_balancing=_AUTO_NUMA[setup.numa_balancing],
        operating_system=software.os_version(setup.system),
        packages2=packages,
        version_name=f"vdsm {__version__}",
        software_version=own.version,
        software_revision=own.release,
        build_name=__version__,
        supported_engines=software.SUPPORTED_ENGINES,
        cluster_levels=software.cluster_levels(hypervisor),
        kernel_args=machine.kernel_args,
        realtime_kernel=machine.realtime_kernel,
        boot_time=machine.boot_time,
        boot_uuid=machine.boot_id,
        uuid=setup.host_uuid,
        kdump_status=_KDUMP[setup.kdump_loaded],
        selinux=SelinuxStatus(mode=_SELINUX[setup.selinux_enforcing]),
        fips_enabled=setup.fips,
        vnc_encrypted=setup.vnc_tls,
        nics=network.nics,
        bondings=network.bondings,
        vlans=network.vlans,
        bridges=network.bridges,
        networks=network.networks,
        nameservers=network.nameservers,
        supports_ipv6=network.ipv6,
        last_client_iface=network.with_address(reached),
        iscsi_initiator_name=setup.iscsi_initiator,
        hba_inventory=_hbas(setup),
        domain_versions=[domain_meta.VERSION],
    )


_AUTO_NUMA = {None: AutoNumaBalancing.UNKNOWN, False: AutoNumaBalancing.DISABLED, True: AutoNumaBalancing.ENABLED}
_KDUMP = {None: KdumpStatus.UNKNOWN, False: KdumpStatus.DISABLED, True: KdumpStatus.ENABLED}
_SELINUX = {None: SelinuxMode.DISABLED, False: SelinuxMode.PERMISSIVE, True: SelinuxMode.ENFORCING}


def cpu_flags(machine: MachineFacts, hypervisor: HypervisorFacts) -> list[str]:
    """The kernel's flags, libvirt's features that the kernel does not name, then the models guests can have."""
    flags = [*machine.cpu_flags, *hypervisor.cpu_features]
    if not hypervisor.kvm and hypervisor.arch == "x86_64" and not set(flags).intersection(_VIRT_FLAGS):
        # The published rule for a host's CPU wants one of these. QEMU's translator gives guests SVM on any computer.
        flags.append("svm")
    return list(dict.fromkeys([*flags, *(f"model_{name}" for name in hypervisor.custom_cpu_models)]))


def _topology(setup: MachineSetup) -> list[CpuInfo]:
    return [
        CpuInfo(cpu_id=cpu.id, numa_cell_id=cpu.node, socket_id=cpu.socket, die_id=cpu.die, core_id=cpu.core)
        for cpu in setup.processors
    ]


def _nodes(setup: MachineSetup) -> dict[str, NumaNode]:
    return {
        str(node.id): NumaNode(
            cpus=node.cpus,
            total_memory=node.memory_kib // _KIB_PER_MIB,
            hugepages={str(size): NumaNodeHugePages(total_pages=pages) for size, pages in node.huge_pages.items()},
        )
        for node in setup.nodes
    }


def _hbas(setup: MachineSetup) -> HbaInventory:
    iscsi = [IscsiHba(initiator_name=setup.iscsi_initiator)] if setup.iscsi_initiator else []
    return HbaInventory(
        fc=[FcHba(model=port.model, wwpn=port.wwpn, wwnn=port.wwnn) for port in setup.fibre_channel], iscsi=iscsi
    )
