# SPDX-License-Identifier: Apache-2.0
"""JSON-RPC calls on a bridge, in the published shapes."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from vdsm.contract import VERBS, AnyVerb
from vdsm.contract.errors import InternalError, InvalidRequest, MethodNotFound, Problem
from vdsm.core.bridge import Bridge
from vdsm.core.caller import Caller
from vdsm.protocols import jsonrpc
from vdsm.protocols.dialect import Dialect
from vdsm.protocols.jsonrpc import Call, Refusal

from .published import PublishedCalls

_log = logging.getLogger(__name__)

_NAME, _SHOWN_NAMES, _SHOWN_LENGTH = 128, 32, 64  # of what unknown callers of unknown verbs send, in log and answer


class JsonRpc:
    """Answers calls; nothing in it knows any verb."""

    def __init__(self, bridge: Bridge, dialect: Dialect, verbs: Mapping[str, AnyVerb] = VERBS) -> None:
        self._calls = PublishedCalls(bridge, dialect, verbs)
        self._verbs = verbs

    async def answer(self, call: Call | Refusal, caller: Caller, flow_id: str = "") -> bytes:
        """The answer's document; empty for a notification, whatever becomes of it."""
        if isinstance(call, Refusal):
            return _refused(call)
        try:
            verb = self._verbs.get(call.method) or _unknown(call, caller)
            answer = jsonrpc.result(call.id, await self._calls.call(verb, call.params, caller, flow_id))
        except Problem as problem:
            answer = _failed(call, problem, flow_id)
        except Exception:  # the last net: a defect of this binding must be answered as one of the daemon's is
            _log.exception("%s failed by a defect of the binding (flow %s)", call.method[:_NAME], flow_id)
            answer = _failed(call, InternalError(reason="the call could not be served"), flow_id)
        return b"" if call.notification else answer


def _unknown(call: Call, caller: Caller) -> AnyVerb:
    """Raises MethodNotFound, and logs with which parameters a client would have it."""
    method = call.method[:_NAME]
    names = [f"{name}"[:_SHOWN_LENGTH] for name in call.params][:_SHOWN_NAMES]
    given = names if isinstance(call.params, dict) else f"{len(call.params)} by position"
    _log.warning("%s asks for %r, which there is not; parameters: %s", caller.identity, method, given)
    raise MethodNotFound(method=method)


def _refused(refusal: Refusal) -> bytes:
    data = msgspec.to_builtins(InvalidRequest(reason=refusal.reason).body())
    return jsonrpc.error(refusal.id, refusal.code, refusal.reason, {**data, "code": refusal.code})


def _failed(call: Call, problem: Problem, flow_id: str) -> bytes:
    return jsonrpc.error(call.id, problem.code, f"{problem}", msgspec.to_builtins(problem.body(flow_id)))
