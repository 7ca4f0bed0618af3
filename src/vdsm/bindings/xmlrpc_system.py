# SPDX-License-Identifier: Apache-2.0
"""What XML-RPC callers can ask about the methods themselves: `system.listMethods` and its fellows."""

from __future__ import annotations

import typing
from collections.abc import Mapping

import msgspec

from vdsm.contract import AnyVerb, Kind
from vdsm.contract.errors import InvalidParams, MethodNotFound
from vdsm.protocols import historical

_SYSTEM = {
    "system.listMethods": "The names of all methods.",
    "system.methodHelp": "What a method does.",
    "system.methodSignature": "The types of a method's answer and arguments, for each number of arguments it takes.",
    "system.multicall": "Several calls at once: an array of {methodName, params}, answered in order.",
}
_KINDS: Mapping[type, str] = {
    bool: "boolean",
    int: "int",
    float: "double",
    str: "string",
    list: "array",
    dict: "struct",
}


class System:
    """Answers from the contract and the historical names alone."""

    def __init__(self, verbs: Mapping[str, AnyVerb]) -> None:
        self._verbs = {method: verb for method, verb in verbs.items() if verb.kind is not Kind.STREAM}
        self._named = {name: method for name, method in historical.names() if method in self._verbs}

    def answer(self, name: str, params: list[object]) -> object:
        """Raises MethodNotFound and InvalidParams."""
        match name, params:
            case "system.listMethods", []:
                return sorted([*self._named, *self._verbs, *_SYSTEM])
            case "system.methodHelp", [str(method)]:
                return _SYSTEM.get(method) or self._verb(method).doc
            case "system.methodSignature", [str(method)]:
                return "undef" if method in _SYSTEM else self._signatures(method)
            case _ if name in _SYSTEM:
                raise InvalidParams(reason=f"{name} takes other arguments")
            case _:
                raise MethodNotFound(method=name)

    def _verb(self, name: str) -> AnyVerb:
        verb = self._verbs.get(self._named.get(name, name))
        if verb is None:
            raise MethodNotFound(method=name)
        return verb

    def _signatures(self, name: str) -> list[list[str]]:
        verb = self._verb(name)
        kinds = {f.encode_name: _kind(f.type) for f in msgspec.structs.fields(verb.params)}
        words = historical.signature(name) if name in self._named else list(kinds)
        needed = sum(f.required for f in msgspec.structs.fields(verb.params))
        args = [kinds.get(word, "string") for word in words]
        return [["struct", *args[:count]] for count in range(min(needed, len(args)), len(args) + 1)]


def _kind(hint: object) -> str:
    """XML-RPC's word for a contract type."""
    origin = typing.get_origin(hint)
    if isinstance(origin, type) and origin in _KINDS:
        return _KINDS[origin]
    if origin is not None:
        return next(kind for arg in typing.get_args(hint) if arg is not type(None) and (kind := _kind(arg)))
    if isinstance(hint, type):
        return next((kind for known, kind in _KINDS.items() if issubclass(hint, known)), _other(hint))
    return "string"


def _other(hint: type) -> str:
    return "struct" if issubclass(hint, msgspec.Struct) else "string"
