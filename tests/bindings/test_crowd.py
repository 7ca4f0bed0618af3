# SPDX-License-Identifier: Apache-2.0
"""Bad clients by the hundred stall nobody, on any wire. How little they slow others is a number of scripts/bench."""

from __future__ import annotations

import contextlib
import secrets
import time
from pathlib import Path

from harness.crowd import WIRES, crowded, patient, pinger
from harness.until import BUSY

AT_ONCE = 3.0 * BUSY  # seconds; what stalls here does so for minutes
HALF_OPEN, DEAF = 240, 48


def test_a_crowd_of_bad_clients_does_not_stall_good_ones(tmp_path: Path) -> None:
    wired = patient(tmp_path, f"vdsmtest-{secrets.token_hex(4)}", machines=30)
    try:
        ways = [(wire, context) for context in (None, wired.context()) for wire in WIRES]
        with contextlib.ExitStack() as opened:
            old = [opened.enter_context(pinger(wired, wire, context)) for wire, context in ways]
            before = wired.resident_kib()
            with crowded(wired, HALF_OPEN, DEAF):
                new = [opened.enter_context(pinger(wired, wire, context)) for wire, context in ways]
                for ping in [*old, *new] * 10:
                    begun = time.monotonic()
                    ping()
                    assert time.monotonic() - begun < AT_ONCE
                assert wired.resident_kib() - before < 300 * 1024
    finally:
        wired.end()
