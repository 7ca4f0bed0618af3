# SPDX-License-Identifier: Apache-2.0
"""The REST door described in OpenAPI 3.1, from the contract alone."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vdsm import __version__
from vdsm.contract import AnyVerb, Kind
from vdsm.contract import errors as e
from vdsm.contract.errors import Problem
from vdsm.contract.events import EVENTS, Severity
from vdsm.contract.selection import FIELDS, Selection
from vdsm.contract.task import Plan, TaskRecord
from vdsm.protocols import problem as rfc9457
from vdsm.protocols import sse

from .endpoints import PLAN
from .schemas import PROBLEM, Schema, Schemas, ref

ROOT = "/api/v1"

# What may come of any call, beside what its verb declares.
_ALWAYS = (
    e.InvalidRequest, e.InvalidParams, e.Unauthenticated, e.AccessDenied, e.MethodNotFound, e.NotAcceptable,
    e.RequestTimeout, e.HeadersTooLarge, e.InternalError, e.TooBusy, e.RecoveryInProgress, e.HostUnreachable,
    e.DeadlineExceeded,
)  # fmt: skip
_OF_READS = (e.PlanNotOffered,)
_OF_CHANGES = (
    e.RequestTooLarge, e.UnsupportedMediaType, e.ForeignOrigin, e.IdempotencyConflict, e.ObjectBusy, e.StateUnavailable,
)  # fmt: skip
_OF_TASKS = (e.TaskAborted, e.TaskInterrupted)
_OF_STREAMS = (e.UpgradeRequired, e.ForeignOrigin)

_INTRODUCTION = """\
Everything this host can do. One set of verbs, types, problems and events, the same on every protocol.

