# SPDX-License-Identifier: Apache-2.0
"""Maps and lists in the encoding of AMQP 0-10, which older peers put into the data of a message."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from uuid import UUID

from vdsm.protocols.amqp import UByte, UInt, ULong

MAX_DEPTH = 32
MAX_ITEMS = 65_536  # unless a reader takes more; an array of nothings says in ten bytes that it has four billion

_FIXED = {
    0x01: struct.Struct(">b"), 0x02: struct.Struct(">B"), 0x08: struct.Struct(">?"),
    0x11: struct.Struct(">h"), 0x12: struct.Struct(">H"),
    0x21: struct.Struct(">i"), 0x22: struct.Struct(">I"), 0x23: struct.Struct(">f"),
    0x31: struct.Struct(">q"), 0x32: struct.Struct(">Q"), 0x33: struct.Struct(">d"), 0x38: struct.Struct(">q"),
}  # fmt: skip
_TEXTS = {
    0x04: "latin-1", 0x84: "latin-1", 0x94: "latin-1", 0x27: "utf-32-be",
    0x85: "utf-8", 0x95: "utf-8", 0x86: "utf-16-be", 0x96: "utf-16-be",
}  # fmt: skip
_WIDTHS = {0x0: 1, 0x1: 2, 0x2: 4, 0x3: 8, 0x4: 16, 0x5: 32, 0x6: 64, 0x7: 128, 0xC: 5, 0xD: 9, 0xF: 0}
"""The first half of a type's code says how many bytes a value has, or for 8, 9 and A, how many its length has."""
_LENGTHS = {0x8: 1, 0x9: 2, 0xA: 4}
_UUID, _MAP, _LIST, _ARRAY, _VOID, _BIT = 0x48, 0xA8, 0xA9, 0xAA, 0xF0, 0xF1


class DecodeError(ValueError):
    """The bytes are no map or list of AMQP 0-10."""


class EncodeError(ValueError):
    """The value has no form in AMQP 0-10."""


def decode_map(data: bytes, max_items: int = MAX_ITEMS) -> dict[str, object]:
    """No bytes at all are an empty one. Raises DecodeError."""
    if not data:
        return {}
    reader = Reader(data, max_items)
    found = reader.read_map()
    reader.expect_end()
    return found


def decode_list(data: bytes, max_items: int = MAX_ITEMS) -> list[object]:
    """No bytes at all are an empty one. Raises DecodeError."""
    if not data:
        return []
    reader = Reader(data, max_items)
    found = reader.read_list()
    reader.expect_end()
    return found


