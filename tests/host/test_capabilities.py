# SPDX-License-Identifier: Apache-2.0
"""Facts -> capabilities."""

from __future__ import annotations

import msgspec

from vdsm.contract.codec import from_json, to_json
from vdsm.contract.host_capabilities import (
    AutoNumaBalancing,
    Capabilities,
    KdumpStatus,
    RngSource,
    SelinuxMode,
)
from vdsm.contract.vm_info import Accelerator
from vdsm.core.host.capabilities import capabilities, cpu_flags
from vdsm.core.host.network import draw
from vdsm.core.ports.hypervisor import HypervisorFacts
from vdsm.core.ports.machine import FibreChannelPort, MachineFacts, MachineSetup
from vdsm.drivers.simulated.computer import SimulatedMachine
from vdsm.drivers.simulated.facts import FACTS
from vdsm.drivers.simulated.links import NETWORK

TCG = msgspec.structs.replace(FACTS, kvm=False, kvm_reason="a guest does not boot on it")


async def made(hypervisor: HypervisorFacts = FACTS, **changes: object) -> Capabilities:
    machine = SimulatedMachine()
    facts, setup = await machine.facts(), await machine.setup()
    facts = msgspec.structs.replace(facts, **{k: v for k, v in changes.items() if k in MachineFacts.__struct_fields__})
    setup = msgspec.structs.replace(setup, **{k: v for k, v in changes.items() if k in MachineSetup.__struct_fields__})
    return capabilities(facts, setup, hypervisor, draw(NETWORK), {"libvirt-daemon": "9.0.0-4+deb12u2"})


async def test_processors_and_memory() -> None:
    caps = await made()
    assert (caps.cpu_sockets, caps.cpu_cores, caps.cpu_threads) == (2, 8, 8)
    assert caps.online_cpus == list(range(8))
    assert (caps.cpu_topology[5].cpu_id, caps.cpu_topology[5].numa_cell_id, caps.cpu_topology[5].core_id) == (5, 1, 1)
    assert (caps.mem_size, caps.reserved_mem, caps.guest_overhead) == (16384, 321, 65)
    assert (caps.numa_nodes["1"].cpus, caps.numa_nodes["1"].total_memory) == ([4, 5, 6, 7], 8192)
    assert caps.numa_nodes["1"].hugepages["2048"].total_pages == 64
    assert caps.numa_node_distance == {"0": [10, 20], "1": [20, 10]}
    assert all(len(distances) == len(caps.numa_nodes) for distances in caps.numa_node_distance.values())


