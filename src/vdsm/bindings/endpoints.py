# SPDX-License-Identifier: Apache-2.0
"""One verb over HTTP: arguments in, outcome out. What can be known from the contract is worked out once, here."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from hashlib import blake2b

import msgspec

from vdsm.contract import AnyVerb, ContractError, Kind
from vdsm.contract.codec import to_json
from vdsm.contract.errors import InvalidParams, UpgradeRequired
from vdsm.contract.outcome import Outcome
from vdsm.contract.selection import FIELDS, Selection, base_types
from vdsm.contract.task import TaskRecord
from vdsm.core.bridge import Bridge
from vdsm.core.caller import Caller

from .answers import JSON, NO_STORE, REVALIDATE, Answer, Headers, Receive, Send
from .fields import matches_etag
from .requests import Bodies, Query, Request
from .routes import Values

PLAN = "plan"

Identify = Callable[[Request], Awaitable[Caller]]
Endpoint = Callable[[Request, Values, Receive, Send], Awaitable[Answer | None]]

_FLAGS = {"true": True, "1": True, "": True, "false": False, "0": False}
_SMALL = 65_536  # bytes of an answer that is kept
_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)


class Arguments:
    """How a verb's parameters stand in path, query and body."""

    def __init__(self, verb: AnyVerb) -> None:
        self.in_path = verb.route.path_params
        fields = msgspec.structs.fields(verb.params)
        self.names = [f.encode_name for f in fields]
        self._lists = {f.encode_name for f in fields if list in base_types(f.type)}
        self._integers = {f.encode_name for f in fields if int in base_types(f.type)}
        if taken := {PLAN, FIELDS} & set(self.names):
            raise ContractError(f"{verb.method}: {taken} means something else in every query")

    def of_path(self, values: Values, *, typed: bool) -> dict[str, object]:
        """`typed`: the rest is JSON, whose numbers are numbers, so those in the path must be too."""
        if not values:
            return {}
        found: dict[str, object] = dict(zip(self.in_path, values, strict=True))
        if typed:
            for name in self._integers.intersection(found):
                if _INTEGER.fullmatch(str(found[name])):
                    found[name] = int(str(found[name]))
        return found

    def of_query(self, query: Query) -> dict[str, object]:
        """Raises InvalidParams for a single value that is given twice, and for one the path has."""
        self.check_path(query)
        found: dict[str, object] = {}
        for name, values in query.items():
            if name not in self._lists and len(values) > 1:
                raise InvalidParams(reason=f"`{name}` is given {len(values)} times", path=f"$.{name}")
            found[name] = values if name in self._lists else values[0]
        return found

    def check_path(self, given: Iterable[str]) -> None:
        """Raises InvalidParams for a name that is in the path already."""
        for name in given:
            if name in self.in_path:
                raise InvalidParams(reason=f"`{name}` is in the path already", path=f"$.{name}")


def take_plan(query: Query) -> bool:
    """Raises InvalidParams."""
    given = query.pop(PLAN, None)
    if given is None:
        return False
    if len(given) > 1 or given[0].lower() not in _FLAGS:
        raise InvalidParams(reason="Expected `bool`", path=f"$.{PLAN}")
    return _FLAGS[given[0].lower()]


class Read:
    """A verb that changes nothing: arguments in path and query, answers that can be revalidated."""

    def __init__(self, verb: AnyVerb, bridge: Bridge, identify: Identify) -> None:
        self._verb = verb
        self._bridge = bridge
        self._identify = identify
        self._arguments = Arguments(verb)
        self._selection = Selection.of(verb.result)
        self._encoded: tuple[object, bytes, bytes] = (self, b"", b"")

    async def __call__(self, request: Request, values: Values, receive: Receive, send: Send) -> Answer:
        request.check_accept()
        caller = await self._identify(request)
        params = self._arguments.of_path(values, typed=False)
        plan, choose = False, None
        if request.scope["query_string"]:
            query = request.query()
            plan = take_plan(query)
            own = {name: query.pop(name) for name in self._arguments.names if name in query}
            choose = self._selection.read(query) if self._selection else None
            params |= self._arguments.of_query(own | query)
        wait = request.preferences().wait
        outcome = await self._bridge.call(
            self._verb,
            params,
            caller,
            plan=plan,
            deadline=request.deadline() or wait,
            flow_id=request.flow_id,
            text_numbers=True,
        )
        applied: Headers = [(b"preference-applied", f"wait={wait:g}".encode())] if wait else []
        if outcome.result is None:
            return Answer(204, [NO_STORE, *applied])
        body, etag = self._encode(outcome.result) if choose is None else _encode(choose(outcome.result))
        headers = [REVALIDATE, (b"etag", etag), *applied]
        known = request.headers.get(b"if-none-match")
        if known is not None and matches_etag(known, etag):
            return Answer(304, headers)
        return Answer(200, [JSON, *headers], body)

    def _encode(self, result: object) -> tuple[bytes, bytes]:
        """What is held in the core comes as the very same object each time, and need not be encoded again."""
        if result is self._encoded[0]:
            return self._encoded[1:]
        body, etag = _encode(result)
        if isinstance(result, msgspec.Struct) and len(body) <= _SMALL:  # a list could be changed and still be the same
            self._encoded = (result, body, etag)
        return body, etag


