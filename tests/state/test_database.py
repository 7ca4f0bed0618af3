# SPDX-License-Identifier: Apache-2.0
"""The file itself: grouping, errors, locking, damage, permissions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from vdsm.contract.errors import StateUnavailable
from vdsm.contract.events import HostStopping, Severity
from vdsm.core.ports.store import EventDraft, StoredTask
from vdsm.state import Database, Retention, Store

DRAFT = EventDraft(time=1.0, notify_time=1, severity=Severity.INFO, subject="", flow_id="f", data=HostStopping())


@contextlib.asynccontextmanager
async def opened(directory: Path | None, retention: Retention | None = None) -> AsyncIterator[Store]:
    store = Store(directory, retention)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def test_files_are_for_the_owner_only(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "db"
    async with opened(directory) as store:
        await store.events.append([DRAFT])
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in directory.iterdir()}
        assert "vdsm.db-wal" in modes
        assert set(modes.values()) == {0o600}


async def test_a_loose_directory_is_tightened(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    directory.mkdir(mode=0o755)
    async with opened(directory):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


async def test_writes_that_wait_together_share_a_transaction(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        commits: list[str] = []
        await store.database.write(lambda connection: connection.set_trace_callback(commits.append))
        await asyncio.gather(*(store.events.append([DRAFT]) for _ in range(1000)))
        await store.database.write(lambda connection: connection.set_trace_callback(None))
        assert commits.count("COMMIT") < 20
        assert len(await store.events.read(0, 2000)) == 1000


async def test_one_failing_write_leaves_its_neighbours(tmp_path: Path) -> None:
    def half_then_fail(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO facts VALUES ('half', x'00')")
        raise LookupError("mine")

    async with opened(tmp_path) as store:
        answers = await asyncio.gather(
            store.events.append([DRAFT]),
            store.database.write(half_then_fail),
            store.events.append([DRAFT]),
            return_exceptions=True,
        )
        assert isinstance(answers[1], LookupError)
        assert len(await store.events.read(0, 10)) == 2
        rows = await store.database.read(
            lambda connection: connection.execute("SELECT * FROM facts WHERE name = 'half'").fetchall()
        )
        assert rows == []


async def test_a_cancelled_caller_does_not_stop_the_writer(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        waiting = asyncio.create_task(store.events.append([DRAFT]))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled()
        await store.events.append([DRAFT])
        assert len(await store.events.read(0, 10)) == 2


async def test_our_own_mistake_is_not_called_a_state_problem(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(sqlite3.OperationalError):
            await store.database.write(lambda connection: connection.execute("SELECT nonsense"))
        with pytest.raises(sqlite3.OperationalError):
            await store.database.read(lambda connection: connection.execute("SELECT nonsense"))


async def test_the_reader_cannot_write(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(StateUnavailable):
            await store.database.read(lambda connection: connection.execute("DELETE FROM events"))


async def test_use_after_close_is_a_problem(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        pass
    with pytest.raises(StateUnavailable, match="stopping"):
        await store.events.append([DRAFT])
    with pytest.raises(StateUnavailable, match="stopping"):
        await store.events.bounds()
    await store.close()


async def test_close_finishes_what_is_queued(tmp_path: Path) -> None:
    store = Store(tmp_path)
    await store.open()
    writes = [asyncio.create_task(store.events.append([DRAFT])) for _ in range(500)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*writes)
    async with opened(tmp_path) as again:
        assert len(await again.events.read(0, 1000)) == 500


async def test_clean_tells_a_crash_from_a_close(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert store.clean
    async with opened(tmp_path) as store:
        assert store.clean
    killed = "import asyncio, os, sys, pathlib; from vdsm.state import Store; s = Store(pathlib.Path(sys.argv[1]));"
    killed += "asyncio.run(s.open()); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", killed, str(tmp_path)], check=False).returncode == -9
    async with opened(tmp_path) as store:
        assert not store.clean
    async with opened(tmp_path) as store:
        assert store.clean


# ---- two at once -----------------------------------------------------------------------------------------------------


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    second = (
        "import asyncio, sys, pathlib; from vdsm.contract.errors import StateUnavailable\n"
        "from vdsm.state import Store\n"
        "try: asyncio.run(Store(pathlib.Path(sys.argv[1])).open())\n"
        "except StateUnavailable as problem: sys.exit(str(problem))\n"
    )
    async with opened(tmp_path) as store:
        done = subprocess.run(
            [sys.executable, "-c", second, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert f"another vdsmd (process {os.getpid()}) uses {tmp_path}" in done.stderr
        await store.events.append([DRAFT])  # and the first goes on
    assert subprocess.run([sys.executable, "-c", second, str(tmp_path)], check=False).returncode == 0


async def test_a_lock_held_by_another_program_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vdsm.state.database.BUSY_SECONDS", 0.05)
    async with opened(tmp_path) as store:
        with contextlib.closing(sqlite3.connect(tmp_path / "vdsm.db", isolation_level=None)) as shell:
            shell.execute("BEGIN IMMEDIATE")
            with pytest.raises(StateUnavailable, match="locked"):
                await store.events.append([DRAFT])
            shell.execute("ROLLBACK")
        await store.events.append([DRAFT])


# ---- a full disk -----------------------------------------------------------------------------------------------------


async def test_a_full_file_is_a_problem_and_passes(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        kept = await store.events.append([DRAFT])
        (pages,) = await store.database.write(lambda c: c.execute("PRAGMA page_count").fetchone())
        await store.database.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages + 2}").fetchone())
        big = StoredTask(id="big", created=0, ended=None, body=bytes(200_000))
        with pytest.raises(StateUnavailable, match="full") as caught:
            await store.tasks.put(big)
        assert caught.value.facts["directory"] == str(tmp_path)
        # What fits still goes in, also beside what does not.
        answers = await asyncio.gather(
            store.events.append([DRAFT]), store.tasks.put(big), store.events.append([DRAFT]), return_exceptions=True
        )
        assert [type(a) for a in answers] == [list, StateUnavailable, list]
        await store.database.write(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchone())
        await store.tasks.put(big)
        ids = [record.id for record in await store.events.read(0, 10)]
        assert ids == list(range(kept[0].id, kept[0].id + 3)), "a refused write took no id"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs may be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


async def test_a_full_disk_is_a_problem_and_passes(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    async with opened(small_disk / "db") as store:
        acknowledged = [r.id for r in await store.events.append([DRAFT])]
        ballast.write_bytes(bytes(max(0, shutil.disk_usage(small_disk).free - 20_000)))
        refused = None
        for _ in range(1000):
            try:
                acknowledged += [r.id for r in await store.events.append([DRAFT] * 20)]
            except StateUnavailable as problem:
                refused = problem
                break
        assert refused is not None
        assert "full" in str(refused)
        ballast.unlink()
        acknowledged += [r.id for r in await store.events.append([DRAFT])]
        assert [r.id for r in await store.events.read(0, 100_000)] == acknowledged
        assert acknowledged == list(range(acknowledged[0], acknowledged[-1] + 1))


async def test_no_room_to_begin_is_said(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    with pytest.raises(StateUnavailable) as caught:
        await Store(small_disk / "db").open()
    assert "full" in str(caught.value) or "No space" in str(caught.value)


async def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateUnavailable, match="Not a directory"):
        await Store(tmp_path / "file" / "db").open()


# ---- damage and versions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["text", "page", "short"])
async def test_a_damaged_file_is_set_aside(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(tmp_path) as store:
        before = await store.events.append([DRAFT] * 2000)
    file = tmp_path / "vdsm.db"
    data = bytearray(file.read_bytes())
    match damage:
        case "text":
            data[:] = b"this is no database, this is a letter. " * 200
        case "page":
            data[4096 * 4 : 4096 * 9] = os.urandom(4096 * 5)
        case "short":
            del data[len(data) // 2 :]
    file.write_bytes(data)
    async with opened(tmp_path) as store:
        after = await store.events.append([DRAFT])
    assert after[0].id > before[-1].id, "an id of the lost journal is never given out again"
    (aside,) = tmp_path.glob("vdsm.db.corrupt-*")
    assert aside.read_bytes() == bytes(data)
    assert "is damaged" in caplog.text
    assert str(aside) in caplog.text


async def test_a_lost_file_never_repeats_ids(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        before = await store.events.append([DRAFT] * 500)
    shutil.rmtree(tmp_path)
    async with opened(tmp_path) as store:
        assert (await store.events.append([DRAFT]))[0].id > before[-1].id


async def test_a_later_version_is_left_alone(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / "vdsm.db")) as later:
        later.execute("PRAGMA user_version = 999")
    with pytest.raises(StateUnavailable, match="later version"):
        await Store(tmp_path).open()
    assert [f.name for f in tmp_path.glob("*corrupt*")] == []


async def test_a_link_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "vdsm.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateUnavailable):
        await Store(tmp_path / "db").open()
    assert (tmp_path / "elsewhere").read_text() == "precious"


async def test_without_a_directory_nothing_is_left() -> None:
    database = Database(None)
    await database.open()
    directory = Path(database.directory)
    assert (directory / "vdsm.db").exists()
    await database.close()
    assert not directory.exists()
