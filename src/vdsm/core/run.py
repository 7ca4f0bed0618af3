# SPDX-License-Identifier: Apache-2.0
"""Runs steps: forward with progress, and backward when one fails or somebody says stop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from vdsm.contract.errors import InternalError, Problem, ProblemBody, TaskAborted
from vdsm.contract.task import State, StepInfo, StepState, TaskRecord

from .caller import Caller
from .steps import Op, OpRow, Step, perform

log = logging.getLogger(__name__)

UNDO_PATIENCE = 60.0  # seconds to go on trying to undo while what it needs (libvirt, say) is away


class StepRow(msgspec.Struct, kw_only=True):
    """A step on disk."""

    title: str
    do: OpRow
    undo: OpRow | None
    state: StepState = StepState.PENDING
    weight: float = 1.0
    final: bool = False

    @staticmethod
    def of(step: Step) -> StepRow:
        undo = step.undo.row() if step.undo else None
        return StepRow(title=step.title, do=step.do.row(), undo=undo, weight=step.weight, final=step.final)

    @staticmethod
    def titled(step: Step) -> StepRow:
        """For a step that is never written: of an ACTION, which is over at once."""
        return StepRow(title=step.title, do=OpRow(step.do.name, msgspec.Raw(b"[]")), undo=None)


class TaskRow(msgspec.Struct, kw_only=True):
    """A task on disk: enough to go on, or back, without the code that began it."""

    id: str
    verb: str
    object_id: str
    caller: Caller
    flow_id: str
    created: float
    steps: list[StepRow]
    answer: OpRow | None
    locks: list[str] = []
    state: State = State.PENDING
    fraction: float = 0.0  # of the step under way
    ended: float | None = None
    problem: ProblemBody | None = None

    @property
    def progress(self) -> float:
        """Percent."""
        if self.state is State.DONE or not self.steps:
            return 100.0
        done = sum(step.weight for step in self.steps if step.state is StepState.DONE)
        done += sum(self.fraction * step.weight for step in self.steps if step.state is StepState.RUNNING)
        return round(100 * min(done / sum(step.weight for step in self.steps), 1), 1)

    @property
    def committed(self) -> bool:
        """Whether there is no way back any more."""
        return any(step.final and step.state in (StepState.RUNNING, StepState.DONE) for step in self.steps)

    @property
    def current(self) -> str:
        """Title of the step under way."""
        return next((s.title for s in self.steps if s.state is StepState.RUNNING), "")

    def record(self) -> TaskRecord:
        return TaskRecord(
            id=self.id,
            verb=self.verb,
            object_id=self.object_id,
            state=self.state,
            progress=self.progress,
            steps=[StepInfo(title=s.title, state=s.state, undo=s.undo.name if s.undo else "") for s in self.steps],
            caller=self.caller.identity,
            flow_id=self.flow_id,
            created=self.created,
            ended=self.ended,
            problem=self.problem,
        )


class Run:
    """One pass over a task's steps. `saved` is awaited at every boundary, before the next step begins."""

    def __init__(self, row: TaskRow, steps: list[Step], saved: Callable[[TaskRow], Awaitable[None]]) -> None:
        self.row = row
        self._steps = steps
        self._saved = saved
        self._current: asyncio.Task[Any] | None = None
        self._stopping = False

    def stop(self) -> None:
        """End the step under way and undo what was done."""
        self._stopping = True
        self.row.state = State.ABORTING
        if self._current is not None:
            self._current.cancel()

    async def forward(self) -> None:
        """Do what is not done yet. Raises what a step raised, after undoing; CancelledError leaves all as it stands."""
        row = self.row
        row.state = State.RUNNING
        try:
            for step, step_row in zip(self._steps, row.steps, strict=True):
                if step_row.state is StepState.DONE:
                    continue
                step_row.state, row.fraction = StepState.RUNNING, 0.0
                await self._saved(row)
                await self._perform(step.do)
                step_row.state, row.fraction = StepState.DONE, 0.0
        except Exception as error:  # a defect in one step must still undo the others
            await self.backward(State.ABORTED if isinstance(error, TaskAborted) else State.FAILED, error)
            raise
        await self._end(State.DONE)

    async def backward(self, final: State, error: Exception | None) -> None:
        """Undo, the last step first, because of `error`. What cannot be undone makes the task BROKEN and says so."""
        row = self.row
        committed = row.committed
        row.state = State.CLEANING
        row.problem = as_problem(error).body(row.flow_id) if error else None
        await self._saved(row)
        for step, step_row in reversed(list(zip(self._steps, row.steps, strict=True))):
            if step_row.state in (StepState.PENDING, StepState.UNDONE):
                continue
            if step.undo is None or committed:
                step_row.state = StepState.FAILED if step_row.state is StepState.RUNNING else step_row.state
                continue
            try:
                await self._undo(step.undo)
            except Exception as worse:  # go on: the other steps can still be undone
                log.exception("task %s: undoing %r failed", row.id, step_row.title)
                final, row.problem = State.BROKEN, as_problem(worse).body(row.flow_id)
                step_row.state = StepState.FAILED
                continue
            step_row.state = StepState.UNDONE
            await self._saved(row)
        await self._end(final)

    async def _undo(self, undo: Op[Any]) -> None:
        until = time.monotonic() + UNDO_PATIENCE
        while True:
            try:
                await perform(undo, lambda fraction: None)
            except Problem as problem:
                if not problem.retryable or time.monotonic() > until:
                    raise
                await asyncio.sleep(1)
            else:
                return

    async def _perform(self, op: Op[Any]) -> None:
        if self._stopping:
            raise TaskAborted(task=self.row.id)
        self._current = asyncio.ensure_future(perform(op, self._advance))
        try:
            await self._current
        except asyncio.CancelledError:
            if not self._stopping:  # the daemon goes down: leave the task as it is on disk
                self._current.cancel()
                raise
            raise TaskAborted(task=self.row.id) from None
        finally:
            self._current = None

    def _advance(self, fraction: float) -> None:
        self.row.fraction = fraction

    async def _end(self, state: State) -> None:
        self.row.state = state
        self.row.ended = time.time()
        await self._saved(self.row)


def as_problem(error: Exception) -> Problem:
    """The problem itself, or the one that says a defect was met."""
    return error if isinstance(error, Problem) else InternalError(reason=type(error).__name__)