def _encode(result: object) -> tuple[bytes, bytes]:
    """The body and its ETag."""
    body = to_json(result)
    return body, b'"%s"' % blake2b(body, digest_size=12).hexdigest().encode()


class Change:
    """A verb that changes something: arguments in path and body; waited for, left to itself, or only planned."""

    def __init__(
        self, verb: AnyVerb, bridge: Bridge, identify: Identify, bodies: Bodies, task_url: Callable[[str], str]
    ) -> None:
        self._verb = verb
        self._bridge = bridge
        self._identify = identify
        self._bodies = bodies
        self._task_url = task_url
        self._arguments = Arguments(verb)
        self._is_task = verb.kind is Kind.TASK

    async def __call__(self, request: Request, values: Values, receive: Receive, send: Send) -> Answer:
        request.check_accept()
        request.check_origin()
        caller = await self._identify(request)
        query = request.query()
        plan = take_plan(query)
        for name in query:
            raise InvalidParams(reason=f"`{name}` belongs into the body, as a member of its object", path=f"$.{name}")
        body = await request.body(receive, self._bodies)
        self._arguments.check_path(body)
        key = request.idempotency_key()
        wait, deadline, applied = self._patience(request)
        outcome = await self._bridge.call(
            self._verb,
            self._arguments.of_path(values, typed=True) | body,
            caller,
            plan=plan,
            wait=wait,
            deadline=deadline,
            flow_id=request.flow_id,
            idempotency_key=key,
        )
        return self._answer(outcome, applied)

    def _patience(self, request: Request) -> tuple[float | None, float | None, Headers]:
        """How long to wait for the task, how long the call may take, and what of `Prefer` that honours."""
        asked, deadline = request.preferences(), request.deadline()
        applied = []
        if asked.respond_async and self._is_task:
            applied.append("respond-async")
        if asked.wait is not None:
            applied.append(f"wait={asked.wait:g}")
        headers: Headers = [(b"preference-applied", ", ".join(applied).encode())] if applied else []
        if not self._is_task:
            return None, deadline or asked.wait, headers
        return asked.wait if asked.wait is not None else 0.0 if asked.respond_async else None, deadline, headers

    def _answer(self, outcome: Outcome[object], applied: Headers) -> Answer:
        headers = [NO_STORE, *applied]
        if outcome.replayed:
            headers.append((b"idempotency-replayed", b"true"))
        if outcome.plan is not None:
            return Answer(200, [JSON, *headers], to_json(outcome.plan))
        if outcome.task is not None:
            headers.append((b"location", self._task_url(outcome.task.id).encode()))
            if outcome.detached:
                return Answer(202, [JSON, *headers], to_json(outcome.task))
        if outcome.result is None:
            return Answer(204, headers)
        return Answer(200, [JSON, *headers], to_json(outcome.result))


class StreamOnly:
    """A two-way stream asked for by a plain request."""

    def __init__(self, verb: AnyVerb) -> None:
        self._method = verb.method

    async def __call__(self, request: Request, values: Values, receive: Receive, send: Send) -> Answer:
        raise UpgradeRequired(method=self._method)


def task_url(verbs: Mapping[str, AnyVerb], root: str) -> Callable[[str], str]:
    """Where a task is read: the verb that gives one TaskRecord for one id."""
    for verb in verbs.values():
        if verb.result is TaskRecord and verb.kind is Kind.QUERY and len(verb.route.path_params) == 1:
            before, after = re.split(r"{\w+}", root + verb.route.path)
            return lambda task_id: f"{before}{task_id}{after}"
    raise ContractError("no verb reads one task")
