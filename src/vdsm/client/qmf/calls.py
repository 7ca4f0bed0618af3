# SPDX-License-Identifier: Apache-2.0
"""A verb of the contract, called on a host of the bus: parameters to a message, the answer to an outcome or problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from vdsm.client.exchange import GRACE, QUERY_SECONDS, Options
from vdsm.client.route import new_key
from vdsm.contract import AnyVerb, Kind, Verb
from vdsm.contract.codec import from_plain
from vdsm.contract.errors import (
    DeadlineExceeded,
    HostUnreachable,
    InternalError,
    InvalidParams,
    InvalidRequest,
    Problem,
    ProblemBody,
    StreamNotCarried,
)
from vdsm.contract.outcome import Outcome
from vdsm.contract.task import Plan, TaskRecord
from vdsm.protocols.qmf2.guard import Unsendable
from vdsm.protocols.qmf2.model import Fault, MethodAnswer, MethodCall, ObjectId

from .console import Console, Refusal
from .hosts import KnownHost, Unknown
from .requests import Lost, NoAnswer

R = TypeVar("R")

FIND_SECONDS = 5.0  # until a host that was never heard is taken to be not there
TASK_SECONDS = 20.0  # a longer wait for a task is made of several calls: each holds one of the host's places for calls
EVERYTHING = ObjectId("Host")  # any verb may be called on it, by its whole name

_PROBLEM = tuple(f.encode_name for f in msgspec.structs.fields(ProblemBody))


async def find(console: Console, host: str) -> KnownHost:
    """Raises HostUnreachable."""
    try:
        return await console.find(host, FIND_SECONDS)
    except Unknown as error:
        reason = f"the bus is down: {console.down_for}" if not console.up else str(error.args[0])
        raise HostUnreachable(host=host, reason=reason) from None


async def ask(
    console: Console, host: KnownHost, verb: AnyVerb, params: Mapping[str, object], options: Options
) -> object:
    """The result of a query as plain data. Raises Problem."""
    sent = MethodCall(
        name=verb.method, object_id=EVERYTHING, arguments={**params, **_reserved(verb, options, "", None)}
    )
    return (await _ask(console, host, verb, sent, options)).arguments.get("result")


async def call(
    console: Console, host: str, verb: Verb[..., R], params: Mapping[str, object], options: Options
) -> Outcome[R]:
    """Do what the verb says on the host of that name. Done once, however often it must be sent. Raises Problem."""
    if verb.kind is Kind.STREAM:
        raise StreamNotCarried(method=verb.method)
    known = await find(console, host)
    key = options.idempotency_key
    if verb.mutates and not options.plan:
        key = key or new_key()
    left = options.wait
    while True:
        part = None
        if verb.kind is Kind.TASK and not options.plan:
            part = TASK_SECONDS if left is None else min(left, TASK_SECONDS)
        sent = MethodCall(
            name=verb.method, object_id=EVERYTHING, arguments={**params, **_reserved(verb, options, key, part)}
        )
        outcome = _outcome(verb, await _ask(console, known, verb, sent, options), options)
        if left is not None and part is not None:
            left -= part
        if not outcome.detached or left == 0:
            return outcome


def _reserved(verb: Verb[..., R], options: Options, key: str, wait: float | None) -> dict[str, object]:
    """The arguments that say how to call."""
    given: dict[str, object] = {"_flow_id": options.flow_id, "_deadline": options.deadline}
    if verb.mutates:
        given |= {"_plan": options.plan or None, "_idempotency_key": key, "_wait": wait}
    elif options.plan:
        given["_plan"] = True
    return {name: value for name, value in given.items() if value not in (None, "")}


async def _ask(
    console: Console, host: KnownHost, verb: Verb[..., R], sent: MethodCall, options: Options
) -> MethodAnswer:
    patience = QUERY_SECONDS if verb.kind is Kind.QUERY else None
    if options.deadline is not None:
        patience = options.deadline + GRACE
    try:
        return await console.call(host.agent, sent, patience)
    except Lost as lost:
        raise HostUnreachable(host=host.name, reason=lost) from None
    except NoAnswer:
        raise DeadlineExceeded(what=f"{verb.method} at {host.name}", seconds=f"{patience:g}") from None
    except Unsendable as error:
        raise InvalidRequest(reason=error) from None
    except Refusal as refusal:
        raise problem(refusal.fault, host.name) from None


def problem(fault: Fault, host: str) -> Problem:
    """What a host's exception stands for."""
    members = {name: fault.others[name] for name in _PROBLEM if name in fault.others}
    try:
        return Problem.of(msgspec.convert(members, ProblemBody))
    except msgspec.ValidationError:
        return InternalError(reason=f"{host} answered with error {fault.code}: {fault.text}")


def _outcome(verb: Verb[..., R], answer: MethodAnswer, options: Options) -> Outcome[R]:
    said = answer.arguments
    try:
        if options.plan:
            return Outcome(plan=from_plain(said.get("plan"), Plan))
        return Outcome(
            result=from_plain(said["result"], verb.result) if "result" in said else None,
            task=from_plain(said["task"], TaskRecord) if said.get("task") is not None else None,
            replayed=said.get("replayed") is True and bool(options.idempotency_key),
        )
    except InvalidParams as error:
        reason = f"{verb.method}: the answer is not what the contract says: {error} at {error.path}"
        raise HostUnreachable(host=answer.agent, reason=reason) from None
