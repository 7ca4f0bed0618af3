# SPDX-License-Identifier: Apache-2.0
"""JSON Schemas of the contract's types, as OpenAPI components."""

from __future__ import annotations

import typing
from collections.abc import Iterable
from typing import Any

import msgspec

from vdsm.contract import AnyVerb, Kind
from vdsm.contract.codec import schema_hook
from vdsm.contract.errors import ProblemBody
from vdsm.contract.events import EVENTS, EventRecord, Gap
from vdsm.contract.selection import Selection
from vdsm.contract.task import Plan, TaskRecord

Schema = dict[str, Any]

PROBLEM = "Problem"

_PARTS = "Parts"
_WHERE = "#/components/schemas/"


def ref(name: str) -> Schema:
    return {"$ref": _WHERE + name}


class Schemas:
    """The types of some verbs, each under a name of its own; `components` is all of them by name."""

    def __init__(self, verbs: Iterable[AnyVerb]) -> None:
        verbs = [*verbs]
        with_result = [v for v in verbs if v.kind is not Kind.STREAM]
        selections = [s for s in (Selection.of(v.result) for v in with_result) if s is not None]
        items: list[type] = [*dict.fromkeys(s.item for s in selections)]
        classes: list[type] = [*items, ProblemBody, TaskRecord, Plan, EventRecord, Gap, *EVENTS.values()]
        types: list[Any] = [*(v.params for v in verbs), *(v.result for v in with_result), *classes]
        schemas, self.components = msgspec.json.schema_components(
            types, schema_hook=_hook, ref_template=_WHERE + "{name}"
        )
        pending = iter(schemas)
        params = {v.method: next(pending) for v in verbs}
        self._results = {v.method: next(pending) for v in with_result}
        self._names = {kind: str(next(pending)["$ref"]).removeprefix(_WHERE) for kind in classes}
        self._params = {v.method: self._take_body(v, params[v.method]) for v in verbs}
        for item in items:
            self._add_parts(self._names[item])
        self._add_problem()

    def name(self, kind: type) -> str:
        return self._names[kind]

    def parameters(self, verb: AnyVerb) -> dict[str, Schema]:
        """Every parameter's schema by wire name, wherever in a request it stands."""
        return dict(self._params[verb.method]["properties"])

    def required(self, verb: AnyVerb) -> list[str]:
        """Wire names of the parameters that have no default."""
        return list(self._params[verb.method].get("required", []))

    def body(self, verb: AnyVerb) -> Schema | None:
        """What a request's body holds; None if path or query say it all."""
        name = verb.params.__name__
        return ref(name) if name in self.components else None

    def result(self, verb: AnyVerb) -> Schema:
        return self._results[verb.method]

    def selected(self, verb: AnyVerb) -> Schema:
        """The result, or with `fields` parts of it."""
        selection = Selection.of(verb.result)
        if selection is None:
            return self.result(verb)
        name = self.name(selection.item)
        either = {"anyOf": [ref(name), ref(name + _PARTS)]}
        if not selection.many:
            return either
        inner = "items" if typing.get_origin(verb.result) is list else "additionalProperties"
        return {**self.result(verb), inner: either}

    def _take_body(self, verb: AnyVerb, reference: Schema) -> Schema:
        """Turn the parameters' type into that of the body, or remove it; returns it as it was."""
        name = reference["$ref"].removeprefix(_WHERE)
        whole: Schema = self.components.pop(name)
        in_body = [p for p in whole["properties"] if p not in verb.route.path_params] if verb.mutates else []
        if in_body:
            self.components[name] = {
                **whole,
                "properties": {p: whole["properties"][p] for p in in_body},
                "required": [p for p in whole.get("required", []) if p in in_body],
            }
        return whole

    def _add_parts(self, name: str) -> None:
        whole = self.components[name]
        self.components[name + _PARTS] = {
            "title": name + _PARTS,
            "description": f"Chosen fields of {name}.",
            "type": "object",
            "properties": whole["properties"],
            "additionalProperties": False,
            "minProperties": 1,
        }

    def _add_problem(self) -> None:
        instance = {"type": "string", "description": "Names this one occurrence."}
        body = self.components[self._names[ProblemBody]]
        self.components[PROBLEM] = {
            **body,
            "title": PROBLEM,
            "description": "An error, after RFC 9457.",
            "properties": {**body["properties"], "instance": instance},
        }


def _hook(kind: type) -> Schema:
    # `writeOnly` would say that no answer holds a secret; the one that makes a token does.
    return {key: value for key, value in schema_hook(kind).items() if key != "writeOnly"}