class Reader:
    """Takes values off the front of some bytes. Every method raises DecodeError."""

    def __init__(self, data: bytes, max_items: int = MAX_ITEMS) -> None:
        self._data = data
        self._max_items = max_items
        self._at = 0
        self._items = 0

    def expect_end(self) -> None:
        if self._at != len(self._data):
            raise DecodeError(f"{len(self._data) - self._at} bytes follow the end")

    def read_bytes(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise DecodeError(f"it ends {end - len(self._data)} bytes too early")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def read_uint(self, width: int) -> int:
        return int.from_bytes(self.read_bytes(width), "big")

    def read_str8(self) -> str:
        return _text(self.read_bytes(self.read_uint(1)), "utf-8")

    def read_map(self, depth: int = 0) -> dict[str, object]:
        end = self._begin(depth)
        if self._at == end:
            return {}  # some leave out the count of nothing
        found: dict[str, object] = {}
        for _ in range(self._read_count()):
            key = self.read_str8()
            found[key] = self._read_value(self.read_uint(1), depth + 1)
        self._finish(end)
        return found

    def read_list(self, depth: int = 0) -> list[object]:
        end = self._begin(depth)
        if self._at == end:
            return []
        found = [self._read_value(self.read_uint(1), depth + 1) for _ in range(self._read_count())]
        self._finish(end)
        return found

    def _read_array(self, depth: int) -> list[object]:
        end = self._begin(depth)
        if self._at == end:
            return []
        code = self.read_uint(1)
        found = [self._read_value(code, depth + 1) for _ in range(self._read_count())]
        self._finish(end)
        return found

    def _begin(self, depth: int) -> int:
        if depth > MAX_DEPTH:
            raise DecodeError(f"it is nested more than {MAX_DEPTH} deep")
        size = self.read_uint(4)
        return self._at + size

    def _finish(self, end: int) -> None:
        if self._at != end:
            raise DecodeError("a size in it does not agree with what it holds")

    def _read_count(self) -> int:
        count = self.read_uint(4)
        self._items += count
        if self._items > self._max_items:
            raise DecodeError(f"it has more than {self._max_items} values")
        return count

    def _read_value(self, code: int, depth: int) -> object:
        if fixed := _FIXED.get(code):
            value: object = fixed.unpack(self.read_bytes(fixed.size))[0]
            return value
        if code == _MAP:
            return self.read_map(depth)
        if code == _LIST:
            return self.read_list(depth)
        if code == _ARRAY:
            return self._read_array(depth)
        if code in (_VOID, _BIT):
            return True if code == _BIT else None
        raw = self._read_raw(code)
        if code == _UUID:
            return UUID(bytes=raw)
        return _text(raw, _TEXTS[code]) if code in _TEXTS else raw

    def _read_raw(self, code: int) -> bytes:
        half = code >> 4
        if half in _LENGTHS:
            return self.read_bytes(self.read_uint(_LENGTHS[half]))
        if half not in _WIDTHS:
            raise DecodeError(f"there is no type {code:#04x}")
        return self.read_bytes(_WIDTHS[half])


def _text(raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        raise DecodeError(f"a text in it is not {encoding}") from None


def encode_map(values: Mapping[str, object], depth: int = 0) -> bytes:
    """Raises EncodeError."""
    return _wrap(len(values), b"".join(encode_str8(key) + _encode(value, depth) for key, value in values.items()))


def encode_list(values: Sequence[object], depth: int = 0) -> bytes:
    """Raises EncodeError."""
    return _wrap(len(values), b"".join(_encode(value, depth) for value in values))


def encode_str8(text: str) -> bytes:
    """Raises EncodeError."""
    raw = text.encode()
    if len(raw) > 255:
        raise EncodeError(f"{text[:32]!r}... is longer than the 255 bytes of a key")
    return bytes((len(raw),)) + raw


def _wrap(count: int, content: bytes) -> bytes:
    return struct.pack(">II", len(content) + 4, count) + content


def _encode(value: object, depth: int) -> bytes:
    """The code of the type, and the value."""
    if depth >= MAX_DEPTH:
        raise EncodeError(f"it is nested more than {MAX_DEPTH} deep")
    match value:
        case None:
            return b"\xf0"
        case bool():
            return b"\x08\x01" if value else b"\x08\x00"
        case int():
            return _encode_int(value)
        case float():
            return struct.pack(">Bd", 0x33, value)
        case str():
            raw = value.encode()
            return struct.pack(">BH", 0x95, len(raw)) + raw if len(raw) < 65_536 else _encode_binary(raw)
        case bytes():
            return _encode_binary(value)
        case UUID():
            return b"\x48" + value.bytes
        case dict():
            return b"\xa8" + encode_map(value, depth + 1)
        case list() | tuple():
            return b"\xa9" + encode_list(value, depth + 1)
    raise EncodeError(f"a {type(value).__name__} has no form in AMQP 0-10")


def _encode_binary(raw: bytes) -> bytes:
    return struct.pack(">BI", 0xA0, len(raw)) + raw


def _encode_int(value: int) -> bytes:
    code = {UByte: 0x02, UInt: 0x22, ULong: 0x32}.get(type(value), 0x31 if value < 2**63 else 0x32)
    try:
        return bytes((code,)) + _FIXED[code].pack(value)
    except struct.error:
        raise EncodeError(f"{value} does not fit its type") from None
