# SPDX-License-Identifier: Apache-2.0
"""JSON-RPC 2.0: documents <-> calls, answers and errors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import msgspec

PARSE_ERROR = -32700
INVALID_REQUEST = -32600

MAX_DEPTH = 64  # of nested objects and arrays
MAX_BATCH = 128  # calls in one document

Id = str | int | float | bool | None
_SCALARS = (str, int, float, bool, type(None))
_NESTED = (dict, list)


class Call(msgspec.Struct, frozen=True):
    """One request; a notification wants no answer."""

    method: str
    params: dict[str, object] | list[object]
    id: Id
    notification: bool


class Refusal(msgspec.Struct, frozen=True):
    """What stands in a call's place when it cannot be read."""

    code: int
    reason: str
    id: Id


class Document(msgspec.Struct, frozen=True):
    calls: Sequence[Call | Refusal]
    batch: bool  # whether the answers go out as an array


def read(body: bytes | bytearray) -> Document:
    """The calls of a document. What is wrong with it becomes a `Refusal`, so that it can be answered.

    A batch of one counts as its one call: the published client wraps every call so and wants a bare answer.
    """
    try:
        value = decode(body)
    except ValueError as error:
        return Document([Refusal(PARSE_ERROR, str(error), None)], batch=False)
    if not isinstance(value, list):
        return Document([_read_call(value)], batch=False)
    if not value:
        return Document([Refusal(INVALID_REQUEST, "the batch is empty", None)], batch=False)
    if len(value) > MAX_BATCH:
        return Document([Refusal(INVALID_REQUEST, f"a batch has at most {MAX_BATCH} calls", None)], batch=False)
    return Document([_read_call(entry) for entry in value], batch=len(value) > 1)


def _read_call(value: object) -> Call | Refusal:
    if not isinstance(value, dict):
        return Refusal(INVALID_REQUEST, "a call is no object", None)
    key = value.get("id")
    if not isinstance(key, _SCALARS):
        return Refusal(INVALID_REQUEST, "the id is neither text nor a number", None)
    if value.get("jsonrpc") != "2.0":
        return Refusal(INVALID_REQUEST, 'the call lacks "jsonrpc": "2.0"', key)
    method, params = value.get("method"), value.get("params", {})
    if not isinstance(method, str):
        return Refusal(INVALID_REQUEST, "the method is no text", key)
    if not isinstance(params, _NESTED):
        return Refusal(INVALID_REQUEST, "params is neither an object nor an array", key)
    return Call(method, params, key, "id" not in value)


def result(key: Id, value: object) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "id": key, "result": value})


def error(key: Id, code: int, message: str, data: Mapping[str, object] | None = None) -> bytes:
    """`data` holds what there is to say beyond the code and the text."""
    told = {"code": code, "message": message}
    return msgspec.json.encode({"jsonrpc": "2.0", "id": key, "error": {**told, "data": data} if data else told})


def notification(method: str, params: Mapping[str, object]) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params})


def batch(answers: Sequence[bytes]) -> bytes:
    """Several answers as one document."""
    return b"[" + b",".join(answers) + b"]"


# ---- JSON ------------------------------------------------------------------------------------------------------------

_decoder = msgspec.json.Decoder()


def _refuse_twins(pairs: list[tuple[str, object]]) -> None:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("an object names a key twice")


_twins = json.JSONDecoder(object_pairs_hook=_refuse_twins)


def decode(body: bytes | bytearray) -> object:
    """Any JSON text as plain data. Raises ValueError, also for equal keys in one object and for too deep a nesting."""
    try:
        value = _decoder.decode(body)
        if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        if isinstance(value, _NESTED):
            # msgspec keeps the last of equal keys without a word, so that two readers might see different calls.
            _twins.decode(body.decode())
    except RecursionError:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep") from None
    except msgspec.DecodeError as wrong:
        raise ValueError(str(wrong)) from None
    return value


def _depth(value: object) -> int:
    """How deep the nesting goes, level by level."""
    depth, level = 0, [value]
    while level := [entry for entry in level if isinstance(entry, _NESTED)]:
        depth += 1
        level = [child for entry in level for child in (entry.values() if isinstance(entry, dict) else entry)]
    return depth
