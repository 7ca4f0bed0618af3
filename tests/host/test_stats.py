# SPDX-License-Identifier: Apache-2.0
"""Two samples -> statistics."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from vdsm.contract.codec import from_json, to_json
from vdsm.contract.host_stats import HostStats, NicState, ThpState
from vdsm.core.host.sampler import Interval
from vdsm.core.host.stats import VmCounts, cpu_shares, host_stats
from vdsm.core.ports.links import LinkCounters, LinkSample, LinkState
from vdsm.core.ports.machine import (
    CpuTimes,
    HugePagePool,
    KsmSample,
    MachineSample,
    NodeSample,
)

seconds = st.floats(0, 1e9)
times = st.builds(CpuTimes, user=seconds, system=seconds, idle=seconds)


@given(times, times)
def test_shares_make_up_100_whatever_the_counters_do(older: CpuTimes, newer: CpuTimes) -> None:
    shares = cpu_shares(older, newer)
    assert min(shares.user, shares.system, shares.idle) >= 0
    assert abs(shares.user + shares.system + shares.idle - 100) < 0.02


def test_shares_are_of_the_difference() -> None:
    older = CpuTimes(user=1000, system=500, idle=10)
    newer = CpuTimes(user=1001, system=502, idle=15)
    shares = cpu_shares(older, newer)
    assert (shares.user, shares.system, shares.idle) == (12.5, 25.0, 62.5)


def test_no_time_passed_is_idle() -> None:
    now = CpuTimes(user=3, system=2, idle=1)
    shares = cpu_shares(now, now)
    assert (shares.user, shares.system, shares.idle) == (0, 0, 100)


def test_a_counter_that_went_back_counts_as_nothing() -> None:
    shares = cpu_shares(CpuTimes(user=10, system=10, idle=1000), CpuTimes(user=11, system=11, idle=900))
    assert (shares.user, shares.system, shares.idle) == (50, 50, 0)


OLDER = MachineSample(
    taken=100.0,
    cpu=CpuTimes(user=100, system=100, idle=100),
    cpus={0: CpuTimes(user=50, system=50, idle=50), 1: CpuTimes(user=50, system=50, idle=50)},
    ksm=KsmSample(cpu_s=1.0),
    own_user_s=2.0,
    own_system_s=1.0,
)
NEWER = MachineSample(
    taken=110.0,
    cpu=CpuTimes(user=105, system=101, idle=114),
    cpus={0: CpuTimes(user=55, system=50, idle=55), 1: CpuTimes(user=50, system=51, idle=59)},
    load=1.25,
    memory_kib=8 * 1024 * 1024,
    available_kib=6 * 1024 * 1024,
    swap_kib=2048,
    swap_free_kib=1024,
    anon_huge_kib=4096,
    huge_pages={2048: HugePagePool(total=10, free=4)},
    nodes={0: NodeSample(total_kib=4096, free_kib=1024, free_huge_pages={2048: 4})},
    transparent_huge_pages="madvise",
    ksm=KsmSample(running=True, pages_to_scan=100, saved_kib=10240, merge_across_nodes=True, cpu_s=2.0),
    own_user_s=2.5,
    own_system_s=1.25,
    free_bytes={"/": 3 * 1024 * 1024 + 5},
)
LINKS = LinkSample(
    taken=110.5,
    counters={
        "eth0": LinkCounters(rx_bytes=1, rx_errors=2, rx_dropped=3, tx_bytes=4, tx_errors=5, tx_dropped=6),
        "eth1": LinkCounters(rx_dropped=10, tx_dropped=10),
        "vnet0": LinkCounters(rx_dropped=1000),
    },
    states={"eth0": LinkState(up=True, speed=1000), "eth1": LinkState(up=None)},
)


def stats_of(older: MachineSample, newer: MachineSample, names: frozenset[str]) -> HostStats:
    counts = VmCounts(total=5, active=4, migrating=2, incoming=1, outgoing=1)
    return host_stats(
        Interval(older, newer),
        LINKS,
        names,
        {0: 0, 1: 1},
        counts,
        {},
        now=1795366800.7,
        boot_time=1700000000,
        elapsed=9.9,
    )


def test_every_figure() -> None:
    stats = stats_of(OLDER, NEWER, frozenset({"eth0", "eth1", "gone"}))
    assert stats.date_time == "2026-11-22T17:00:00 GMT"
    assert (stats.boot_time, stats.elapsed_time) == (1700000000, 9)
    assert (stats.cpu_user, stats.cpu_sys, stats.cpu_idle) == (25.0, 5.0, 70.0)
    assert (stats.cpu_user_vdsmd, stats.cpu_sys_vdsmd, stats.cpu_load) == (5.0, 2.5, 1.25)
    assert (stats.mem_free, stats.mem_used, stats.mem_shared) == (6144, 25, 10)
    assert (stats.swap_total, stats.swap_free, stats.anon_huge_pages) == (2, 1, 4)
    assert (stats.thp_state, stats.ksm_state, stats.ksm_pages, stats.ksm_cpu) == (ThpState.MADVISE, True, 100, 10)
    assert (stats.vm_count, stats.vm_active, stats.vm_migrating) == (5, 4, 2)
    assert (stats.incoming_vm_migrations, stats.outgoing_vm_migrations) == (1, 1)
    first, second = stats.cpu_statistics["0"], stats.cpu_statistics["1"]
    assert (first.node_index, first.cpu_user, first.cpu_sys, first.cpu_idle) == (0, 50.0, 0.0, 50.0)
    assert (second.node_index, second.cpu_user, second.cpu_sys, second.cpu_idle) == (1, 0.0, 10.0, 90.0)
    node = stats.numa_node_mem_free["0"]
    assert (node.mem_free, node.mem_percent, node.hugepages["2048"].free_pages) == (1, 75, 4)
    assert stats.disk_stats["/"].free == 3


def test_network_shows_the_named_links_and_sums_only_those() -> None:
    stats = stats_of(OLDER, NEWER, frozenset({"eth0", "eth1", "gone"}))
    assert list(stats.network) == ["eth0", "eth1"]
    nic = stats.network["eth0"]
    assert (nic.rx, nic.rx_errors, nic.rx_dropped, nic.tx, nic.tx_errors, nic.tx_dropped) == (1, 2, 3, 4, 5, 6)
    assert (nic.name, nic.state, nic.speed, nic.sample_time) == ("eth0", NicState.UP, 1000, 110.5)
    assert stats.network["eth1"].state is NicState.UNKNOWN
    assert (stats.rx_dropped, stats.tx_dropped) == (13, 16)


def test_the_published_names_and_kinds_of_number() -> None:
    plain = msgspec.json.decode(to_json(stats_of(OLDER, NEWER, frozenset({"eth0"}))))
    assert plain["hugepages"] == {"2048": {"nr_hugepages": 10, "vm.free_hugepages": 4}}
    assert plain["cpuStatistics"]["0"] == {"nodeIndex": 0, "cpuUser": 50.0, "cpuSys": 0.0, "cpuIdle": 50.0}
    assert all(isinstance(plain[name], float) for name in ("cpuUser", "cpuSys", "cpuIdle", "cpuLoad"))
    assert all(isinstance(plain[name], int) for name in ("memFree", "swapTotal", "ksmPages", "bootTime"))
    assert plain["haStats"] == {
        "configured": False, "active": False, "score": 0, "localMaintenance": False, "globalMaintenance": False,
    }  # fmt: skip


def test_an_empty_sample_is_no_error() -> None:
    empty = MachineSample(taken=0.0)
    stats = stats_of(empty, empty, frozenset())
    assert (stats.cpu_idle, stats.mem_used, stats.ksm_cpu, stats.thp_state) == (100.0, 0, 0, ThpState.NEVER)


def test_round_trip() -> None:
    stats = stats_of(OLDER, NEWER, frozenset({"eth0"}))
    assert from_json(to_json(stats), HostStats) == stats
