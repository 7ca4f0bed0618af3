# SPDX-License-Identifier: Apache-2.0
"""Statistics of a virtual machine, by the published names, with true types."""

from __future__ import annotations

import msgspec

from .types import Bytes, MiB, Output, Percent
from .vm_info import Accelerator, DisplayInfo, ExitReason, VmState


class DiskStats(Output, frozen=True, kw_only=True):
    """One disk; rates and latencies over the time since the last sample."""

    image_id: str | None = msgspec.field(name="imageID", default=None)  # that a manager knows it by
    truesize: Bytes
    apparentsize: Bytes
    read_rate: float  # bytes per second
    write_rate: float
    read_ops: int
    write_ops: int
    read_bytes: int
    written_bytes: int
    read_latency: int = 0  # nanoseconds an operation takes
    write_latency: int = 0
    flush_latency: int = 0


class NicStats(Output, frozen=True, kw_only=True):
    """One interface; counters since the machine's start."""

    name: str
    mac_addr: str
    rx: Bytes
    tx: Bytes
    rx_errors: int
    tx_errors: int
    rx_dropped: int
    tx_dropped: int
    sample_time: float  # seconds of the monotonic clock
    speed: int  # Mbit/s
    state: str  # up, down


class BalloonInfo(Output, frozen=True, kw_only=True):
    """KiB, as QEMU counts."""

    balloon_cur: int = msgspec.field(name="balloon_cur")
    balloon_max: int = msgspec.field(name="balloon_max")
    balloon_min: int = msgspec.field(name="balloon_min")
    balloon_target: int = msgspec.field(name="balloon_target")


class MemoryStats(Output, frozen=True, kw_only=True):
    """What the guest's balloon driver says of its memory, in MiB."""

    mem_free: MiB = msgspec.field(name="mem_free")
    mem_unused: MiB = msgspec.field(name="mem_unused")
    mem_available: MiB = msgspec.field(name="mem_available")


class VmJob(Output, frozen=True, kw_only=True):
    """A block job of the machine."""

    id: str
    job_type: str
    block_job_type: str
    cur: Bytes
    end: Bytes
    bandwidth: int
    img_uuid: str = msgspec.field(name="imgUUID")


class VmStats(Output, frozen=True, kw_only=True):
    """How a machine does. Fields below `hash` are there only while it runs; exit fields only when it is Down."""

    vm_id: str
    vm_name: str
    status: VmState
    status_time: str  # milliseconds of the monotonic clock, as text: the published form
    foreign: bool
    hash: str
    accelerator: Accelerator
    elapsed_time: int = 0  # seconds
    cpu_user: Percent = 0.0  # of one CPU, guest code
    cpu_sys: Percent = 0.0  # of one CPU, QEMU and kernel
    cpu_usage: int = 0  # nanoseconds since start
    vcpu_count: int = 0
    mem_usage: int = 0  # percent of the guest's memory in use
    memory_stats: MemoryStats | None = None
    balloon_info: BalloonInfo | None = None
    disks: dict[str, DiskStats] = {}
    network: dict[str, NicStats] = {}
    display_info: list[DisplayInfo] = []
    vm_jobs: dict[str, VmJob] = {}
    monitor_response: int = 0  # negative: QEMU does not answer
    time_offset: int = 0  # seconds the guest's clock is off UTC
    acpi_enable: bool = True
    client_ip: str = ""
    kvm_enable: bool = False
    sampled: float = 0.0  # seconds of the monotonic clock at which these were read
    exit_code: int | None = None
    exit_reason: ExitReason | None = None
    exit_message: str = ""
    pause_code: str = "NOERR"  # ENOSPC, EOTHER (any other error of a disk), POSTCOPY; NOERR: not for an error
