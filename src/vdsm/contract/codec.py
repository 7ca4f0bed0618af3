# SPDX-License-Identifier: Apache-2.0
"""Contract types <-> JSON and plain data: the one place that knows how a `Secret` crosses a wire."""

from __future__ import annotations

import json
import typing

import msgspec

from . import explain
from .errors import InvalidParams, InvalidRequest
from .types import Secret

T = typing.TypeVar("T")


def _enter(kind: type, value: object) -> object:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise ValueError(f"Expected `{'str' if kind is Secret else kind.__name__}`, got `{type(value).__name__}`")


def _reveal(value: object) -> object:
    if isinstance(value, Secret):
        return value.reveal()
    raise TypeError(f"{type(value).__name__} is not a contract type")


def _mask(value: object) -> object:
    return str(value)


def schema_hook(kind: type) -> dict[str, object]:
    """JSON Schema of the contract's own scalar types, for `msgspec.json.schema`."""
    if kind is Secret:
        return {"type": "string", "format": "password", "writeOnly": True}
    raise NotImplementedError(kind)


_wire = msgspec.json.Encoder(enc_hook=_reveal)
_json = msgspec.json.Decoder()


def to_json(value: object) -> bytes:
    """What goes to the caller: secrets in the clear."""
    return _wire.encode(value)


def to_shown(value: object) -> typing.Any:
    """Plain data that may be kept or looked at by others: secrets as `***`."""
    return msgspec.to_builtins(value, enc_hook=_mask)


def to_plain(value: object) -> typing.Any:
    """Dicts, lists and scalars; secrets in the clear."""
    return msgspec.to_builtins(value, enc_hook=_reveal)


def parse_json(data: bytes | str) -> object:
    """Any JSON document as plain data. Raises InvalidRequest, also for a key that is there twice."""
    try:
        value = _json.decode(data)
        if isinstance(value, dict | list):
            # msgspec silently keeps the last of equal keys, so that two readers of one text may see different calls.
            json.loads(data, object_pairs_hook=_refuse_twins)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InvalidRequest(reason=str(error)) from None
    return value


def _refuse_twins(pairs: list[tuple[str, object]]) -> None:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("an object names a key twice")


def from_json(data: bytes | str, kind: type[T]) -> T:
    """A typed value from JSON. Raises msgspec.ValidationError or msgspec.DecodeError."""
    return msgspec.json.decode(data, type=kind, dec_hook=_enter)


def from_plain(value: object, kind: type[T], *, text_numbers: bool = False) -> T:
    """A typed value from plain data.

    `text_numbers` also takes "42" for 42: only for query strings, command lines and the published dialects.

    Raises InvalidParams with the JSON path of the first thing that is wrong.
    """
    try:
        return msgspec.convert(value, kind, strict=not text_numbers, dec_hook=_enter)
    except msgspec.ValidationError as error:
        raise InvalidParams.of_validation(explain.in_words(str(error))) from None
    except RecursionError:
        raise InvalidRequest(reason="nested too deeply") from None
