# SPDX-License-Identifier: Apache-2.0
"""What is measured, and how it is shown."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Row:
    """One comparison. `limit`: what the ratio, or without `beside` the value itself, may at most be."""

    what: str
    ours: float
    unit: str
    beside: float | None = None
    beside_what: str = ""
    limit: float | None = None

    @property
    def ratio(self) -> float | None:
        return self.ours / self.beside if self.beside else None

    @property
    def kept(self) -> bool:
        judged = self.ours if self.ratio is None else self.ratio
        return self.limit is None or judged <= self.limit

    def text(self) -> str:
        beside = f"{_number(self.beside)} {self.unit}" if self.beside is not None else ""
        ratio = f"{self.ratio:.2f}x" if self.ratio is not None else ""
        bound = "" if self.limit is None else f"at most {self.limit:g}{'x' if self.ratio is not None else ''}"
        verdict = "" if self.limit is None else ("kept" if self.kept else "BROKEN")
        ours = f"{_number(self.ours)} {self.unit}"
        return f"{self.what:<52} {ours:>12} {beside:>12} {ratio:>8}  {bound:<14}{verdict:<7}{self.beside_what}"


HEAD = f"{'':<52} {'vdsm':>12} {'beside':>12} {'ratio':>8}  {'promise':<21}beside is"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads of a process so far, in the kernel's nanoseconds: its ticks are too coarse."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def resident_mib(pid: int) -> float:
    """Its share of memory: pages it shares with others count in part (Pss)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the kernel does not say")


def percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def median_ms(durations: Sequence[float]) -> float:
    return statistics.median(durations) * 1000


class Clock:
    """`with Clock() as clock: ...; clock.seconds`."""

    seconds = 0.0

    def __enter__(self) -> Clock:
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._began
