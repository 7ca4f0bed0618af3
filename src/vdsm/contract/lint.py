# SPDX-License-Identifier: Apache-2.0
"""The rules a declaration keeps. The daemon runs `check` at start and refuses to go on if one is broken."""

from __future__ import annotations

import re
import typing
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from ._verb import AnyVerb, ByteStream, ContractError, Kind
from .access import Privilege
from .errors import JobExists, Problem
from .events import Event


def check(verbs: Iterable[AnyVerb]) -> None:
    """Raises ContractError naming every broken rule at once."""
    verbs = list(verbs)
    broken = [f"{v.method}: {fault}" for v in verbs for fault in _faults(v)]
    for what, shapes in (
        ("HTTP route", [f"{v.route.method} {re.sub('{.*?}', '{}', v.route.path)}" for v in verbs]),
        ("method", [v.method for v in verbs]),
        ("command", [" ".join(v.command) for v in verbs]),
        ("parameter type", [v.params.__name__ for v in verbs]),
    ):
        broken += [f"{what} {shape} is declared twice" for shape, count in Counter(shapes).items() if count > 1]
    if broken:
        raise ContractError("the contract is broken: " + "; ".join(broken))


def _faults(verb: AnyVerb) -> Iterator[str]:
    if not verb.doc:
        yield "no docstring"
    if not isinstance(verb.needs, Privilege):
        yield "no privilege"
    if unknown := set(verb.route.path_params) - set(wire_names(verb.params)):
        yield f"the route names unknown parameters {sorted(unknown)}"
    if verb.route.method not in ("GET", "POST", "PUT", "DELETE"):
        yield f"the route's method is {verb.route.method}"
    if (verb.route.method == "GET") == verb.mutates:
        yield "GET is for what changes nothing, and only for that"
    if (verb.kind is Kind.STREAM) != (verb.result is ByteStream):
        yield "a stream answers with ByteStream, and nothing else does"
    if verb.task_id_param and (verb.kind not in (Kind.TASK, Kind.STREAM) or JobExists not in verb.raises):
        yield "the id of a task can be chosen only where there is one, and where JobExists is raised"
    if not all(issubclass(p, Problem) for p in verb.raises):
        yield "raises names something that is no problem"
    if not all(issubclass(p, Event) for p in verb.emits):
        yield "emits names something that is no event"
    roots = [verb.params] if verb.kind is Kind.STREAM else [verb.params, verb.result]
    if any(holds_any(root) for root in roots):
        yield "Any in its types"


def wire_names(struct: type[msgspec.Struct]) -> tuple[str, ...]:
    return struct.__struct_encode_fields__


def holds_any(hint: object, seen: set[object] | None = None) -> bool:
    """Whether a type, or any type it is made of, is `Any` or `object`."""
    seen = set() if seen is None else seen
    if hint is typing.Any or hint is object:
        return True
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        if hint in seen:
            return False
        seen.add(hint)
        return any(holds_any(h, seen) for h in typing.get_type_hints(hint).values() if _is_field(h))
    if hint in (list, dict, tuple, set):
        return True
    return any(holds_any(arg, seen) for arg in typing.get_args(hint) if not isinstance(arg, str))


def _is_field(hint: object) -> bool:
    return typing.get_origin(hint) is not typing.ClassVar
