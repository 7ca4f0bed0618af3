# SPDX-License-Identifier: Apache-2.0
"""One call on its way through the bridge: the `Context` its handler sees, and what the bridge notes of it."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from vdsm.contract.errors import AccessDenied, ObjectBusy, Problem
from vdsm.contract.task import Plan, StepInfo
from vdsm.contract.vm_info import Allowance

from . import flow
from .caller import Caller
from .entries import Entry
from .locks import Locks
from .run import Run, StepRow, TaskRow
from .steps import Op, Step, perform
from .task import Tasks

_numbers = itertools.count(1)


class Planned(BaseException):
    """Carries the steps out of a handler that was asked only to plan."""

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__()
        self.steps = steps

    def plan(self, method: str) -> Plan:
        return Plan(
            method=method,
            steps=[StepInfo(title=s.title, undo=s.undo.name if s.undo else "") for s in self.steps],
        )


async def _nothing() -> None: ...


class Call:
    """See `handlers.Context`."""

    __slots__ = (
        "_entries", "_held", "_holder", "_locks", "_ran", "_ran_behind", "_started", "_subject_id", "_task_id",
        "_tasks", "args", "audited", "before_task", "caller", "entry", "flow_id", "keep", "planning", "replayed", "row",
    )  # fmt: skip

    def __init__(
        self,
        entry: Entry,
        caller: Caller,
        flow_id: str,
        locks: Locks,
        tasks: Tasks,
        entries: Mapping[str, Entry],
        keep: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        """`keep` runs what goes on after the call."""
        self.keep = keep
        self.entry = entry
        self.caller = caller
        self.flow_id = flow_id or flow.new()
        self.planning = False
        self.args: msgspec.Struct | None = None
        self.row: TaskRow | None = None
        self.replayed = False
        self.audited = False
        self.before_task: Callable[[str], Awaitable[None]] | None = None
        self._locks = locks
        self._tasks = tasks
        self._entries = entries
        self._held: list[str] = []
        self._subject_id = ""
        self._task_id = ""
        self._holder = ""
        self._started: asyncio.Event | None = None
        self._ran = False
        self._ran_behind = False

    @property
    def holder(self) -> str:
        """How others are told who is in their way: the task's id, or the verb with a number. Raises JobExists."""
        if not self._holder:
            if self.entry.verb.has_task:
                chosen = getattr(self.args, self.entry.verb.task_id_param, None)
                self._holder = self._task_id = self._tasks.claim(chosen)
            else:
                self._holder = f"{self.entry.verb.method}#{next(_numbers)}"
        return self._holder

    async def check_subject(self) -> None:
        """Lock the object the verb is about, then refuse what its state does not allow."""
        entry = self.entry
        if entry.subjects is None:
            return
        self._subject_id = getattr(self.args, entry.subject_param)
        entry.subjects.subject(self._subject_id)  # a lock on what is not there would name nothing
        if entry.verb.mutates and entry.exclusive:
            await self.hold(f"{entry.verb.noun}:{self._subject_id}")
        for problem in entry.refusals(entry.subjects.subject(self._subject_id)):
            raise problem

    async def hold(self, *names: str) -> None:
        if not self.planning:
            await self._locks.hold(self.holder, names)
            self._held += names

    async def release(self) -> None:
        """Let go of every lock, and of the task's id; a task that goes on behind a stream does so at its end."""
        if not self._ran_behind:
            await self._let_go()

    async def _let_go(self) -> None:
        self._tasks.forgo(self._task_id)
        if self._held:
            await self._locks.release(self.holder)

    async def run(self, *steps: Step, answer: Op[Any] | None = None, about: str = "") -> Any:
        assert not self._ran, f"{self.entry.verb.method} runs its steps twice"
        self._ran = True
        if self.planning:
            raise Planned(steps)
        written = self.entry.verb.has_task
        row = TaskRow(
            id=self.holder,
            verb=self.entry.verb.method,
            object_id=about or self._subject_id,
            caller=self.caller,
            flow_id=self.flow_id,
            created=time.time(),
            steps=[StepRow.of(s) if written else StepRow.titled(s) for s in steps],
            answer=answer.row() if answer and written else None,
            locks=self._held,
        )
        if written:
            if self.before_task is not None:
                await self.before_task(row.id)
            await self._tasks.execute(row, list(steps), self._begun)
        else:
            await Run(row, list(steps), _unsaved).forward()
        return await perform(answer, lambda fraction: None) if answer else None

    async def begin(self, *steps: Step, about: str = "") -> asyncio.Task[None]:
        self._ran_behind = True
        work = self.keep(self._behind(steps, about))
        await self.wait(work, 0)
        if work.done():
            work.result()
        return work

    async def _behind(self, steps: Sequence[Step], about: str) -> None:
        try:
            await self.run(*steps, about=about)
        finally:
            await self._let_go()

    def _begun(self, row: TaskRow) -> None:
        self.row = row
        if self._started is not None:
            self._started.set()

    async def wait(self, work: asyncio.Task[Any], seconds: float | None) -> None:
        """Until the work is done or, once its task is on disk, `seconds` have gone by."""
        if seconds is None:
            await asyncio.wait([work])
            return
        self._started = self._started or asyncio.Event()
        if self.row is None:
            started = asyncio.ensure_future(self._started.wait())
            await asyncio.wait([work, started], return_when=asyncio.FIRST_COMPLETED)
            started.cancel()
        if not work.done() and seconds > 0:
            await asyncio.wait([work], timeout=seconds)

    def allowances(self, noun: str, subject: object, object_id: str) -> Sequence[Allowance]:
        return [
            Allowance(method=entry.verb.method, allowed=not problems, problems=problems)
            for entry in self._entries.values()
            if entry.subjects is not None and entry.verb.noun == noun
            for problems in [[p.body() for p in self._objections(entry, subject, object_id)]]
        ]

    def _objections(self, entry: Entry, subject: object, object_id: str) -> Sequence[Problem]:
        found: list[Problem] = []
        if not self.caller.may(entry.verb.needs):
            found.append(
                AccessDenied(caller=self.caller.identity, privilege=entry.verb.needs, method=entry.verb.method)
            )
        found += entry.refusals(subject)
        name = f"{entry.verb.noun}:{object_id}"
        if entry.verb.mutates and entry.exclusive and (other := self._locks.holder(name)):
            found.append(ObjectBusy(what=name.replace(":", " "), holder=other))
        return found


async def _unsaved(row: TaskRow) -> None:
    """An ACTION is over at once: nothing of it is kept but its audit line."""
