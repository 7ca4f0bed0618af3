# SPDX-License-Identifier: Apache-2.0
"""One SQLite file: one thread that writes, one that reads, and the event loop that waits for neither."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import queue
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vdsm.contract.errors import StateUnavailable

from .schema import NewerSchema, migrate

log = logging.getLogger(__name__)
T = TypeVar("T")

FILE = "vdsm.db"
LOCK = "vdsm.lock"
GROUP = 256  # writes in one transaction: one fsync for all of them, and none waits for more than this
BUSY_SECONDS = 5.0  # for an administrator's sqlite3 shell; nothing of ours contends
WAL_BYTES = 16 * 2**20

_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "the file or its file system is read-only",
    sqlite3.SQLITE_BUSY: "another program has locked the file",
    sqlite3.SQLITE_LOCKED: "another program has locked the file",
    sqlite3.SQLITE_IOERR: "the disk reports an error",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_PERM: "access to the file is refused",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; a restart sets it aside",
    sqlite3.SQLITE_NOTADB: "the file is damaged; a restart sets it aside",
    sqlite3.SQLITE_NOMEM: "memory is exhausted",
}
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(slots=True)
class _Job:
    work: Callable[[sqlite3.Connection], object]
    future: asyncio.Future[Any]


@dataclass(slots=True)
class _Answer:
    future: asyncio.Future[Any]
    result: object = None
    error: Exception | None = None


class Database:
    """The open file. Without a directory it lives in one of its own, removed at close: for simulated hosts."""

    def __init__(self, directory: Path | None) -> None:
        self._kept = directory is not None
        self._directory = directory
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.clean = True  # false: the daemon that had the file before did not close it

    @property
    def directory(self) -> str:
        return str(self._directory or "")

    async def open(self) -> None:
        """Lock, check and bring up to date. A damaged file is set aside. Raises StateUnavailable."""
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._open)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="state-read")
        self._thread = threading.Thread(target=self._serve, name="state-write", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Finish what is queued, then close. Harmless when not open."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._queue.put(None)
        await asyncio.to_thread(thread.join)
        await asyncio.to_thread(self._reader.shutdown)
        await asyncio.to_thread(self._close)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction; it is on the disk when this returns. It may run twice: it only touches SQL."""
        if self._thread is None:
            raise StateUnavailable(reason="the daemon is stopping", directory=self.directory)
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Job(work, future))
        return await future

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on the reading connection: it sees every write that has returned."""
        if self._thread is None:
            raise StateUnavailable(reason="the daemon is stopping", directory=self.directory)
        try:
            return await self._loop.run_in_executor(self._reader, work, self._reading)
        except sqlite3.Error as error:
            raise self._told(error) from error

    # ---- opening and closing, off the event loop -----------------------------------------------------------------

    def _open(self) -> None:
        try:
            if self._directory is None:
                self._directory = Path(tempfile.mkdtemp(prefix="vdsm-state-"))
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory.chmod(0o700)
            self._lock = self._take_lock(self._directory / LOCK)
        except OSError as error:
            raise StateUnavailable(reason=_words(error), directory=self.directory) from error
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, self._lock)
            try:
                self._writing = self._connect_or_set_aside(self._directory / FILE)
                undo.callback(self._writing.close)
                self._reading = self._connect(self._directory / FILE)
                undo.callback(self._reading.close)
                self._reading.execute("PRAGMA query_only = 1")
                self._mark_running()
            except (sqlite3.Error, OSError, NewerSchema) as error:
                raise self._told(error) from error
            undo.pop_all()

    def _take_lock(self, file: Path) -> int:
        """Two daemons on one file would each think the other's tasks their own."""
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise StateUnavailable(
                reason=f"another vdsmd (process {holder}) uses {file.parent}", directory=self.directory
            ) from None
        os.truncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        return fd

    def _connect_or_set_aside(self, file: Path) -> sqlite3.Connection:
        try:
            return self._checked(file)
        except sqlite3.DatabaseError as error:
            if _code(error) not in _DAMAGED:
                raise
            aside = f"{file}.corrupt-{int(time.time())}"
            log.error("the state file %s is damaged (%s): set aside as %s, starting with a new one", file, error, aside)
            for tail in ("", "-wal", "-shm"):
                if os.path.exists(f"{file}{tail}"):
                    os.replace(f"{file}{tail}", f"{aside}{tail}")
            return self._checked(file)

    def _checked(self, file: Path) -> sqlite3.Connection:
        connection = self._connect(file)
        try:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise _damaged(verdict)
            migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self, file: Path) -> sqlite3.Connection:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))  # SQLite gives -wal and -shm its mode
        connection = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._kept else 'OFF'}")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _mark_running(self) -> None:
        row = self._writing.execute("SELECT value FROM facts WHERE name = 'running'").fetchone()
        self.clean = row is None
        self._writing.execute("INSERT OR REPLACE INTO facts VALUES ('running', ?)", (str(os.getpid()).encode(),))

    def _close(self) -> None:
        try:
            self._writing.execute("DELETE FROM facts WHERE name = 'running'")
        except sqlite3.Error as error:
            log.warning("the state file cannot be marked as closed: %s", error)
        self._reading.close()
        self._writing.close()
        os.close(self._lock)
        if not self._kept and self._directory is not None:
            shutil.rmtree(self._directory)
            self._directory = None

    # ---- the writing thread --------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Take what is queued, write it as one, answer, until told to stop."""
        while True:
            group: list[_Job] = []
            job = self._queue.get()
            while job is not None:
                group.append(job)
                if len(group) == GROUP or self._queue.empty():
                    break
                job = self._queue.get()
            if group:
                self._loop.call_soon_threadsafe(_deliver, self._write_group(group))
            if job is None:
                return

    def _write_group(self, group: Sequence[_Job]) -> list[_Answer]:
        try:
            self._writing.execute("BEGIN IMMEDIATE")
            answers = [self._write_one(job) for job in group]
            self._writing.execute("COMMIT")
        except sqlite3.Error as error:
            if self._writing.in_transaction:
                self._writing.execute("ROLLBACK")
            if len(group) > 1:  # one that does not fit must not take the others with it
                return [answer for job in group for answer in self._write_group([job])]
            log.error("the state in %s cannot be written: %s", self.directory, error)
            return [_Answer(job.future, error=self._told(error)) for job in group]
        return answers

    def _write_one(self, job: _Job) -> _Answer:
        self._writing.execute("SAVEPOINT job")
        try:
            answer = _Answer(job.future, result=job.work(self._writing))
        except Exception as error:  # whatever it is, it is the caller's: this thread and the other jobs go on
            if not self._writing.in_transaction or _code(error) in _REASONS:
                raise
            self._writing.execute("ROLLBACK TO job")
            answer = _Answer(job.future, error=error)
        self._writing.execute("RELEASE job")
        return answer

    def _told(self, error: Exception) -> Exception:
        """The problem a caller may see; a mistake in our own SQL stays what it is."""
        if isinstance(error, StateUnavailable):
            return error
        if isinstance(error, NewerSchema):
            reason = "the file was written by a later version of vdsmd"
        elif isinstance(error, OSError):
            reason = _words(error)
        elif (reason := _REASONS.get(_code(error), "")) == "":
            return error
        return StateUnavailable(reason=reason, directory=self.directory)


def _deliver(answers: Sequence[_Answer]) -> None:
    for answer in answers:
        if answer.future.done():  # whoever asked was cancelled meanwhile
            continue
        if answer.error is not None:
            answer.future.set_exception(answer.error)
        else:
            answer.future.set_result(answer.result)


def _code(error: Exception) -> int:
    """SQLite's primary result code; -1 for what is not SQLite's."""
    return int(getattr(error, "sqlite_errorcode", -256)) & 0xFF if isinstance(error, sqlite3.Error) else -1


def _damaged(verdict: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(verdict)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _words(error: OSError) -> str:
    return f"{error.filename or ''}: {error.strerror}".removeprefix(": ")
