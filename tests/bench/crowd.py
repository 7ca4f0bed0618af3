# SPDX-License-Identifier: Apache-2.0
"""A good client's ping among 500 half-open connections and 100 clients that read nothing, beside an idle server's."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.crowd import DEAF, HALF_OPEN, WIRES, Ping, crowded, patient, pinger

from .measure import Row, percentile

TURNS, ROUNDS = 2, 18  # the best counts: what another process does to a round is not ours
PINGS = 100
MACHINES = 100


def rows(home: Path) -> Iterator[Row]:
    wired = patient(home, "vdsmbench", MACHINES)
    try:
        with contextlib.ExitStack() as opened:
            good = {
                f"{wire}, {kind}": opened.enter_context(pinger(wired, wire, context))
                for kind, context in (("plain", None), ("TLS", wired.context()))
                for wire in WIRES
            }
            alone: dict[str, list[float]] = {what: [] for what in good}
            among: dict[str, list[float]] = {what: [] for what in good}
            for _ in range(TURNS):
                _measure(good, alone)
                with crowded(wired):
                    _measure(good, among)
            for what in good:
                yield Row(
                    f"{what}, ping p99 among {HALF_OPEN + DEAF} bad clients", min(among[what]), "ms", min(alone[what]),
                    "the same server, idle", limit=2,
                )  # fmt: skip
    finally:
        wired.end()


def _measure(good: Mapping[str, Ping], into: Mapping[str, list[float]]) -> None:
    """The 99th percentile of each, in milliseconds, several times."""
    for _ in range(ROUNDS):
        for what, ping in good.items():
            seconds = []
            for _ in range(PINGS):
                begun = time.perf_counter()
                ping()
                seconds.append(time.perf_counter() - begun)
            into[what].append(percentile(seconds, 99) * 1000)
