# SPDX-License-Identifier: Apache-2.0
"""docs/api.md: the reference of the API, verb by verb."""

from __future__ import annotations

import enum
import types
import typing

import msgspec

from vdsm.contract import VERBS, AnyVerb, Kind
from vdsm.contract.errors import PROBLEMS
from vdsm.contract.events import EVENTS


def files() -> dict[str, str]:
    nouns: dict[str, list[AnyVerb]] = {}
    for verb in VERBS.values():
        nouns.setdefault(verb.method.partition(".")[0], []).append(verb)
    lines = [
        "# API reference",
        "",
        "Generated from the contract by `scripts/generate`. A running daemon serves the same at `/api/docs`, and as",
        "OpenAPI 3.1 at `/api/v1/openapi.json`. Paths below are under `/api/v1`.",
        "",
    ]
    for noun, verbs in nouns.items():
        lines += [f"## {noun}", ""]
        for verb in verbs:
            lines += _verb(verb)
    return {"docs/api.md": "\n".join([*lines, *_events(), *_problems()])}


def _verb(verb: AnyVerb) -> list[str]:
    lines = [
        f"### {verb.method}",
        "",
        verb.doc,
        "",
        f"- REST: `{verb.route.method} {verb.route.path}`; shell: `vdsmsh {' '.join(verb.command)}`; "
        f"python: `host.{verb.noun}.{verb.name}()`",
        f"- {verb.kind.value}, needs `{verb.needs.value}`, since {verb.since}",
        f"- answers: {name(verb.result)}",
    ]
    if verb.kind is Kind.STREAM:
        lines.append("- carried by REST alone: JSON-RPC, XML-RPC and QMF answer `stream-not-carried`")
    if verb.raises:
        lines.append("- problems: " + ", ".join(f"`{p.slug}`" for p in verb.raises))
    if verb.emits:
        lines.append("- events: " + ", ".join(f"`{e.__struct_config__.tag}`" for e in verb.emits))
    lines += ["", *_fields(verb.params)]
    return lines


def _fields(struct: type[msgspec.Struct]) -> list[str]:
    hints = typing.get_type_hints(struct, include_extras=True)
    fields = msgspec.structs.fields(struct)
    if not fields:
        return []
    rows = [f"| `{f.encode_name}` | {name(hints[f.name])} | {_default(f)} | {_about(hints[f.name])} |" for f in fields]
    return ["| parameter | type | default | |", "|---|---|---|---|", *rows, ""]


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    return "" if value is None else f"`{msgspec.json.encode(value).decode()}`"


def _about(hint: object) -> str:
    for part in (hint, *typing.get_args(hint)):
        for mark in getattr(part, "__metadata__", ()):
            if isinstance(mark, msgspec.Meta) and mark.description:
                return mark.description
    return ""


def name(hint: object) -> str:
    """A type as people write it."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is None or hint is type(None):
        return "nothing"
    if origin is typing.Annotated:
        return name(args[0])
    if origin in (types.UnionType, typing.Union):
        return " or ".join(name(a) for a in args if a is not type(None))
    if origin is list:
        return f"list of {name(args[0])}"
    if origin is dict:
        return f"map of {name(args[1])}"
    if isinstance(hint, type) and issubclass(hint, enum.StrEnum):
        return " / ".join(f"`{member.value}`" for member in hint)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return f"{hint.__name__} {{{', '.join(hint.__struct_encode_fields__)}}}"
    words = {"str": "text", "int": "integer", "float": "number", "bool": "boolean", "Secret": "text (secret)"}
    plain = getattr(hint, "__name__", str(hint))
    return words.get(plain, plain)


def _events() -> list[str]:
    rows = [
        f"| `{tag}` | {event.severity.value} | {(event.__doc__ or '').partition(chr(10))[0]} |"
        for tag, event in EVENTS.items()
    ]
    return ["## Events", "", "| type | severity | |", "|---|---|---|", *rows, ""]


def _problems() -> list[str]:
    rows = [
        f"| `{slug}` | {p.code} | {p.status} | {'yes' if p.retryable else ''} | {p.text} | {p.hint} |"
        for slug, p in sorted(PROBLEMS.items())
    ]
    head = "| slug | code | HTTP | retry | what it says | what to do |"
    return ["## Problems", "", head, "|---|---|---|---|---|---|", *rows, ""]
