# SPDX-License-Identifier: Apache-2.0
"""Tasks: each on disk before its first step, and after a crash finished or undone."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable

import msgspec

from vdsm.contract import host, task
from vdsm.contract.errors import (
    JobExists,
    Problem,
    StateUnavailable,
    TaskFinished,
    TaskInterrupted,
    TaskNotFinished,
    TaskNotRevertible,
    UnknownTask,
)
from vdsm.contract.events import TaskStatus as TaskStatusEvent
from vdsm.contract.host import HostJob
from vdsm.contract.task import State, TaskDetails, TaskInfo, TaskRecord, TaskStatus

from . import task_words
from .handlers import Context, handles
from .journal import Journal
from .locks import Locks
from .ports.store import StoredTask, TaskLog
from .run import Run, TaskRow, as_problem
from .steps import Operations, Step

log = logging.getLogger(__name__)

KEPT = 1000  # ended tasks that are remembered
RESUME_WITHIN = 900.0  # seconds: what was asked longer ago is undone rather than done, nobody expects it any more

Boundary = Callable[[TaskRow], None]


class Tasks:
    """The engine, and the verbs on tasks. `at_boundary` is called at every step boundary, after it is on disk."""

    def __init__(self, task_log: TaskLog, journal: Journal, locks: Locks, at_boundary: Boundary | None = None) -> None:
        self._log = task_log
        self._journal = journal
        self._locks = locks
        self._at_boundary = at_boundary
        self._operations = Operations()
        self._rows: dict[str, TaskRow] = {}
        self._runs: dict[str, Run] = {}
        self._claimed: set[str] = set()
        self._recoveries: set[asyncio.Task[None]] = set()

    # ---- the engine ------------------------------------------------------------------------------------------------

    async def load(self, operations: Operations) -> None:
        """Read what the last daemon left, and take the locks of what it did not finish."""
        self._operations = operations
        for stored in await self._log.load():
            row = msgspec.json.decode(stored.body, type=TaskRow)
            self._rows[row.id] = row
            if not row.state.ended:
                await self._locks.hold(row.id, row.locks, patience=0)

    def recover(self, able: Awaitable[None]) -> None:
        """Finish or undo, in the background, what the last daemon left, as soon as `able` is done."""
        left = [row for row in self._rows.values() if not row.state.ended]
        if left:
            log.warning("%d tasks were cut short; they are finished or undone now", len(left))
        gate = asyncio.ensure_future(able)
        for row in left:
            work = asyncio.create_task(self._recover(row, gate), name=f"recover {row.id}")
            self._recoveries.add(work)
            work.add_done_callback(self._recoveries.discard)

    async def _recover(self, row: TaskRow, able: asyncio.Future[None]) -> None:
        await asyncio.shield(able)
        try:
            run = self._runs[row.id] = Run(row, self._revive(row), self._saved)
            late = time.time() - row.created > RESUME_WITHIN
            if row.state in (State.PENDING, State.RUNNING) and (row.committed or not late):
                await run.forward()
            else:
                aborted = row.state is State.ABORTING
                await run.backward(State.ABORTED if aborted else State.FAILED, TaskInterrupted(task=row.id))
        except Exception as error:  # one task that cannot be recovered must not keep the others from it
            log.error("task %s (%s) after the restart: %s", row.id, row.verb, error)
            if not row.state.ended:
                row.state, row.ended, row.problem = State.BROKEN, time.time(), as_problem(error).body(row.flow_id)
                await self._saved(row)
        finally:
            self._runs.pop(row.id, None)
            await self._locks.release(row.id)

    def _revive(self, row: TaskRow) -> list[Step]:
        revive = self._operations.revive
        return [Step(s.title, revive(s.do), revive(s.undo) if s.undo else None) for s in row.steps]

    async def settled(self) -> None:
        """Wait for the recoveries begun by `recover`."""
        await asyncio.gather(*self._recoveries)

    def claim(self, chosen: str | None) -> str:
        """The id of a task that will be: the one the caller chose, or a new one. Raises JobExists."""
        task_id = chosen or str(uuid.uuid4())
        if task_id in self._rows or task_id in self._claimed:
            raise JobExists(job=task_id)
        self._claimed.add(task_id)
        return task_id

    def forgo(self, task_id: str) -> None:
        """The call that claimed this id is over. Never claimed is fine."""
        self._claimed.discard(task_id)

    async def execute(self, row: TaskRow, steps: list[Step], started: Callable[[TaskRow], None]) -> None:
        """Run a new task to its end. Raises what its steps raise; StateUnavailable before anything is done."""
        await self._put(row)
        self._rows[row.id] = row
        run = self._runs[row.id] = Run(row, steps, self._saved)
        self._publish(row)
        started(row)
        try:
            await run.forward()
        finally:
            del self._runs[row.id]
            await self._prune()

    def row(self, task_id: str) -> TaskRow:
        """Raises UnknownTask."""
        try:
            return self._rows[task_id]
        except KeyError:
            raise UnknownTask(task=task_id) from None

    def find(self, task_id: str) -> TaskRow | None:
        return self._rows.get(task_id)

    async def outcome(self, row: TaskRow) -> object:
        """What a task begun before a restart comes to. Raises its problem if it failed."""
        await self.settled()
        if row.problem is not None:
            raise Problem.of(row.problem)
        return await self._operations.revive(row.answer).run() if row.answer else None

    def unfinished(self) -> list[TaskRow]:
        """Also those that a restart interrupted and that are not gone on with yet."""
        return [row for row in self._rows.values() if not row.state.ended]

    def running(self) -> int:
        return len(self._runs)

    async def _put(self, row: TaskRow) -> None:
        await self._log.put(StoredTask(id=row.id, created=row.created, ended=row.ended, body=msgspec.json.encode(row)))

    async def _saved(self, row: TaskRow) -> None:
        try:
            await self._put(row)
        except StateUnavailable as problem:
            # Operations can be done twice, so a step whose boundary is not on disk is safe; stopping here is not.
            log.error("task %s goes on without being written: %s", row.id, problem)
        self._publish(row)
        if self._at_boundary is not None:
            self._at_boundary(row)

    def _publish(self, row: TaskRow) -> None:
        self._journal.publish(
            TaskStatusEvent(
                task_id=row.id,
                verb=row.verb,
                state=row.state.value,
                progress=row.progress,
                step=row.current,
                object_id=row.object_id,
                job_type=task_words.job_type(row),
                code=row.problem.code if row.problem else None,
                message=row.problem.detail if row.problem else "",
            ),
            flow_id=row.flow_id,
        )

    async def _prune(self) -> None:
        ended = [row for row in self._rows.values() if row.state.ended]
        for row in ended[: max(0, len(ended) - KEPT)]:
            await self._log.delete(row.id)
            self._rows.pop(row.id, None)  # another task that ended meanwhile had the same to do

    # ---- the verbs -------------------------------------------------------------------------------------------------

    @handles(task.list_)
    async def list_(self, ctx: Context) -> list[TaskRecord]:
        return [row.record() for row in reversed(self._rows.values())]

    @handles(task.get)
    async def get(self, ctx: Context, task_id: str) -> TaskRecord:
        return self.row(task_id).record()

    @handles(task.get_info)
    async def get_info(self, ctx: Context, task_id: str) -> TaskInfo:
        return task_words.info(self.row(task_id))

    @handles(task.get_status)
    async def get_status(self, ctx: Context, task_id: str) -> TaskStatus:
        return task_words.status(self.row(task_id))

    @handles(task.stop)
    async def stop(self, ctx: Context, task_id: str) -> None:
        row = self.row(task_id)
        run = self._runs.get(task_id)
        if run is None or row.state not in (State.PENDING, State.RUNNING):
            raise TaskFinished(task=task_id)
        if row.committed:
            raise TaskNotRevertible(task=task_id, reason="it is beyond the step from which there is no way back")
        run.stop()
        self._publish(row)

    @handles(task.revert)
    async def revert(self, ctx: Context, task_id: str) -> None:
        row = self.row(task_id)
        if not row.state.ended:
            raise TaskNotFinished(task=task_id, state=row.state)
        if row.state is not State.DONE:
            raise TaskNotRevertible(task=task_id, reason=f"it is {row.state}")
        if row.committed or not any(step.undo for step in row.steps):
            raise TaskNotRevertible(task=task_id, reason="what it did has no way back")
        await ctx.hold(*row.locks)
        steps = self._revive(row)
        await Run(row, steps, self._saved).backward(State.REVERTED, None)

    @handles(task.clear)
    async def clear(self, ctx: Context, task_id: str) -> None:
        row = self.row(task_id)
        if not row.state.ended:
            raise TaskNotFinished(task=task_id, state=row.state)
        await self._log.delete(task_id)
        self._rows.pop(task_id, None)

    @handles(host.get_all_tasks)
    async def get_all_tasks(self, ctx: Context) -> list[TaskDetails]:
        return [task_words.details(row) for row in self._rows.values()]

    @handles(host.get_all_tasks_info)
    async def get_all_tasks_info(self, ctx: Context) -> dict[str, TaskInfo]:
        return {row.id: task_words.info(row) for row in self._rows.values()}

    @handles(host.get_all_tasks_statuses)
    async def get_all_tasks_statuses(self, ctx: Context) -> dict[str, TaskStatus]:
        return {row.id: task_words.status(row) for row in self._rows.values()}

    @handles(host.get_jobs)
    async def get_jobs(
        self, ctx: Context, *, job_type: str = "", job_ids: list[str] | None = None
    ) -> dict[str, HostJob]:
        wanted = set(job_ids or ())
        return {
            row.id: task_words.job(row)
            for row in self._rows.values()
            if (not wanted or row.id in wanted) and job_type in ("", task_words.job_type(row))
        }
