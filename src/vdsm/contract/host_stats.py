# SPDX-License-Identifier: Apache-2.0
"""How the host does now, by the published names, with true types."""

from __future__ import annotations

import enum

import msgspec

from .types import Bytes, MiB, Output, Percent


class NicState(enum.StrEnum):
    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"


class HostNicStats(Output, frozen=True, kw_only=True):
    """One interface of the host; counters since it appeared."""

    name: str
    state: NicState
    speed: int  # Mbit/s; 0: unknown
    rx: Bytes
    tx: Bytes
    rx_errors: int
    tx_errors: int
    rx_dropped: int
    tx_dropped: int
    sample_time: float  # seconds of the monotonic clock


class CpuCoreStats(Output, frozen=True, kw_only=True):
    """One processor; percent of it."""

    node_index: int
    cpu_user: Percent
    cpu_sys: Percent
    cpu_idle: Percent


class HugePagesStats(Output, frozen=True, kw_only=True):
    """The pool of one page size, by the names of the kernel's settings."""

    nr_hugepages: int = msgspec.field(name="nr_hugepages")
    free_hugepages: int = msgspec.field(name="vm.free_hugepages")


class NumaNodeHugePagesStats(Output, frozen=True, kw_only=True):
    free_pages: int


class NumaNodeMemoryStats(Output, frozen=True, kw_only=True):
    mem_free: MiB
    mem_percent: int  # in use
    hugepages: dict[str, NumaNodeHugePagesStats]  # by page size in KiB


class MomStatus(enum.StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"
    INACTIVE = "inactive"


class ThpState(enum.StrEnum):
    """Transparent huge pages."""

    ALWAYS = "always"
    MADVISE = "madvise"
    NEVER = "never"


class PathStats(Output, frozen=True, kw_only=True):
    free: MiB


class StorageDomainVitals(Output, frozen=True, kw_only=True):
    """How a storage domain was found at the last look."""

    code: int  # 0: well; 358: it is not there, 360: not mounted, 753: damaged, 2001: it cannot be read, 200: else
    valid: bool  # whether it can be used
    actual: bool  # whether it was looked at yet
    acquired: bool  # whether this host has what it needs there: its host id, where there are leases
    version: int
    last_check: float  # seconds ago
    delay: float  # seconds a read took


class HostedEngineStatus(Output, frozen=True, kw_only=True):
    configured: bool = False
    active: bool = False
    score: int = 0
    local_maintenance: bool = False
    global_maintenance: bool = False


class V2vJobInfo(Output, frozen=True, kw_only=True):
    id: str
    status: str
    description: str
    progress: int  # percent


class MultipathHealth(Output, frozen=True, kw_only=True):
    valid_paths: int = msgspec.field(name="valid_paths")
    failed_paths: list[str] = msgspec.field(name="failed_paths")


class HostStats(Output, frozen=True, kw_only=True):
    """How the host does. Percents are averages since the stats were asked for before (at first: since boot)."""

    date_time: str  # "2026-11-22T17:00:00 GMT"
    boot_time: int  # seconds since 1970
    elapsed_time: int  # seconds since the daemon started

    # Processors; the first three are of all of them together and make up 100.
    cpu_user: Percent
    cpu_sys: Percent  # kernel, interrupts, and what a hypervisor around this host took
    cpu_idle: Percent
    cpu_load: float  # tasks that want to run, averaged over a minute
    cpu_user_vdsmd: Percent
    cpu_sys_vdsmd: Percent
    cpu_statistics: dict[str, CpuCoreStats]  # by processor number

    # Memory.
    mem_free: MiB  # that can be had without swapping
    mem_used: int  # percent
    mem_shared: MiB  # saved by KSM
    swap_total: MiB
    swap_free: MiB
    anon_huge_pages: MiB
    hugepages: dict[str, HugePagesStats]  # by page size in KiB
    numa_node_mem_free: dict[str, NumaNodeMemoryStats]
    thp_state: ThpState
    ksm_state: bool  # merging now
    ksm_pages: int  # looked at in one go
    ksm_cpu: int  # percent of one CPU
    ksm_merge_across_nodes: bool
    mom_status: MomStatus = MomStatus.DISABLED

    # Virtual machines.
    vm_count: int
    vm_active: int
    vm_migrating: int
    incoming_vm_migrations: int
    outgoing_vm_migrations: int

    # Networks.
    network: dict[str, HostNicStats]
    rx_dropped: int
    tx_dropped: int
    net_config_dirty: bool = False

    # Storage, and what comes with later parts.
    disk_stats: dict[str, PathStats]  # free space where the daemon and its guests write
    storage_domains: dict[str, StorageDomainVitals] = {}
    images_last_check: float | None = None  # seconds ago
    images_delay: float | None = None
    multipath_health: dict[str, MultipathHealth] = {}
    v2v_jobs: dict[str, V2vJobInfo] = {}
    ha_stats: HostedEngineStatus = HostedEngineStatus()
    ha_score: int = 0
