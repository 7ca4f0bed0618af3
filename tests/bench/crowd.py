# SPDX-License-Identifier: Apache-2.0
"""A good client's ping among 500 half-open connections and 100 clients that read nothing, beside an idle server's."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from harness.crowd import DEAF, HALF_OPEN, WIRES, Ping, crowded, patient, pinger

from .measure import Row, percentile

ROUNDS = 10  # the best counts: what another process does to a round is not ours
PINGS = 300
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
            idle = {what: _worst_ms(ping) for what, ping in good.items()}
            with crowded(wired):
                for what, ping in good.items():
                    yield Row(
                        f"{what}, ping p99 among {HALF_OPEN + DEAF} bad clients", _worst_ms(ping), "ms", idle[what],
                        "the same server, idle", limit=2,
                    )  # fmt: skip
    finally:
        wired.end()


def _worst_ms(ping: Ping) -> float:
    """The 99th percentile."""
    rounds = []
    for _ in range(ROUNDS):
        seconds = []
        for _ in range(PINGS):
            begun = time.perf_counter()
            ping()
            seconds.append(time.perf_counter() - begun)
        rounds.append(percentile(seconds, 99))
    return min(rounds) * 1000
