# SPDX-License-Identifier: Apache-2.0
"""Two samples of the computer, and the counters of its network -> statistics. Computes only."""

from __future__ import annotations

import datetime

import msgspec

from vdsm.contract.host_stats import (
    CpuCoreStats,
    HostNicStats,
    HostStats,
    HugePagesStats,
    NicState,
    NumaNodeHugePagesStats,
    NumaNodeMemoryStats,
    PathStats,
    StorageDomainVitals,
    ThpState,
)
from vdsm.core.ports.links import LinkCounters, LinkSample, LinkState
from vdsm.core.ports.machine import CpuTimes, MachineSample, NodeSample

from .sampler import Interval

_KIB_PER_MIB = 1024
_BYTES_PER_MIB = 1024 * 1024


class VmCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many machines there are. Active: neither Down nor leaving."""

    total: int = 0
    active: int = 0
    migrating: int = 0
    incoming: int = 0
    outgoing: int = 0


class CpuShares(msgspec.Struct, frozen=True):
    """Percents that make up 100."""

    user: float
    system: float
    idle: float


def cpu_shares(older: CpuTimes, newer: CpuTimes) -> CpuShares:
    """Counters may go back a little, as idle time does when a processor is taken off: that counts as nothing."""
    user, system, idle = (
        max(after - before, 0.0)
        for before, after in (
            (older.user, newer.user),
            (older.system, newer.system),
            (older.idle, newer.idle),
        )
    )
    total = user + system + idle
    if total <= 0:
        return CpuShares(0.0, 0.0, 100.0)
    busy = (_percent(user, total), _percent(system, total))
    return CpuShares(*busy, round(max(100.0 - sum(busy), 0.0), 2))


def _percent(part: float, whole: float) -> float:
    return round(100 * max(part, 0.0) / whole, 2) if whole > 0 else 0.0


def host_stats(
    interval: Interval,
    links: LinkSample,
    names: frozenset[str],
    nodes_of_cpus: dict[int, int],
    counts: VmCounts,
    storage: dict[str, StorageDomainVitals],
    *,
    now: float,
    boot_time: int,
    elapsed: float,
) -> HostStats:
    """`names`: of the interfaces to show; `now`: seconds since 1970; `elapsed`: seconds since the daemon started."""
    older, newer = interval
    seconds = interval.seconds
    shares = cpu_shares(older.cpu, newer.cpu)
    network = {n: _nic(n, links, links.counters[n], links.states.get(n)) for n in sorted(names & links.counters.keys())}
    return HostStats(
        date_time=f"{datetime.datetime.fromtimestamp(now, datetime.UTC):%Y-%m-%dT%H:%M:%S} GMT",
        boot_time=boot_time,
        elapsed_time=int(elapsed),
        cpu_user=shares.user,
        cpu_sys=shares.system,
        cpu_idle=shares.idle,
        cpu_load=newer.load,
        cpu_user_vdsmd=_percent(newer.own_user_s - older.own_user_s, seconds),
        cpu_sys_vdsmd=_percent(newer.own_system_s - older.own_system_s, seconds),
        cpu_statistics=_cpu_statistics(older, newer, nodes_of_cpus),
        mem_free=newer.available_kib // _KIB_PER_MIB,
        mem_used=_used_percent(newer.memory_kib, newer.available_kib),
        mem_shared=newer.ksm.saved_kib // _KIB_PER_MIB,
        swap_total=newer.swap_kib // _KIB_PER_MIB,
        swap_free=newer.swap_free_kib // _KIB_PER_MIB,
        anon_huge_pages=newer.anon_huge_kib // _KIB_PER_MIB,
        hugepages={
            str(size): HugePagesStats(nr_hugepages=pool.total, free_hugepages=pool.free)
            for size, pool in newer.huge_pages.items()
        },
        numa_node_mem_free={str(number): _node(node) for number, node in newer.nodes.items()},
        thp_state=_thp_state(newer.transparent_huge_pages),
        ksm_state=newer.ksm.running,
        ksm_pages=newer.ksm.pages_to_scan,
        ksm_cpu=round(_percent(newer.ksm.cpu_s - older.ksm.cpu_s, seconds)),
        ksm_merge_across_nodes=newer.ksm.merge_across_nodes,
        vm_count=counts.total,
        vm_active=counts.active,
        vm_migrating=counts.migrating,
        incoming_vm_migrations=counts.incoming,
        outgoing_vm_migrations=counts.outgoing,
        network=network,
        rx_dropped=sum(nic.rx_dropped for nic in network.values()),
        tx_dropped=sum(nic.tx_dropped for nic in network.values()),
        disk_stats={path: PathStats(free=free // _BYTES_PER_MIB) for path, free in newer.free_bytes.items()},
        storage_domains=storage,
    )


def _cpu_statistics(older: MachineSample, newer: MachineSample, nodes: dict[int, int]) -> dict[str, CpuCoreStats]:
    found = {}
    for number, times in newer.cpus.items():
        shares = cpu_shares(older.cpus.get(number, CpuTimes()), times)
        found[str(number)] = CpuCoreStats(
            node_index=nodes.get(number, 0), cpu_user=shares.user, cpu_sys=shares.system, cpu_idle=shares.idle
        )
    return found


def _used_percent(total: int, free: int) -> int:
    return min(max(round(100 * (total - free) / total), 0), 100) if total else 0


def _node(node: NodeSample) -> NumaNodeMemoryStats:
    return NumaNodeMemoryStats(
        mem_free=node.free_kib // _KIB_PER_MIB,
        mem_percent=_used_percent(node.total_kib, node.free_kib),
        hugepages={str(size): NumaNodeHugePagesStats(free_pages=free) for size, free in node.free_huge_pages.items()},
    )


def _thp_state(word: str) -> ThpState:
    try:
        return ThpState(word)
    except ValueError:
        return ThpState.NEVER  # a kernel without them


def _nic(name: str, sample: LinkSample, counters: LinkCounters, state: LinkState | None) -> HostNicStats:
    return HostNicStats(
        name=name,
        state=_nic_state(state.up if state else None),
        speed=state.speed if state else 0,
        rx=counters.rx_bytes,
        tx=counters.tx_bytes,
        rx_errors=counters.rx_errors,
        tx_errors=counters.tx_errors,
        rx_dropped=counters.rx_dropped,
        tx_dropped=counters.tx_dropped,
        sample_time=sample.taken,
    )


def _nic_state(up: bool | None) -> NicState:
    if up is None:
        return NicState.UNKNOWN
    return NicState.UP if up else NicState.DOWN
