# SPDX-License-Identifier: Apache-2.0
"""The journal: nothing lost in silence, nothing twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.memory_host import MemoryHost
from vdsm.contract import event
from vdsm.contract.errors import StateUnavailable
from vdsm.contract.events import EventFilter, EventRecord, EventsLost, Gap, HypervisorBack, HypervisorLost
from vdsm.core import journal as journal_module
from vdsm.core.journal import Journal
from vdsm.core.ports.store import EventDraft
from vdsm.state import Retention, Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(tmp_path, Retention(events=100))
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def journal(store: Store) -> AsyncIterator[Journal]:
    made = Journal(store.events)
    await made.start()
    yield made
    await made.close()


async def _take(
    journal: Journal, since: int | None, count: int, wanted: EventFilter | None = None
) -> list[EventRecord | Gap]:
    found: list[EventRecord | Gap] = []
    async with asyncio.timeout(5):
        async for item in journal.follow(wanted or EventFilter(), since):
            found.append(item)
            if len(found) == count:
                break
    return found


def _say(journal: Journal, number: int) -> None:
    journal.publish(HypervisorLost(reason=str(number)))


async def test_a_reader_that_comes_and_goes_hears_all_once(journal: Journal) -> None:
    """It resumes by the last id it saw, at random moments, while events go on."""
    heard: list[str] = []
    position = journal.last

    async def speak() -> None:
        for number in range(80):
            _say(journal, number)
            await asyncio.sleep(random.random() / 200)

    speaker = asyncio.create_task(speak())
    while len(heard) < 80:
        for item in await _take(journal, position, random.randint(1, min(5, 80 - len(heard)))):
            assert isinstance(item, EventRecord)
            assert item.id == position + 1
            position = item.id
            assert isinstance(item.data, HypervisorLost)
            heard.append(item.data.reason)
    await speaker
    assert heard == [str(n) for n in range(80)]


async def test_what_is_no_longer_kept_is_a_gap(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    start = journal.last
    _say(journal, 0)
    await journal.flush()
    for number in range(1, 5000):
        _say(journal, number)
    await journal.flush()
    gap, first = await _take(journal, start + 1, 2)
    assert isinstance(gap, Gap)
    assert (gap.since, gap.until) == (start + 1, first.id - 1)
    oldest = await _take(journal, 0, 1)
    assert isinstance(oldest[0], EventRecord)  # 0 asks for the oldest there is: nothing is missing from that


async def test_an_id_from_another_journal_is_a_gap(journal: Journal) -> None:
    _say(journal, 0)
    await journal.flush()
    ahead = journal.last + 1000
    waiting = asyncio.create_task(_take(journal, ahead, 2))
    await asyncio.sleep(0)
    _say(journal, 1)
    gap, record = await waiting
    assert isinstance(gap, Gap)
    assert record.id == gap.until + 1


async def test_a_filter_hides_and_does_not_delay(journal: Journal) -> None:
    start = journal.last
    for _ in range(10):
        _say(journal, 0)
    journal.publish(HypervisorBack())
    (record,) = await _take(journal, start, 1, EventFilter(types=["Host_hypervisor_back"]))
    assert record.id == start + 11


async def test_ids_go_on_after_a_restart(store: Store) -> None:
    first = Journal(store.events)
    await first.start()
    _say(first, 1)
    await first.close()
    second = Journal(store.events)
    await second.start()
    _say(second, 2)
    records = await _take(second, 0, 2)
    assert records[1].id == records[0].id + 1
    await second.close()


class FullDisk:
    """An event log whose disk is full for a while."""

    def __init__(self, store: Store) -> None:
        self.full = True
        self._log = store.events

    async def append(self, drafts: list[EventDraft]) -> list[EventRecord]:
        if self.full:
            raise StateUnavailable(reason="full", directory="x")
        return await self._log.append(drafts)

    async def read(self, since: int, limit: int) -> list[EventRecord]:
        return await self._log.read(since, limit)

    async def bounds(self) -> tuple[int, int]:
        return await self._log.bounds()


async def test_a_full_disk_delays_events_and_what_is_dropped_is_said(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "RETRY", 0.01)
    monkeypatch.setattr(journal_module, "QUEUE_LIMIT", 20)
    disk = FullDisk(store)
    journal = Journal(disk)
    await journal.start()
    start = journal.last
    _say(journal, 0)
    await asyncio.sleep(0.05)  # the writer holds this one and tries again and again
    for number in range(1, 31):
        _say(journal, number)
    disk.full = False
    records = await _take(journal, start, 22)
    assert isinstance(records[0].data, EventsLost)
    assert records[0].data.count == 10
    assert [r.data.reason for r in records[1:]] == ["0", *[str(n) for n in range(11, 31)]]
    await journal.close()


async def test_where_it_ends_is_said_of_the_moment_of_the_question(host: MemoryHost) -> None:
    """Remote followers begin there: an event under way when they ask is told to them."""
    await host.events()
    end = host.journal.last
    _say(host.journal, 1)
    page = await host.call(event.list_, since=2**53 - 1)
    assert page.gap is not None
    assert (page.gap.until, page.events) == (end, [])
    (told,) = await _take(host.journal, page.gap.until, 1)
    assert isinstance(told, EventRecord)
    assert told.id == end + 1
