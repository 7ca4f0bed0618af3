# SPDX-License-Identifier: Apache-2.0
"""Bodies of messages in the encoding of AMQP 1.0, written in one pass: a host's answers are long lists of maps.

Proton's own encoder is asked once for each value and each key, across the border to C, and takes several times as long.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any
from uuid import UUID

from .amqp import UByte, UInt, ULong

_VALUE, _SEQUENCE, _DATA = b"\x00\x53\x77", b"\x00\x53\x76", b"\x00\x53\x75"
_COMPOUNDS = (dict, list)
_DEPTH = 64  # nobody takes more
_double = struct.Struct(">cd").pack
_long = struct.Struct(">cq").pack


def encode_body(body: dict[Any, Any] | list[Any] | bytes | None, *, list_as_sequence: bool = False) -> bytes:
    """The section that is a message's body. Raises ValueError for what AMQP cannot carry."""
    out = bytearray()
    if isinstance(body, bytes):
        out += _DATA
    elif list_as_sequence and isinstance(body, list):
        out += _SEQUENCE
    else:
        out += _VALUE
    _put(out, body, _DEPTH)
    return bytes(out)


def count_values(body: object) -> int:
    """Values and keys, its own included."""
    total = 1
    compounds: list[Any] = [body] if type(body) in _COMPOUNDS else []
    for one in compounds:  # which grows meanwhile
        total += 2 * len(one) if isinstance(one, dict) else len(one)
        compounds += [item for item in (one.values() if isinstance(one, dict) else one) if type(item) in _COMPOUNDS]
    return total


def _put(out: bytearray, value: Any, depth: int) -> None:
    kind = type(value)
    if kind is str:
        _put_text(out, value)
    elif kind is int:
        _put_int(out, value)
    elif kind is dict:
        inner = bytearray()
        for key, item in value.items():
            _put(inner, key, depth)
            _put(inner, item, _less(depth))
        _put_compound(out, b"\xc1", b"\xd1", inner, 2 * len(value))
    elif kind is list:
        inner = bytearray()
        for item in value:
            _put(inner, item, _less(depth))
        _put_compound(out, b"\xc0", b"\xd0", inner, len(value))
    else:
        writer = _WRITERS.get(kind)
        if writer is None:
            raise ValueError(f"a {kind.__name__} has no form in AMQP")
        writer(out, value)


def _less(depth: int) -> int:
    if not depth:
        raise ValueError(f"a value is nested more than {_DEPTH} deep")
    return depth - 1


def _put_text(out: bytearray, value: str) -> None:
    _put_bytes(out, value.encode(), b"\xa1", b"\xb1")


def _put_binary(out: bytearray, value: bytes) -> None:
    _put_bytes(out, value, b"\xa0", b"\xb0")


def _put_bytes(out: bytearray, raw: bytes, short: bytes, long: bytes) -> None:
    size = len(raw)
    out += short + size.to_bytes() if size < 256 else long + size.to_bytes(4)
    out += raw


def _put_int(out: bytearray, value: int) -> None:
    if -128 <= value < 128:
        out += b"\x55" + value.to_bytes(1, signed=True)
    elif -(2**63) <= value < 2**63:
        out += _long(b"\x81", value)
    else:
        raise ValueError("a whole number needs more than 64 bits")


def _unsigned(code: bytes, size: int) -> Callable[[bytearray, int], None]:
    def put(out: bytearray, value: int) -> None:
        try:
            out += code + int(value).to_bytes(size)
        except OverflowError:
            raise ValueError(f"{value} needs more than {8 * size} bits, or is below 0") from None

    return put


def _put_bool(out: bytearray, value: bool) -> None:
    out += b"\x41" if value else b"\x42"


def _put_null(out: bytearray, value: None) -> None:
    out += b"\x40"


def _put_float(out: bytearray, value: float) -> None:
    out += _double(b"\x82", value)


def _put_uuid(out: bytearray, value: UUID) -> None:
    out += b"\x98" + value.bytes


def _put_compound(out: bytearray, short: bytes, long: bytes, inner: bytearray, count: int) -> None:
    size = len(inner)
    if size < 255 and count < 256:
        out += short + (size + 1).to_bytes() + count.to_bytes()
    else:
        out += long + (size + 4).to_bytes(4) + count.to_bytes(4)
    out += inner


_WRITERS: dict[type, Callable[[bytearray, Any], None]] = {
    type(None): _put_null,
    bool: _put_bool,
    float: _put_float,
    bytes: _put_binary,
    UUID: _put_uuid,
    UByte: _unsigned(b"\x50", 1),
    UInt: _unsigned(b"\x70", 4),
    ULong: _unsigned(b"\x80", 8),
}
