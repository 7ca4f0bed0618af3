# SPDX-License-Identifier: Apache-2.0
"""One call in the contract's types: parameters to a request, the answer to an outcome or a problem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from vdsm.contract import AnyVerb, Kind, Verb
from vdsm.contract.codec import from_json, from_plain, to_plain
from vdsm.contract.errors import DeadlineExceeded, Problem, ProblemBody
from vdsm.contract.outcome import Outcome
from vdsm.contract.task import Plan, TaskRecord

from . import route
from .transport import BadAnswer, Reply, Transport

R = TypeVar("R")

QUERY_SECONDS = 60.0  # a read that says nothing for so long will not say anything
GRACE = 5.0  # seconds beyond a deadline in which the daemon should have said itself that it passed


@dataclass(frozen=True, slots=True)
class Options:
    """How to call, beside what to call. `wait`: seconds for a task's end before the task itself is the answer."""

    plan: bool = False
    wait: float | None = None
    deadline: float | None = None  # seconds
    idempotency_key: str = ""
    flow_id: str = ""


def bind(verb: AnyVerb, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
    """The parameters by wire name, as plain data, of a call by python names. Raises TypeError as a call would."""
    fields = verb.params.__struct_fields__
    if len(args) > len(fields):
        raise TypeError(f"{verb.noun}.{verb.name}() takes {len(fields)} arguments, {len(args)} were given")
    given = dict(zip(fields, args, strict=False))
    for name, value in kwargs.items():
        if name in given:
            raise TypeError(f"{verb.noun}.{verb.name}() got {name!r} twice")
        given[name] = value
    verb.params(**given)  # names what is missing or unknown
    wire = dict(zip(fields, verb.params.__struct_encode_fields__, strict=True))
    return {wire[name]: to_plain(value) for name, value in given.items()}


def strict(verb: AnyVerb, params: Mapping[str, object]) -> dict[str, object]:
    """The parameters with true numbers where a binding took text for them. Raises InvalidParams."""
    given = from_plain(params, verb.params, text_numbers=True)
    return {name: value for name, value in to_plain(given).items() if name in params}


def call(transport: Transport, verb: Verb[..., R], params: Mapping[str, object], options: Options) -> Outcome[R]:
    """Raises Problem, Unreachable, BadAnswer."""
    headers = route.prefer(options.wait) if verb.kind is Kind.TASK else {}
    if verb.mutates and not options.plan:
        # The second of two equal calls joins the first or gets its answer: after a broken connection it is sent again.
        headers["Idempotency-Key"] = options.idempotency_key or route.new_key()
    if options.flow_id:
        headers["Flow-Id"] = options.flow_id
    if options.deadline is not None:
        headers["Request-Timeout"] = f"{options.deadline:.3f}"
    target, body = route.target(verb.route.method, verb.route.path, params, plan=options.plan)
    patience = _patience(verb, options)
    try:
        reply = transport.request(
            verb.route.method, target, body=body, headers=headers, timeout=patience, repeatable=True
        )
    except TimeoutError:
        raise DeadlineExceeded(what=f"{verb.method} at {transport.address}", seconds=f"{patience:g}") from None
    return _outcome(verb, reply, options)


def problem(status: int, body: bytes) -> Problem:
    """The problem in an answer. Raises BadAnswer."""
    try:
        return Problem.of(msgspec.json.decode(body, type=ProblemBody))
    except msgspec.DecodeError:
        raise BadAnswer(f"status {status} without a problem document: {body[:200]!r}") from None


def _patience(verb: AnyVerb, options: Options) -> float | None:
    """Seconds of silence that mean there will be no answer."""
    if options.deadline is not None:
        return options.deadline + GRACE
    return QUERY_SECONDS if verb.kind is Kind.QUERY else None


def _outcome(verb: Verb[..., R], reply: Reply, options: Options) -> Outcome[R]:
    if reply.is_problem:
        raise problem(reply.status, reply.body)
    replayed = reply.headers.get("Idempotency-Replayed") == "true"
    try:
        if options.plan:
            return Outcome(plan=from_json(reply.body, Plan), replayed=replayed)
        if reply.status == 202 and verb.kind is Kind.TASK:
            return Outcome(task=from_json(reply.body, TaskRecord), replayed=replayed)
        result: Any = None if reply.status == 204 else from_json(reply.body, verb.result)
    except msgspec.DecodeError as error:
        raise BadAnswer(f"{verb.method}: the answer is not what the contract says: {error}") from None
    return Outcome(result=result, replayed=replayed)