Over the local socket the caller is the user at its other end; over TCP it is the client certificate or the bearer
token. Answers and bodies are JSON; errors are RFC 9457 problems with a stable `code`, a `hint`, and the `path` of what
is wrong.
"""

_HEADERS: Mapping[str, Schema] = {
    "Flow-Id": {
        "description": "An id that follows the call through log, audit and events. `X-Request-Id` is taken too.",
        "schema": {"type": "string"},
    },
    "Request-Timeout": {
        "description": "Seconds the call and every outside call in it may take.",
        "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": 86400},
    },
    "Prefer": {
        "description": "`respond-async`: answer 202 with the task. `wait=N`: after at most N seconds (RFC 7240).",
        "schema": {"type": "string"},
    },
    "Idempotency-Key": {
        "description": "The same key within 24 hours gives the first answer again instead of a second change.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    },
    "If-None-Match": {"description": "The ETag of what you have.", "schema": {"type": "string"}},
    "Last-Event-ID": {
        "description": "Go on after this event; wins over `since`.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 2**53 - 1},
    },
}


def document(verbs: Mapping[str, AnyVerb]) -> dict[str, Any]:
    """The whole description, as plain data."""
    schemas, problems = Schemas(verbs.values()), _Problems()
    paths: dict[str, dict[str, Any]] = {}
    for verb in verbs.values():
        paths.setdefault(verb.route.path, {})[verb.route.method.lower()] = _operation(verb, schemas, problems)
    paths.setdefault("/events", {})["get"] = _event_stream(problems)
    paths["/health"] = {"servers": [{"url": "/"}], "get": _health()}
    paths["/metrics"] = {"servers": [{"url": "/"}], "get": _metrics(problems)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vdsm",
            "version": __version__,
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": ROOT}],
        "security": [{"clientCertificate": []}, {"bearerToken": []}, {}],
        "tags": [
            *({"name": noun, "description": text} for noun, text in _nouns(verbs.values())),
            {"name": "stream", "description": "What happens, as it happens."},
            {"name": "daemon", "description": "The daemon itself."},
        ],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": problems.responses,
            "parameters": {name: {"name": name, "in": "header", **rest} for name, rest in _HEADERS.items()},
            "securitySchemes": {
                "clientCertificate": {"type": "mutualTLS"},
                "bearerToken": {"type": "http", "scheme": "bearer"},
            },
        },
        "x-events": {name: {"severity": kind.severity, "schema": schemas.name(kind)} for name, kind in EVENTS.items()},
    }


def _nouns(verbs: Iterable[AnyVerb]) -> Iterator[tuple[str, str]]:
    for noun, module in {v.noun: v.params.__module__ for v in verbs}.items():
        yield noun, inspect.cleandoc(sys.modules[module].__doc__ or "")


def _operation(verb: AnyVerb, schemas: Schemas, problems: _Problems) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": verb.method,
        "tags": [verb.noun],
        "summary": verb.summary,
        "description": verb.doc,
        "parameters": [*_path_parameters(verb, schemas), *_query_parameters(verb, schemas), *_header_parameters(verb)],
        "responses": {**_results(verb, schemas), **problems.of(_problems_of(verb))},
        "x-kind": verb.kind,
        "x-privilege": verb.needs,
        "x-since": verb.since,
        "x-command": " ".join(["vdsmsh", *verb.command]),
    }
    if verb.emits:
        operation["x-emits"] = [event.__struct_config__.tag for event in verb.emits]
    if verb.mutates and (body := schemas.body(verb)) is not None:
        needed = set(schemas.required(verb)) - set(verb.route.path_params)
        operation["requestBody"] = {"required": bool(needed), "content": {"application/json": {"schema": body}}}
    return operation


# ---- what a call takes -----------------------------------------------------------------------------------------------


def _path_parameters(verb: AnyVerb, schemas: Schemas) -> list[Schema]:
    properties = schemas.parameters(verb)
    return [
        {"name": name, "in": "path", "required": True, "schema": properties[name]} for name in verb.route.path_params
    ]


def _query_parameters(verb: AnyVerb, schemas: Schemas) -> list[Schema]:
    if verb.mutates:
        description = "Only say the steps; nothing is done."
        return [{"name": PLAN, "in": "query", "description": description, "schema": {"type": "boolean"}}]
    own = {n: s for n, s in schemas.parameters(verb).items() if n not in verb.route.path_params}
    required = schemas.required(verb)
    found: list[Schema] = [
        {"name": name, "in": "query", "required": name in required, "schema": schema} for name, schema in own.items()
    ]
    selection = Selection.of(verb.result)
    if selection is not None:
        found += _selection_parameters(selection, schemas, own)
    return found


def _selection_parameters(selection: Selection, schemas: Schemas, own: Iterable[str]) -> Iterator[Schema]:
    yield {
        "name": FIELDS,
        "in": "query",
        "description": "Only these fields, separated by commas.",
        "style": "form",
        "explode": False,
        "schema": {"type": "array", "minItems": 1, "items": {"enum": list(selection.fields)}},
    }
    properties = schemas.components[schemas.name(selection.item)]["properties"]
    for name, field in selection.fields.items():
        if field.filters and name not in own:
            plain = {key: value for key, value in properties[name].items() if key != "default"}
            yield {
                "name": name,
                "in": "query",
                "description": f"Only those whose `{name}` is this, or one of these.",
                "schema": {"type": "array", "items": plain},
            }


def _header_parameters(verb: AnyVerb) -> list[Schema]:
    names = ["Flow-Id", "Request-Timeout", "Prefer"]
    if verb.mutates:
        names.append("Idempotency-Key")
    elif verb.kind is Kind.QUERY:
        names.append("If-None-Match")
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


# ---- what comes of it ------------------------------------------------------------------------------------------------


def _results(verb: AnyVerb, schemas: Schemas) -> dict[str, Schema]:
    if verb.kind is Kind.STREAM:
        return {"101": {"description": "A WebSocket of binary messages, both ways."}}
    nothing = verb.result is type(None) or verb.result is None
    found: dict[str, Schema] = {}
    if nothing:
        found["204"] = {"description": "Done." if verb.mutates else "It is well."}
    if verb.mutates:
        plan = ref(schemas.name(Plan))
        either = plan if nothing else {"anyOf": [schemas.result(verb), plan]}
        found["200"] = _json("The plan." if nothing else "The result; with `plan=true` the plan.", either)
        if verb.kind is Kind.TASK:
            found["202"] = _json("A task goes on by itself.", ref(schemas.name(TaskRecord)), "Location")
    elif not nothing:
        found["200"] = _json("The result.", schemas.selected(verb), "ETag")
        found["304"] = {"description": "What you have is as it is."}
    return found


def _json(description: str, schema: Schema, *headers: str) -> Schema:
    return {
        "description": description,
        **({"headers": {name: {"schema": {"type": "string"}} for name in headers}} if headers else {}),
        "content": {"application/json": {"schema": schema}},
    }


def _problems_of(verb: AnyVerb) -> Iterator[type[Problem]]:
    yield from _ALWAYS
    yield from _OF_CHANGES if verb.mutates else _OF_STREAMS if verb.kind is Kind.STREAM else _OF_READS
    if verb.kind is Kind.TASK:
        yield from _OF_TASKS
    yield from verb.raises


class _Problems:
    """Responses that say exactly which problems they may be; the same set is described once."""

    def __init__(self) -> None:
        self.responses: dict[str, Schema] = {}
        self._names: dict[tuple[str, ...], str] = {}

    def of(self, kinds: Iterable[type[Problem]]) -> dict[str, Schema]:
        """One per status."""
        by_status: dict[int, dict[str, type[Problem]]] = {}
        for kind in kinds:
            by_status.setdefault(kind.status, {})[kind.slug] = kind
        return {str(status): self._one(status, found) for status, found in sorted(by_status.items())}

    def _one(self, status: int, kinds: dict[str, type[Problem]]) -> Schema:
        key = tuple(sorted(kinds))
        if key not in self._names:
            self._names[key] = name = f"Problems{status}-{len(self._names) + 1}"
            self.responses[name] = _problem_response([kinds[slug] for slug in key])
        return {"$ref": f"#/components/responses/{self._names[key]}"}


def _problem_response(kinds: list[type[Problem]]) -> Schema:
    narrowed = {
        "properties": {
            "type": {"enum": [f"urn:vdsm:problem:{kind.slug}" for kind in kinds]},
            "code": {"enum": [kind.code for kind in kinds]},
        }
    }
    return {
        "description": "\n".join(f"- `{kind.slug}` ({kind.code}): {kind.text}" for kind in kinds),
        "content": {rfc9457.MEDIA_TYPE: {"schema": {"allOf": [ref(PROBLEM), narrowed]}}},
    }


# ---- what is no verb -------------------------------------------------------------------------------------------------


def _event_stream(problems: _Problems) -> Schema:
    def wanted(name: str, items: Schema, description: str) -> Schema:
        schema = {"type": "array", "items": items}
        return {"name": name, "in": "query", "description": description, "schema": schema}

    return {
        "operationId": "events",
        "tags": ["stream"],
        "summary": "Follow the journal of events.",
        "description": (
            "Server-Sent Events: the event's name is its type, its data an EventRecord, its id the place to go on "
            "from. An event `gap` stands for events that are no longer kept. The same path takes a WebSocket, whose "
            'texts are `{"event": EventRecord}` or `{"gap": Gap}`.'
        ),
        "parameters": [
            {
                "name": "since",
                "in": "query",
                "description": "Begin after this event; 0: with the oldest that is kept; without it, from now on.",
                "schema": {"type": "integer", "minimum": 0, "maximum": 2**53 - 1},
            },
            wanted("types", {"type": "string"}, "Only events of these types."),
            wanted("subjects", {"type": "string"}, "Only events about these objects, by id."),
            wanted("severities", {"enum": list(Severity)}, "Only events of these severities."),
            {"$ref": "#/components/parameters/Last-Event-ID"},
            {"$ref": "#/components/parameters/Flow-Id"},
        ],
        "responses": {
            "200": {"description": "For ever.", "content": {sse.MEDIA_TYPE: {"schema": {"type": "string"}}}},
            **problems.of(_ALWAYS),
        },
        "x-privilege": "event.read",
        "x-command": "vdsmsh events --follow",
    }


def _health() -> Schema:
    schema = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
    return {
        "operationId": "health",
        "tags": ["daemon"],
        "summary": "Whether the daemon can serve. Open to everybody who can connect.",
        "security": [{}],
        "responses": {"200": _json("It can.", schema), "503": _json("It is starting or stopping.", schema)},
    }


def _metrics(problems: _Problems) -> Schema:
    return {
        "operationId": "metrics",
        "tags": ["daemon"],
        "summary": "Counters and times, for Prometheus.",
        "responses": {
            "200": {
                "description": "OpenMetrics text.",
                "content": {"application/openmetrics-text": {"schema": {"type": "string"}}},
            },
            **problems.of((e.Unauthenticated, e.AccessDenied)),
        },
        "x-privilege": "host.read",
    }
