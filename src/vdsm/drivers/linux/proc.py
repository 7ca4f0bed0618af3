# SPDX-License-Identifier: Apache-2.0
"""Texts of /proc and /sys -> values. Nothing here touches the host; a text that makes no sense gives nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from vdsm.core.ports.machine import CpuTimes
from vdsm.drivers.files import clean, to_float, to_int

_CPUS_MAX = 8192  # the kernel's own limit
_FLAGS_MAX = 4096


@dataclass(frozen=True, slots=True)
class CpuDescription:
    """What /proc/cpuinfo says of the first processor."""

    model: str = ""
    flags: list[str] = field(default_factory=list)
    mhz: float = 0.0
    bogomips: float = 0.0


def parse_cpuinfo(text: str) -> CpuDescription:
    first: dict[str, str] = {}
    for line in text.partition("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        first.setdefault(key.strip().lower(), value.strip())
    flags = clean(first.get("flags") or first.get("features") or "", limit=64 * 1024)
    return CpuDescription(
        model=clean(first.get("model name") or first.get("model") or first.get("cpu") or ""),
        flags=flags.split()[:_FLAGS_MAX],
        mhz=to_float(first.get("cpu mhz", "")) or 0.0,
        bogomips=to_float(first.get("bogomips", "")) or 0.0,
    )


def parse_table(text: str) -> dict[str, int]:
    """`Name: 123 kB` lines, of /proc/meminfo and of a node's meminfo (whose lines begin with `Node 0`)."""
    found = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        words = value.split()
        if colon and words and (number := to_int(words[0])) is not None:
            found[key.split()[-1] if key.split() else ""] = number
    return found


@dataclass(frozen=True, slots=True)
class Stat:
    """What /proc/stat says."""

    total: CpuTimes = field(default_factory=CpuTimes)
    cpus: dict[int, CpuTimes] = field(default_factory=dict)
    boot_time: int = 0


def parse_stat(text: str, ticks_per_s: int) -> Stat:
    total, cpus, boot_time = CpuTimes(), {}, 0
    for line in text.splitlines():
        name, *values = line.split() or [""]
        if name == "cpu":
            total = _cpu_times(values, ticks_per_s)
        elif name.startswith("cpu") and (number := to_int(name[3:])) is not None:
            cpus[number] = _cpu_times(values, ticks_per_s)
        elif name == "btime" and values:
            boot_time = to_int(values[0]) or 0
    return Stat(total, cpus, boot_time)


def _cpu_times(values: list[str], ticks_per_s: int) -> CpuTimes:
    # Guest time, in fields 9 and 10, is in user and nice already (proc(5)).
    ticks = [max(to_int(v) or 0, 0) for v in values[:8]]
    user, nice, system, idle, iowait, irq, softirq, steal = ticks + [0] * (8 - len(ticks))
    return CpuTimes(
        user=(user + nice) / ticks_per_s,
        system=(system + irq + softirq + steal) / ticks_per_s,
        idle=(idle + iowait) / ticks_per_s,
    )


def parse_thread_cpu(text: str, ticks_per_s: int) -> float:
    """Seconds of CPU in /proc/PID/stat; the command, in parentheses, may hold anything."""
    fields = text.rpartition(")")[2].split()
    return sum(to_int(v) or 0 for v in fields[11:13]) / ticks_per_s


def parse_cpu_list(text: str) -> list[int]:
    """`0-3,8` -> 0 1 2 3 8."""
    return sorted(set(_cpus(text)))


def _cpus(text: str) -> Iterator[int]:
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        low, high = to_int(first), to_int(last or first)
        if low is not None and high is not None and 0 <= low <= high < _CPUS_MAX:
            yield from range(low, high + 1)


def parse_choice(text: str) -> str:
    """The chosen one of `always [madvise] never`."""
    found = re.search(r"\[(\w+)]", text)
    return found[1] if found else ""


def parse_os_release(text: str) -> dict[str, str]:
    """os-release(5): shell assignments, quoted or not."""
    found = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and re.fullmatch(r"[A-Z0-9_]+", key):
            if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
                value = value[1:-1]
            found[key] = clean(re.sub(r"\\(.)", r"\1", value))
    return found


def parse_initiator(text: str) -> str:
    """The name in /etc/iscsi/initiatorname.iscsi."""
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "InitiatorName":
            return clean(value)
    return ""


def has_vnc_tls(text: str) -> bool:
    """Whether qemu.conf makes QEMU encrypt VNC."""
    return re.search(r"^[ \t]*vnc_tls[ \t]*=[ \t]*1[ \t]*(#.*)?$", text, re.MULTILINE) is not None


def parse_wwn(text: str) -> str:
    """`0x500143802426baf4` -> the digits."""
    found = re.fullmatch(r"(?:0x)?([0-9a-fA-F]{16})", text.strip())
    return found[1].lower() if found else ""


def parse_packages(text: str) -> dict[str, str]:
    """Lines of `name version status` by dpkg-query; installed ones only."""
    found = {}
    for line in text.splitlines():
        words = line.split(" ")
        if len(words) == 3 and words[2] == "installed":
            found[clean(words[0])] = clean(words[1])
    return found
