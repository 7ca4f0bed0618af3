# SPDX-License-Identifier: Apache-2.0
"""The contract as plain data for the shell. This is the slow part, done once: importing the contract costs 80 ms."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Iterator, Mapping

import msgspec

from vdsm.contract import VERBS, AnyVerb, Kind
from vdsm.contract.codec import to_plain
from vdsm.contract.events import EVENTS
from vdsm.contract.types import Secret

Shape = dict[str, typing.Any]  # {"k": kind, ...}: see `_Describer.shape`

LARGE = 4096  # a text that may be longer than this can be read from a file

# What a number counts: by the words its description begins with, else, where only a comment tells, by its wire name.
UNITS = {
    "Seconds since 1970": "time",
    "Seconds": "s",
    "MiB": "MiB",
    "Mebibytes": "MiB",
    "Bytes": "B",
    "Percent": "%",
}
UNITS_BY_NAME = {
    "elapsedTime": "s",
    "duration": "s",
    "bootTime": "time",
    "memUsage": "%",
    "progress": "%",
    "cpuSpeed": "MHz",
    "speed": "Mbit/s",
}


def describe(verbs: Mapping[str, AnyVerb] = VERBS) -> dict[str, typing.Any]:
    """The index: verbs, the types they use, how objects are named, events."""
    describer = _Describer()
    nouns = dict(_namings(verbs))
    return {
        "verbs": {method: describer.verb(verb, nouns) for method, verb in verbs.items()},
        "types": describer.types,
        "nouns": nouns,
        "events": list(EVENTS),
    }


class _Describer:
    def __init__(self) -> None:
        self.types: dict[str, list[Shape]] = {}

    def verb(self, verb: AnyVerb, nouns: Mapping[str, Mapping[str, str]]) -> Shape:
        params = []
        for param in self._fields(verb.params):
            in_path = param["name"] in verb.route.path_params
            param |= {"at": "path"} if in_path else {}
            param |= {"position": True} if param["py"] in verb.positional else {}
            if noun := _refers(param, in_path, verb, nouns):
                param["ref"] = noun
                param |= {"exact": True} if param["py"] == "name" else {}  # short for a name is too little to revoke it
            params.append(param)
        params.sort(key=lambda p: verb.route.path_params.index(p["name"]) if "at" in p else 99)
        return {
            "command": list(verb.command),
            "noun": verb.noun,
            "kind": verb.kind.value,
            "http": [verb.route.method, verb.route.path],
            "summary": verb.summary,
            "doc": verb.doc,
            "needs": verb.needs.value,
            "empty": verb.empty,
            "params": params,
            "result": None if verb.kind is Kind.STREAM else self.shape(verb.result),
        }

    def _fields(self, struct: type[msgspec.Struct]) -> list[Shape]:
        hints = typing.get_type_hints(struct, include_extras=True)
        return [self._field(field, hints[field.name]) for field in msgspec.structs.fields(struct)]

    def _field(self, field: msgspec.structs.FieldInfo, hint: object) -> Shape:
        found: Shape = {"name": field.encode_name, "py": field.name, "type": self.shape(hint, field.encode_name)}
        if field.required:
            found["required"] = True
        elif field.default is not msgspec.NODEFAULT and field.default is not None:
            found["default"] = to_plain(field.default)
        if text := "; ".join(_words_of(hint)):
            found["help"] = text
        return found

    def shape(self, hint: object, name: str = "") -> Shape:
        """`k` is one of int float bool str secret enum list map struct union; with what it is made of."""
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin is typing.Annotated:
            found = self.shape(args[0], name)
            for mark in hint.__metadata__ if hasattr(hint, "__metadata__") else ():
                if isinstance(mark, msgspec.Meta):
                    found |= _marks(mark)
            return found
        if origin in (typing.Union, types.UnionType):
            return self._union(args, name)
        if origin is list:
            return {"k": "list", "of": self.shape(args[0], name)}
        if origin is dict:
            return {"k": "map", "of": self.shape(args[1], name)}
        if not isinstance(hint, type):
            raise TypeError(f"the shell has no word for {hint!r}")
        return self._plain(hint, name)

    def _plain(self, hint: type, name: str) -> Shape:
        if hint is type(None):
            return {"k": "none"}
        if hint is Secret:
            return {"k": "secret"}
        if issubclass(hint, enum.IntEnum):
            return {"k": "names", "of": {str(int(m)): m.name.lower().replace("_", " ") for m in hint}}
        if issubclass(hint, enum.Enum):
            return {"k": "enum", "of": [m.value for m in hint]}
        if issubclass(hint, msgspec.Struct):
            if hint.__name__ not in self.types:
                self.types[hint.__name__] = []  # before its fields: a type may hold itself
                self.types[hint.__name__] = self._fields(hint)
            return {"k": "struct", "name": hint.__name__}
        found: Shape = {"k": hint.__name__}
        if hint in (int, float) and name in UNITS_BY_NAME:
            found["unit"] = UNITS_BY_NAME[name]
        return found

    def _union(self, args: tuple[object, ...], name: str) -> Shape:
        members = [self.shape(arg, name) for arg in args if arg is not type(None)]
        null = {"null": True} if len(members) < len(args) else {}
        if len(members) == 1:
            return members[0] | null
        return {"k": "union", "of": [m["name"] for m in members]} | null


def _marks(mark: msgspec.Meta) -> Shape:
    found: Shape = {}
    for words, unit in UNITS.items():
        if (mark.description or "").startswith(words):
            found["unit"] = unit
            break
    if mark.max_length is not None and mark.max_length > LARGE:
        found["file"] = True
    return found


def _words_of(hint: object) -> Iterator[str]:
    """What the marks of a type say to a reader."""
    if typing.get_origin(hint) is not typing.Annotated:
        for arg in typing.get_args(hint):
            if not isinstance(arg, str):
                yield from _words_of(arg)
        return
    for mark in getattr(hint, "__metadata__", ()):
        if isinstance(mark, msgspec.Meta):
            if mark.description:
                yield mark.description.rstrip(".")
            if mark.ge is not None and mark.le is not None:
                yield f"{mark.ge} to {mark.le}"


def _namings(verbs: Mapping[str, AnyVerb]) -> Iterator[tuple[str, dict[str, str]]]:
    """How the objects of each noun are listed and called, where a verb lists them."""
    for verb in verbs.values():
        args = typing.get_args(verb.result)
        if verb.name != "list" or verb.kind is not Kind.QUERY or typing.get_origin(verb.result) is not list:
            continue
        if not issubclass(args[0], msgspec.Struct) or any(f.required for f in msgspec.structs.fields(verb.params)):
            continue
        names = {f.name: f.encode_name for f in msgspec.structs.fields(args[0])}
        id_field = next((n for n in (f"{verb.noun}_id", "id", "name") if n in names), "")
        name_field = next((n for n in (f"{verb.noun}_name", "name") if n in names and n != id_field), "")
        if id_field:
            yield verb.noun, {"list": verb.method, "id": names[id_field], "name": names.get(name_field, "")}


def _refers(param: Shape, in_path: bool, verb: AnyVerb, nouns: Mapping[str, Mapping[str, str]]) -> str:
    """The noun whose objects a parameter names, if it does."""
    for noun, naming in nouns.items():
        if in_path and param["py"] == f"{noun}_id":
            return noun
        if in_path and noun == verb.noun and param["name"] == naming["id"]:
            return noun
        if param["py"] == f"{noun}_list" and param["type"]["k"] == "list" and param["type"]["of"]["k"] == "str":
            return noun
    return ""