async def test_threads_of_a_core_count_once() -> None:
    setup = await SimulatedMachine().setup()
    paired = [msgspec.structs.replace(cpu, core=cpu.core // 2) for cpu in setup.processors]
    caps = await made(processors=paired)
    assert (caps.cpu_sockets, caps.cpu_cores, caps.cpu_threads) == (2, 4, 8)


async def test_a_host_without_kvm_says_so_and_still_runs_guests() -> None:
    caps = await made(TCG)
    assert (caps.kvm_enabled, caps.accelerator) == (True, Accelerator.TCG)
    assert caps.kvm_reason == "a guest does not boot on it"
    caps = await made(FACTS)
    assert (caps.kvm_enabled, caps.accelerator, caps.kvm_reason) == (True, Accelerator.KVM, "")
    assert not (await made(msgspec.structs.replace(FACTS, machine_types=[]))).kvm_enabled


async def test_flags_name_the_models_and_one_way_to_virtualize() -> None:
    facts = await SimulatedMachine().facts()
    flags = cpu_flags(facts, FACTS)
    assert {"nx", "svm", "model_EPYC", "model_qemu64", "sse4.2"} <= set(flags)
    assert len(flags) == len(set(flags))
    bare = msgspec.structs.replace(facts, cpu_flags=["fpu", "nx"])
    features = [f for f in FACTS.cpu_features if f != "svm"]
    assert "svm" in cpu_flags(bare, msgspec.structs.replace(TCG, cpu_features=features))
    assert "svm" not in cpu_flags(bare, msgspec.structs.replace(FACTS, cpu_features=features))
    assert "svm" not in cpu_flags(bare, msgspec.structs.replace(TCG, cpu_features=["vmx"]))


async def test_three_valued_facts() -> None:
    caps = await made(numa_balancing=None, kdump_loaded=None, selinux_enforcing=None, hwrng=False)
    assert caps.auto_numa_balancing is AutoNumaBalancing.UNKNOWN
    assert (caps.kdump_status, caps.selinux.mode) == (KdumpStatus.UNKNOWN, SelinuxMode.DISABLED)
    assert caps.rng_sources == [RngSource.RANDOM]
    caps = await made(numa_balancing=False, kdump_loaded=True, selinux_enforcing=False, hwrng=True)
    assert caps.auto_numa_balancing is AutoNumaBalancing.DISABLED
    assert (caps.kdump_status, caps.selinux.mode) == (KdumpStatus.ENABLED, SelinuxMode.PERMISSIVE)
    assert caps.rng_sources == [RngSource.HWRNG, RngSource.RANDOM]


async def test_host_bus_adapters() -> None:
    port = FibreChannelPort(wwpn="10000090fa000001", wwnn="20000090fa000001", model="LPe12000")
    plain = msgspec.json.decode(to_json(await made(fibre_channel=[port])))
    assert plain["HBAInventory"] == {
        "iSCSI": [{"InitiatorName": "iqn.1993-08.org.debian:01:simulated"}],
        "FC": [{"model": "LPe12000", "wwpn": "10000090fa000001", "wwnn": "20000090fa000001"}],
    }
    plain = msgspec.json.decode(to_json(await made(iscsi_initiator="")))
    assert plain["HBAInventory"] == {"iSCSI": [], "FC": []}


# What ovirt-engine reads of a host's capabilities, by the published names.
READ_BY_ENGINE = [
    "clusterLevels", "supportedENGINEs", "HBAInventory", "packages2", "emulatedMachines", "cpuFlags", "cpuModel",
    "onlineCpus", "cpuThreads", "cpuCores", "cpuSockets", "cpuSpeed", "cpuTopology", "vdsmToCpusAffinity",
    "memSize", "reservedMem", "guestOverhead", "kvmEnabled", "kernelArgs", "version_name", "software_version",
    "build_name", "operatingSystem", "ISCSIInitiatorName", "rngSources", "hooks", "bootTime", "kdumpStatus",
    "hostdevPassthrough", "selinux", "hostedEngineDeployed", "vncEncrypted", "ovnConfigured", "fipsEnabled",
    "tscScaling", "backupEnabled", "coldBackupEnabled", "clearBitmapsEnabled", "cd_change_pdiv", "kernelFeatures",
    "connector_info", "openstack_binding_host_ids", "supported_block_size", "domain_versions", "additionalFeatures",
    "tscFrequency", "boot_uuid", "nameservers", "numaNodes", "numaNodeDistance", "autoNumaBalancing",
    "netConfigDirty", "nics", "vlans", "bondings", "bridges", "networks",
]  # fmt: skip


async def test_every_published_name_is_there() -> None:
    plain = msgspec.json.decode(to_json(await made()))
    assert [name for name in READ_BY_ENGINE if name not in plain] == []
    assert plain["packages2"]["libvirt"] == {"version": "9.0.0", "release": "4.deb12u2"}
    assert plain["operatingSystem"]["name"] == "Debian"
    assert plain["selinux"] == {"mode": -1}
    assert plain["nics"]["eth0"]["hwaddr"] == "52:54:00:00:00:01"


async def test_round_trip() -> None:
    caps = await made()
    assert from_json(to_json(caps), Capabilities) == caps
