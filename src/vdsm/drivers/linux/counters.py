# SPDX-License-Identifier: Apache-2.0
"""Reads how the computer does at one moment."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from vdsm.core.ports.machine import HugePagePool, KsmSample, MachineSample, NodeSample
from vdsm.drivers.files import names_in, numbered, read_int, read_text, to_float

from . import proc
from .facts import HUGE_PAGES, NODES, page_sizes

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
_KSM = "sys/kernel/mm/ksm"
_KERNEL_THREADS_MAX = 32768  # ksmd starts before init does, so its number is low


def read_sample(root: Path, directories: Iterable[Path], ksmd: int | None) -> MachineSample:
    memory = proc.parse_table(read_text(root / "proc/meminfo"))
    stat = proc.parse_stat(read_text(root / "proc/stat"), _TICKS_PER_S)
    own = os.times()
    free = memory.get("MemFree", 0)
    return MachineSample(
        taken=time.monotonic(),
        cpu=stat.total,
        cpus=stat.cpus,
        load=to_float(read_text(root / "proc/loadavg").partition(" ")[0]) or 0.0,
        memory_kib=memory.get("MemTotal", 0),
        available_kib=memory.get("MemAvailable", free),
        swap_kib=memory.get("SwapTotal", 0),
        swap_free_kib=memory.get("SwapFree", 0),
        anon_huge_kib=memory.get("AnonHugePages", 0),
        huge_pages={
            size: HugePagePool(total=read_int(path / "nr_hugepages") or 0, free=read_int(path / "free_hugepages") or 0)
            for size, path in page_sizes(root / HUGE_PAGES).items()
        },
        nodes={number: _node(path) for number, path in numbered(root / NODES, "node").items()},
        transparent_huge_pages=proc.parse_choice(read_text(root / "sys/kernel/mm/transparent_hugepage/enabled")),
        ksm=_ksm(root, ksmd),
        own_user_s=own.user,
        own_system_s=own.system,
        free_bytes=_free_bytes(directories),
    )


def find_ksmd(root: Path) -> int | None:
    """The process number of the kernel's merging thread."""
    numbers = sorted(int(name) for name in names_in(root / "proc") if name.isascii() and name.isdecimal())
    for number in numbers:
        if number > _KERNEL_THREADS_MAX:
            break
        if read_text(root / f"proc/{number}/comm") == "ksmd\n":
            return number
    return None


def _node(path: Path) -> NodeSample:
    memory = proc.parse_table(read_text(path / "meminfo"))
    return NodeSample(
        total_kib=memory.get("MemTotal", 0),
        free_kib=memory.get("MemFree", 0),
        free_huge_pages={
            size: read_int(pool / "free_hugepages") or 0 for size, pool in page_sizes(path / "hugepages").items()
        },
    )


def _ksm(root: Path, ksmd: int | None) -> KsmSample:
    directory = root / _KSM
    thread = read_text(root / f"proc/{ksmd}/stat") if ksmd is not None else ""
    return KsmSample(
        running=read_int(directory / "run") == 1,
        pages_to_scan=read_int(directory / "pages_to_scan") or 0,
        saved_kib=(read_int(directory / "pages_sharing") or 0) * _PAGE_KIB,
        merge_across_nodes=read_int(directory / "merge_across_nodes") == 1,
        cpu_s=proc.parse_thread_cpu(thread, _TICKS_PER_S),
    )


def _free_bytes(directories: Iterable[Path]) -> dict[str, int]:
    found = {}
    for directory in directories:
        try:
            status = os.statvfs(directory)
        except OSError:
            continue
        found[str(directory)] = status.f_bavail * status.f_frsize
    return found
