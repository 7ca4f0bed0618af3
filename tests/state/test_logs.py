# SPDX-License-Identifier: Apache-2.0
"""The five logs: what goes in comes out, in order, within its retention."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdsm.contract import events as ev
from vdsm.contract.access import Role
from vdsm.contract.audit import AuditRecord
from vdsm.core.ports.store import (
    AuditLog,
    Claim,
    EventDraft,
    EventLog,
    KeyLog,
    StoredTask,
    StoredToken,
    TaskLog,
    TokenLog,
)
from vdsm.state import Broken, Retention, Store

VM = "5f0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11"
RECORD = AuditRecord(
    id=0, time=1.5, caller="uid:0", channel="rest+unix", method="VM.pause", arguments='{"vmID": "x"}', verdict="ok",
    duration=0.25, flow_id="f",
)  # fmt: skip


@contextlib.asynccontextmanager
async def opened(directory: Path | None, retention: Retention | None = None) -> AsyncIterator[Store]:
    store = Store(directory, retention)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def draft(data: ev.Event, flow_id: str = "f") -> EventDraft:
    return EventDraft(
        time=12.25, notify_time=7, severity=data.severity, subject=data.subject, flow_id=flow_id, data=data
    )


async def test_it_is_what_the_core_asks_for() -> None:
    async with opened(None) as store:
        ports: tuple[EventLog, TaskLog, AuditLog, KeyLog, TokenLog] = (
            store.events, store.tasks, store.audit, store.keys, store.tokens,
        )  # fmt: skip
        assert len(ports) == 5


# ---- events ----------------------------------------------------------------------------------------------------------

texts = st.text(max_size=20)
any_event = st.one_of(
    st.builds(ev.VMStatus, vm_id=st.just(VM), vm_name=texts, status=texts, exit_code=st.none() | st.integers(0, 255)),
    st.builds(ev.VMRemoved, vm_id=st.just(VM), vm_name=texts),
    st.builds(ev.TaskStatus, task_id=st.just(VM), verb=texts, state=texts, progress=st.none() | st.floats(0, 100)),
    st.builds(ev.HypervisorLost, reason=texts),
    st.builds(ev.HostStarted, version=texts, clean=st.booleans()),
    st.just(ev.HostStopping()),
)


@settings(max_examples=40, deadline=None)
@given(batches=st.lists(st.lists(any_event, max_size=6), max_size=8), keep=st.integers(1, 20), reopen=st.booleans())
def test_the_journal_keeps_order_types_and_the_newest(batches: list[list[ev.Event]], keep: int, reopen: bool) -> None:
    async def run(directory: Path) -> None:
        written: list[ev.EventRecord] = []
        async with opened(directory, Retention(events=keep)) as store:
            for batch in batches:
                written += await store.events.append([draft(data) for data in batch])
            if not reopen:
                await compare(store, written)
        async with opened(directory, Retention(events=keep)) as store:
            await compare(store, written)

    async def compare(store: Store, written: list[ev.EventRecord]) -> None:
        oldest, newest = await store.events.bounds()
        kept = written[-keep:]
        assert [w.data for w in written] == [data for batch in batches for data in batch]
        assert await store.events.read(0, 1000) == kept
        assert (oldest, newest) == ((kept[0].id, kept[-1].id) if kept else (newest + 1, newest))
        assert [w.id for w in written] == list(range(newest - len(written) + 1, newest + 1))
        for since in [w.id for w in written]:
            assert await store.events.read(since, 3) == [w for w in kept if w.id > since][:3]

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(run(Path(directory)))


async def test_concurrent_appends_stay_together_and_in_order() -> None:
    async with opened(None) as store:
        batches = await asyncio.gather(
            *(store.events.append([draft(ev.HostStopping(), f"{i}")] * 3) for i in range(200))
        )
        read = await store.events.read(0, 1000)
        assert read == [record for batch in batches for record in batch]
        assert [record.flow_id for record in read] == [str(i) for i in range(200) for _ in range(3)]


async def test_an_event_of_a_later_version_is_left_out_loudly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(tmp_path) as store:
        first, second = await store.events.append([draft(ev.HostStopping())] * 2)
        await store.database.write(
            lambda c: c.execute(
                "UPDATE events SET record = replace(record, 'Host_stopping', 'Host_molten') WHERE id = ?", (first.id,)
            )
        )
        assert await store.events.read(0, 10) == [second]
        assert await store.events.read(0, 1) == [second], "an empty answer means the end"
        assert str(first.id) in caplog.text


# ---- tasks -----------------------------------------------------------------------------------------------------------


async def test_tasks(tmp_path: Path) -> None:
    one = StoredTask(id="1", created=2.0, ended=None, body=b"\x00\xff")
    two = StoredTask(id="2", created=1.0, ended=3.5, body=b"two")
    async with opened(tmp_path) as store:
        await store.tasks.put(one)
        await store.tasks.put(two)
        ended = StoredTask(id="1", created=2.0, ended=9.0, body=b"done")
        await store.tasks.put(ended)
        assert await store.tasks.load() == [two, ended]
    async with opened(tmp_path) as store:
        assert await store.tasks.load() == [two, ended]
        await store.tasks.delete("2")
        await store.tasks.delete("unheard of")
        assert await store.tasks.load() == [ended]


# ---- audit -----------------------------------------------------------------------------------------------------------


async def test_audit_numbers_and_keeps(tmp_path: Path) -> None:
    async with opened(tmp_path, Retention(audit=5)) as store:
        for _ in range(12):
            await store.audit.append(RECORD)
        records = await store.audit.read(0, 100)
        ids = [record.id for record in records]
        assert ids == list(range(ids[0], ids[0] + 5))
        assert await store.audit.read(ids[1], 2) == records[2:4]
        assert records[0].arguments == RECORD.arguments
        assert await store.audit.verify() == 5
    async with opened(tmp_path, Retention(audit=3)) as store:
        await store.audit.append(RECORD)
        assert [record.id for record in await store.audit.read(0, 100)] == [ids[0] + 3, ids[0] + 4, ids[0] + 5]
        assert await store.audit.verify() == 3


async def test_an_empty_trail_verifies() -> None:
    async with opened(None) as store:
        assert await store.audit.verify() == 0


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("UPDATE audit SET record = replace(record, 'uid:0', 'uid:9') WHERE id = :second", "changed"),
        ("DELETE FROM audit WHERE id = :second", "missing"),
        ("DELETE FROM audit WHERE id > :second", "missing"),
        ("DELETE FROM audit WHERE id < :second", "changed"),
        ("UPDATE audit SET digest = zeroblob(32) WHERE id = :second", "changed"),
    ],
)
async def test_a_trail_that_was_touched_does_not_verify(tmp_path: Path, harm: str, said: str) -> None:
    async with opened(tmp_path) as store:
        for _ in range(4):
            await store.audit.append(RECORD)
        second = (await store.audit.read(0, 10))[1].id
    with contextlib.closing(sqlite3.connect(tmp_path / "vdsm.db")) as shell, shell:
        shell.execute(harm, {"second": second})
    async with opened(tmp_path) as store:
        with pytest.raises(Broken, match=said):
            await store.audit.verify()


# ---- keys ------------------------------------------------------------------------------------------------------------


async def test_a_key_is_taken_once_and_by_its_caller(tmp_path: Path) -> None:
    first = Claim(method="VM.create", digest="d1")
    async with opened(tmp_path) as store:
        assert await store.keys.claim("uid:0", "k", first) is None
        assert await store.keys.claim("uid:0", "k", Claim(method="VM.create", digest="d2")) == first
        assert await store.keys.claim("uid:1", "k", first) is None
        settled = Claim(method="VM.create", digest="d1", task_id="t", answer=b"{}")
        await store.keys.settle("uid:0", "k", settled)
        assert await store.keys.claim("uid:0", "k", first) == settled
        await store.keys.release("uid:1", "k")
        assert await store.keys.claim("uid:1", "k", first) is None
    async with opened(tmp_path) as store:
        assert await store.keys.claim("uid:0", "k", first) == settled
        assert await store.keys.claim("uid:1", "k", first) == first


async def test_of_many_claims_at_once_one_wins() -> None:
    async with opened(None) as store:
        claims = [Claim(method="VM.create", digest=str(i)) for i in range(50)]
        answers = await asyncio.gather(*(store.keys.claim("uid:0", "k", claim) for claim in claims))
        assert answers.count(None) == 1
        winner = claims[answers.index(None)]
        assert all(answer == winner for answer in answers if answer)


async def test_a_key_is_kept_for_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = Claim(method="VM.create", digest="d", answer=b"1")
    now = [1_000_000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    async with opened(tmp_path) as store:
        assert await store.keys.claim("uid:0", "k", claim) is None
        now[0] += 24 * 3600 - 1
        assert await store.keys.claim("uid:0", "k", claim) == claim
        now[0] += 2
        assert await store.keys.claim("uid:0", "k", claim) is None


# ---- tokens ----------------------------------------------------------------------------------------------------------


async def test_tokens(tmp_path: Path) -> None:
    first = StoredToken(name="a", role=Role.ADMIN, digest="aa", created=1.0, expires=None)
    second = StoredToken(name="b", role=Role.VIEWER, digest="bb", created=2.0, expires=3.0, last_used=2.5)
    async with opened(tmp_path) as store:
        await store.tokens.put(second)
        await store.tokens.put(first)
        assert await store.tokens.all() == [first, second]
        used = StoredToken(name="a", role=Role.ADMIN, digest="aa", created=1.0, expires=None, last_used=9.0)
        await store.tokens.put(used)
    async with opened(tmp_path) as store:
        assert await store.tokens.all() == [used, second]
        await store.tokens.delete("a")
        assert await store.tokens.all() == [second]
