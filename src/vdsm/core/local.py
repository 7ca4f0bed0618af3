# SPDX-License-Identifier: Apache-2.0
"""The bridge of this very host: access, validation, idempotency, plan or run, audit. Every call passes here."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import typing
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from vdsm.contract import AnyVerb, ByteStream, Kind
from vdsm.contract.access import Privilege
from vdsm.contract.audit import AuditRecord
from vdsm.contract.codec import from_json, from_plain, to_json
from vdsm.contract.errors import (
    AccessDenied,
    IdempotencyConflict,
    InternalError,
    PlanNotOffered,
    Problem,
    RecoveryInProgress,
    StateUnavailable,
    StreamNotCarried,
)
from vdsm.contract.events import EventFilter, EventRecord, Gap
from vdsm.contract.outcome import Outcome

from . import flow
from .call import Call, Planned
from .caller import Caller
from .entries import entries_of, shown
from .journal import Journal
from .locks import Locks
from .ports import deadline as deadlines
from .ports.meter import Meter
from .ports.store import AuditLog, Claim, KeyLog
from .refusals import Refusals
from .task import Tasks

log = logging.getLogger(__name__)

R = typing.TypeVar("R")


@dataclass(frozen=True, slots=True)
class Work:
    """A change under way. Callers wait for it; it does not depend on them."""

    call: Call
    digest: str
    task: asyncio.Task[Any]


class LocalBridge:
    """Raises ContractError at once when a verb has no handler, or two."""

    def __init__(
        self,
        services: Sequence[object],
        *,
        tasks: Tasks,
        journal: Journal,
        locks: Locks,
        audit: AuditLog,
        keys: KeyLog,
        meter: Meter,
        refusals: Refusals,
    ) -> None:
        self._entries = entries_of([*services, tasks])
        self._tasks = tasks
        self._journal = journal
        self._locks = locks
        self._audit = audit
        self._keys = keys
        self._meter = meter
        self._refusals = refusals
        self._keyed: dict[tuple[str, str], Work] = {}
        self._working: set[asyncio.Task[Any]] = set()
        self.ready = False

    async def drain(self, seconds: float) -> None:
        """Let what runs finish, up to `seconds`; the next start takes up the rest."""
        if self._working:
            await asyncio.wait(self._working, timeout=seconds)
        for work in self._working:
            work.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)

    # ---- the door --------------------------------------------------------------------------------------------------

    async def call(
        self,
        verb: AnyVerb,
        params: Mapping[str, object],
        caller: Caller,
        *,
        plan: bool = False,
        wait: float | None = None,
        deadline: float | None = None,
        flow_id: str = "",
        idempotency_key: str = "",
        text_numbers: bool = False,
    ) -> Outcome[object]:
        """See `Bridge.call`."""
        begun = time.perf_counter()
        call = Call(self._entries[verb.method], caller, flow_id, self._locks, self._tasks, self._entries, self._keep)
        verdict = "ok"
        mark = flow.current.set(call.flow_id)
        try:
            self._admit(call, params, text_numbers)
            if verb.mutates:
                if plan:
                    return await self._plan(call)
                outcome = await self._change(call, wait, deadline, idempotency_key)
                verdict = "accepted" if outcome.detached else "ok"
                return outcome
            if verb.kind is Kind.STREAM:
                raise StreamNotCarried(method=verb.method)
            if plan:
                raise PlanNotOffered(method=verb.method)
            if deadline is None:
                return Outcome(await self._handle(call))
            with deadlines.within(deadline):
                return Outcome(await self._handle(call))
        except Exception as error:
            problem = _problem(call, error)
            verdict = problem.slug
            if not call.audited and (verb.mutates or isinstance(problem, AccessDenied)):
                await self._note(call, params, verdict, begun)
            raise problem from (None if problem is error else error)
        finally:
            flow.current.reset(mark)
            self._meter.observe(verb.method, verdict, time.perf_counter() - begun)

    async def open(
        self,
        verb: AnyVerb,
        params: Mapping[str, object],
        caller: Caller,
        *,
        flow_id: str = "",
        text_numbers: bool = False,
    ) -> ByteStream:
        """See `Bridge.open`."""
        begun = time.perf_counter()
        call = Call(self._entries[verb.method], caller, flow_id, self._locks, self._tasks, self._entries, self._keep)
        verdict = "ok"
        mark = flow.current.set(call.flow_id)
        try:
            self._admit(call, params, text_numbers)
            stream: ByteStream = await self._handle(call)
            return stream
        except Exception as error:
            problem = _problem(call, error)
            verdict = problem.slug
            raise problem from (None if problem is error else error)
        finally:
            flow.current.reset(mark)
            await call.release()
            await self._note(call, params, verdict, begun)
            self._meter.observe(verb.method, verdict, time.perf_counter() - begun)

    def subscribe(
        self, wanted: EventFilter, caller: Caller, *, since: int | None = None
    ) -> AsyncIterator[EventRecord | Gap]:
        """See `Bridge.subscribe`."""
        if not caller.may(Privilege.EVENT_READ):
            problem = AccessDenied(caller=caller.identity, privilege=Privilege.EVENT_READ, method="the event stream")
            self._refusals.note_caller(problem, "the event stream", caller)
            raise problem
        return self._journal.follow(wanted, since)

    # ---- one call --------------------------------------------------------------------------------------------------

    def _admit(self, call: Call, params: Mapping[str, object], text_numbers: bool) -> None:
        """Who may, and with what: for a caller who lacks the verb's privilege nothing else is looked at."""
        verb, caller = call.entry.verb, call.caller
        if not caller.may(verb.needs):
            raise AccessDenied(caller=caller.identity, privilege=verb.needs, method=verb.method)
        if not self.ready:
            raise RecoveryInProgress()
        call.args = args = from_plain(params, verb.params, text_numbers=text_numbers)
        for privilege in call.entry.guarded.needs(args):
            if not caller.may(privilege):
                raise AccessDenied(caller=caller.identity, privilege=privilege, method=verb.method)

    async def _handle(self, call: Call) -> Any:
        entry = call.entry
        if entry.subjects is not None:
            await call.check_subject()
        return await entry.handler(call, **{name: getattr(call.args, name) for name in entry.fields})

    async def _plan(self, call: Call) -> Outcome[object]:
        call.planning = True
        try:
            await self._handle(call)
        except Planned as planned:
            return Outcome(plan=planned.plan(call.entry.verb.method))
        return Outcome(plan=Planned([]).plan(call.entry.verb.method))  # all is as wanted already

    async def _change(self, call: Call, wait: float | None, deadline: float | None, key: str) -> Outcome[object]:
        work = self._keyed.get((call.caller.identity, key)) if key else None
        digest = hashlib.sha256(to_json([call.entry.verb.method, call.args])).hexdigest() if key else ""
        if work is not None and work.digest != digest:
            raise IdempotencyConflict(key=key)
        joined = work is not None
        if work is None:
            task = self._keep(self._work(call, deadline, key, digest))
            work = Work(call, digest, task)
            if key:
                self._keyed[call.caller.identity, key] = work
        await work.call.wait(work.task, wait)
        if work.task.cancelled():  # by `drain`: the next start ends it
            raise RecoveryInProgress()
        row = work.call.row
        return Outcome(
            work.task.result() if work.task.done() else None,
            task=row.record() if row else None,
            replayed=joined or work.call.replayed,
        )

    def _keep(self, work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        """Work that does not depend on who asked for it; `drain` waits for it."""
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._worked)
        return task

    def _worked(self, task: asyncio.Task[Any]) -> None:
        self._working.discard(task)
        if not task.cancelled():
            task.exception()  # audited already; a detached caller never asks for it

    async def _work(self, call: Call, deadline: float | None, key: str, digest: str) -> object:
        begun = time.perf_counter()
        verdict = "ok"
        call.audited = True
        try:
            with deadlines.within(deadline):
                return await (self._once(call, key, digest) if key else self._handle(call))
        except Exception as error:
            verdict = _problem(call, error).slug
            raise
        finally:
            self._keyed.pop((call.caller.identity, key), None)
            await call.release()
            await self._note(call, {}, verdict, begun)

    async def _once(self, call: Call, key: str, digest: str) -> object:
        """Do it, or answer what the first call with this key was answered."""
        verb, who = call.entry.verb, call.caller.identity
        claim = Claim(method=verb.method, digest=digest)
        earlier = await self._keys.claim(who, key, claim)
        if earlier is not None:
            if earlier.digest != digest:
                raise IdempotencyConflict(key=key)
            call.row = self._tasks.find(earlier.task_id)
            call.replayed = earlier.answer is not None or call.row is not None
            if earlier.answer is not None:
                return from_json(earlier.answer, verb.result)
            if call.row is not None:  # begun before a restart: recovery ends it
                return await self._tasks.outcome(call.row)
            # Neither: it was claimed just before a crash, and nothing was done. Do it now.

        async def before_task(task_id: str) -> None:
            await self._keys.settle(who, key, msgspec.structs.replace(claim, task_id=task_id))

        call.before_task = before_task
        try:
            result = await self._handle(call)
        except Exception:
            await self._keys.release(who, key)  # it was undone, so the same call may be tried again
            raise
        task_id = call.row.id if call.row else ""
        answer = None if call.entry.secretive else to_json(result)
        await self._keys.settle(who, key, msgspec.structs.replace(claim, task_id=task_id, answer=answer))
        return result

    async def _note(self, call: Call, params: Mapping[str, object], verdict: str, begun: float) -> None:
        record = AuditRecord(
            id=0,
            time=time.time(),
            caller=call.caller.identity,
            channel=call.caller.channel,
            peer=call.caller.peer,
            method=call.entry.verb.method,
            arguments=shown(call.args, params),
            verdict="replayed" if call.replayed else verdict,
            duration=round(time.perf_counter() - begun, 6),
            flow_id=call.flow_id,
        )
        try:
            await self._audit.append(record)
        except StateUnavailable as problem:
            log.error("not audited: %s (%s)", msgspec.json.encode(record).decode(), problem)


def _problem(call: Call, error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    log.error("%s failed by a defect (flow %s)", call.entry.verb.method, call.flow_id, exc_info=error)
    return InternalError(reason=type(error).__name__)
