# SPDX-License-Identifier: Apache-2.0
"""Callers who are turned away at a door: all of them audited, in a bounded number of lines."""

from __future__ import annotations

import asyncio
import json
import time

from harness.memory_host import MemoryHost
from vdsm.contract.audit import AuditRecord
from vdsm.contract.errors import ForeignOrigin, Unauthenticated
from vdsm.core.refusals import Refusals

STRANGER = Unauthenticated(reason="it shows nothing")


def knock(refusals: Refusals, peer: str = "192.0.2.7", times: int = 1) -> None:
    for _ in range(times):
        refusals.note(STRANGER, "GET /api/v1/vms", identity=f"tcp:{peer}", channel="rest+tls", peer=peer, flow_id="f-1")


async def written(host: MemoryHost) -> list[AuditRecord]:
    await host.refusals.close()
    return await host.store.audit.read(0, 10_000)


def more(record: AuditRecord) -> int:
    found: int = json.loads(record.arguments).get("more", 0)
    return found


async def test_one_is_audited_as_a_call_is(host: MemoryHost) -> None:
    knock(host.refusals)
    (record,) = await written(host)
    assert (record.caller, record.channel, record.peer) == ("tcp:192.0.2.7", "rest+tls", "192.0.2.7")
    assert (record.method, record.verdict, record.flow_id) == ("GET /api/v1/vms", "unauthenticated", "f-1")


async def test_what_is_like_it_is_counted(host: MemoryHost) -> None:
    knock(host.refusals, times=1000)
    first, last = await written(host)
    assert (more(first), more(last)) == (0, 999)
    assert first.caller == last.caller


async def test_kinds_are_told_apart(host: MemoryHost) -> None:
    knock(host.refusals, "192.0.2.7")
    knock(host.refusals, "2001:db8::1")
    host.refusals.note(ForeignOrigin(origin="x"), "POST /", identity="uid:7", channel="rest+unix", peer="")
    assert [r.verdict for r in await written(host)] == ["unauthenticated", "unauthenticated", "foreign-origin"]


async def test_a_flood_from_everywhere_is_a_few_lines(host: MemoryHost) -> None:
    for number in range(5000):
        knock(host.refusals, f"192.0.{number >> 8}.{number & 255}")
    records = await written(host)
    assert len(records) <= Refusals.KINDS + 2
    assert sum(more(r) or 1 for r in records) == 5000
    assert records[-1].caller == "others"


async def test_the_next_window_is_longer_while_it_goes_on(host: MemoryHost) -> None:
    refusals = Refusals(host.store.audit, shortest=0.02)
    begun = time.monotonic()
    while time.monotonic() - begun < 0.7:  # windows of 0.02, 0.04, 0.08, ... seconds
        knock(refusals)
        await asyncio.sleep(0)
    await refusals.close()
    assert len(await written(host)) <= 2 * 7
