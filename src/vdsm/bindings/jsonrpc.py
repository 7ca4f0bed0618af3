# SPDX-License-Identifier: Apache-2.0
"""JSON-RPC calls on a bridge, in the published shapes."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping

import msgspec

from vdsm.contract import VERBS, AnyVerb, Kind
from vdsm.contract.codec import to_plain
from vdsm.contract.errors import InternalError, InvalidParams, InvalidRequest, MethodNotFound, Problem
from vdsm.contract.outcome import Outcome
from vdsm.core.bridge import Bridge
from vdsm.core.caller import Caller
from vdsm.protocols import jsonrpc
from vdsm.protocols.dialect import NOTHING, TASK_ID, Dialect, DialectError
from vdsm.protocols.jsonrpc import Call, Refusal

_log = logging.getLogger(__name__)

_SHOWN_NAMES, _SHOWN_LENGTH = 32, 64  # of an unknown verb's parameters, in the log
_FIRST_LOOK, _LONGEST_LOOK = 0.02, 1.0  # seconds between two looks for the object of a task


class JsonRpc:
    """Answers calls; nothing in it knows any verb."""

    def __init__(self, bridge: Bridge, dialect: Dialect, verbs: Mapping[str, AnyVerb] = VERBS) -> None:
        self._bridge = bridge
        self._dialect = dialect
        self._verbs = verbs

    async def answer(self, call: Call | Refusal, caller: Caller, flow_id: str = "") -> bytes:
        """The answer's document; empty for a notification, whatever becomes of it."""
        if isinstance(call, Refusal):
            return _refused(call)
        try:
            answer = jsonrpc.result(call.id, await self._perform(call, caller, flow_id))
        except Problem as problem:
            answer = _failed(call, problem, flow_id)
        except Exception:  # the last net: a defect of this binding must be answered as one of the daemon's is
            _log.exception("%s failed by a defect of the binding (flow %s)", call.method, flow_id)
            answer = _failed(call, InternalError(reason="the call could not be served"), flow_id)
        return b"" if call.notification else answer

    async def _perform(self, call: Call, caller: Caller, flow_id: str) -> object:
        verb = self._verbs.get(call.method)
        if verb is None:
            names = [f"{name}"[:_SHOWN_LENGTH] for name in call.params][:_SHOWN_NAMES]
            given = names if isinstance(call.params, dict) else f"{len(call.params)} by position"
            _log.warning(
                "%s asks for %r, which there is not; parameters: %s", caller.identity, call.method[:128], given
            )
            raise MethodNotFound(method=call.method[:128])
        dialect = self._dialect
        try:
            params = dialect.arguments(verb.method, call.params, verb.params.__struct_encode_fields__)
        except DialectError as error:
            raise InvalidParams(reason=str(error), path=error.path) from None
        bound = _Bound(self._bridge, caller, flow_id)
        early = dialect.early(verb.method) if verb.kind is Kind.TASK else ""
        if early in self._verbs:
            result = await bound.call_early(verb, self._verbs[early], params)
        else:
            outcome = await bound.call(verb, params, wait=0.0 if early else None)
            result = outcome.result
            if early and outcome.task is not None:
                result = {TASK_ID: outcome.task.id, NOTHING: None}[early]
        return dialect.result(verb.method, to_plain(result))


class _Bound:
    """The bridge, for one caller and one flow."""

    def __init__(self, bridge: Bridge, caller: Caller, flow_id: str) -> None:
        self._bridge = bridge
        self._caller = caller
        self._flow_id = flow_id

    async def call(
        self, verb: AnyVerb, params: Mapping[str, object], *, wait: float | None = None, key: str = ""
    ) -> Outcome[object]:
        return await self._bridge.call(
            verb, params, self._caller, wait=wait, flow_id=self._flow_id, idempotency_key=key, text_numbers=True
        )

    async def call_early(self, verb: AnyVerb, other: AnyVerb, params: Mapping[str, object]) -> object:
        """What `other` says of the task's object, as soon as that is there; the task goes on by itself.

        Should the task end first, its own result. Raises Problem.
        """
        key = f"{uuid.uuid4()}"  # with one key, two calls are one
        begun = await self.call(verb, params, wait=0.0, key=key)
        if not begun.detached or begun.task is None:
            return begun.result
        about = {other.params.__struct_encode_fields__[0]: begun.task.object_id}
        end = asyncio.ensure_future(self.call(verb, params, key=key))
        pause = _FIRST_LOOK
        try:
            while not end.done():
                try:
                    return (await self.call(other, about)).result
                except Problem as problem:
                    if problem.status != 404:
                        raise
                await asyncio.wait([end], timeout=pause)
                pause = min(2 * pause, _LONGEST_LOOK)
            return end.result().result
        finally:
            end.cancel()
            await asyncio.gather(end, return_exceptions=True)


def _refused(refusal: Refusal) -> bytes:
    data = msgspec.to_builtins(InvalidRequest(reason=refusal.reason).body())
    return jsonrpc.error(refusal.id, refusal.code, refusal.reason, {**data, "code": refusal.code})


def _failed(call: Call, problem: Problem, flow_id: str) -> bytes:
    return jsonrpc.error(call.id, problem.code, f"{problem}", msgspec.to_builtins(problem.body(flow_id)))
