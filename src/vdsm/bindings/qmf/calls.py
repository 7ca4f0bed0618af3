# SPDX-License-Identifier: Apache-2.0
"""Method calls of consoles, as calls on the bridge: the object says which class, the name which verb of it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from vdsm.contract import VERBS, AnyVerb, host
from vdsm.contract.codec import from_plain, to_plain
from vdsm.contract.errors import InternalError, InvalidParams, MethodNotFound, Problem
from vdsm.contract.outcome import Outcome
from vdsm.contract.types import END, Seconds
from vdsm.core import flow
from vdsm.core.bridge import Bridge
from vdsm.core.caller import Caller
from vdsm.protocols.qmf2.model import Fault, FaultCode, MethodAnswer, MethodCall

from . import types
from .schema import Schemata

log = logging.getLogger(__name__)

_SHOWN = 128  # characters of a stranger's words, in answers and logs


class Reserved(msgspec.Struct, frozen=True, kw_only=True, rename=lambda name: f"_{name}"):
    """Arguments that every method takes beside its own: how the call is to be made."""

    plan: bool = False
    wait: Seconds | None = None
    deadline: Seconds | None = None
    idempotency_key: Annotated[str, Meta(pattern=r"^[!-~]{0,255}" + END)] = ""
    flow_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:/+=-]{0,64}" + END)] = ""  # it goes into logs as it is


# A QMF code is unsigned; what JSON-RPC calls by a negative one, QMF has codes of its own for.
_CODES = {MethodNotFound.code: FaultCode.UNKNOWN_METHOD, InvalidParams.code: FaultCode.INVALID_PARAMETER}

RESERVED = frozenset(Reserved.__struct_encode_fields__)


class Calls:
    """Nothing in it knows any verb."""

    def __init__(self, bridge: Bridge, schemata: Schemata, agent: str, verbs: Mapping[str, AnyVerb] = VERBS) -> None:
        self._bridge = bridge
        self._schemata = schemata
        self._agent = agent
        self._verbs = verbs

    def verb(self, call: MethodCall) -> AnyVerb:
        """Raises MethodNotFound; InvalidParams for an object of another agent."""
        if call.object_id and call.object_id.agent not in ("", self._agent):
            raise InvalidParams(reason=f"the object is not one of {self._agent}", path="$._object_id")
        noun = self._schemata.classes.get(_class_of(call))
        verb = self._verbs.get(call.name) or (noun and noun.noun.methods.get(call.name))
        if not verb:
            raise MethodNotFound(method=f"method {call.name[:_SHOWN]!r} of {_class_of(call)[:_SHOWN]!r}")
        return verb

    async def answer(self, verb: AnyVerb, call: MethodCall, caller: Caller) -> MethodAnswer | Fault:
        flow_id = flow.new()
        try:
            given = {name: types.to_plain(value) for name, value in call.arguments.items()}
            how = from_plain({name: given.pop(name) for name in RESERVED & given.keys()}, Reserved)
            flow_id = how.flow_id or flow_id
            outcome = await self._bridge.call(
                verb,
                self._with_subject(verb, call, _without_defaults(verb, given)),
                caller,
                plan=how.plan,
                wait=how.wait,
                deadline=how.deadline,
                flow_id=flow_id,
                idempotency_key=how.idempotency_key,
            )
            return MethodAnswer(self._agent, _arguments(outcome))
        except Exception as error:  # the last net: a defect of this binding must be answered as one of the daemon's is
            return fault_of(error, self._agent, flow_id)

    def _with_subject(self, verb: AnyVerb, call: MethodCall, given: dict[str, object]) -> dict[str, object]:
        """With the id of the object the method was called on. Raises InvalidParams if the arguments say another."""
        name, _, object_id = (call.object_id.name if call.object_id else "").partition(":")
        kind = self._schemata.classes.get(name)
        if kind is None or not object_id or verb not in kind.noun.methods.values():
            return given
        param = kind.noun.id_param
        if given.setdefault(param, object_id) != object_id:
            raise InvalidParams(
                reason=f"the method is called on another object, {object_id[:_SHOWN]!r}", path=f"$.{param}"
            )
        return given


def fault_of(error: Exception, agent: str, flow_id: str = "") -> Fault:
    """Any failure as an exception a console can read, with all that the problem says."""
    if isinstance(error, Problem):
        problem = error
    else:
        log.error("a message from the bus failed by a defect (flow %s)", flow_id, exc_info=error)
        problem = InternalError(reason="the message could not be served")
    hint = problem.remedy()
    members = msgspec.to_builtins(problem.body(flow_id))
    text = f"{problem}. {hint}" if hint else f"{problem}"
    code = problem.code if problem.code >= 0 else _CODES.get(problem.code, FaultCode.EXCEPTION)
    return Fault(agent=agent, code=code, text=text, others=members)


def _class_of(call: MethodCall) -> str:
    """A call on no object is one on the host."""
    return call.object_id.name.partition(":")[0] if call.object_id and call.object_id.name else host.NOUN


def _without_defaults(verb: AnyVerb, given: dict[str, object]) -> dict[str, object]:
    """Consoles that fill every argument say nothing with null."""
    optional = _optional(verb.params)
    return {name: value for name, value in given.items() if value is not None or name not in optional}


@functools.cache
def _optional(params: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(f.encode_name for f in msgspec.structs.fields(params) if not f.required)


def _arguments(outcome: Outcome[object]) -> dict[str, object]:
    said: dict[str, object] = {}
    if outcome.plan is not None:
        said["plan"] = to_plain(outcome.plan)
    elif not outcome.detached:
        said["result"] = to_plain(outcome.result)
    if outcome.task is not None:
        said["task"] = to_plain(outcome.task)
    if outcome.replayed:
        said["replayed"] = True
    return said
