# SPDX-License-Identifier: Apache-2.0
"""Messages read from the encoding of AMQP 1.0, whoever wrote them: nothing in them is believed before it is checked.

Every value takes room in the message and in a count that is limited, every size is checked against what is there, and
depth ends; so a message costs as much as it is long, and no more.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any
from uuid import UUID

from .amqp import Message, UByte, UInt, ULong

MOST_VALUES = 65_535
_DEPTH = 128  # far more than anybody means; what a host makes of it is for it to say

_HEADER, _PROPERTIES, _APPLICATION, _DATA, _SEQUENCE, _VALUE = 0x70, 0x73, 0x74, 0x75, 0x76, 0x77
_SECTIONS = range(0x70, 0x79)
_NAMES = {
    f"amqp:{name}:{kind}": code
    for code, name, kind in (
        (0x70, "header", "list"), (0x71, "delivery-annotations", "map"), (0x72, "message-annotations", "map"),
        (0x73, "properties", "list"), (0x74, "application-properties", "map"), (0x75, "data", "binary"),
        (0x76, "amqp-sequence", "list"), (0x77, "amqp-value", "*"), (0x78, "footer", "map"),
    )
}  # fmt: skip


class DecodeError(ValueError):
    """Bytes that are no message, or one beyond all limits."""


def decode_message(data: bytes) -> Message:
    """Raises DecodeError."""
    try:
        return _message(data)
    except DecodeError:
        raise
    except (IndexError, struct.error, UnicodeDecodeError, TypeError, OverflowError, RecursionError) as error:
        # The end came too soon, or a key of a map is none.
        raise DecodeError(f"{type(error).__name__}: {error}") from None


def _message(data: bytes) -> Message:
    reader = _Reader(data)
    message = Message()
    body: Any = None
    while reader.at < len(data):
        section, value = reader.section()
        if section == _HEADER:
            _read_header(message, _fields(value, 5))
        elif section == _PROPERTIES:
            _read_properties(message, _fields(value, 7))
        elif section == _APPLICATION:
            message.properties = _typed(value, dict) or {}
        elif section == _DATA:
            body = (body or b"") + _typed(value, bytes)
        elif section == _SEQUENCE:
            body = (body or []) + _typed(value, list)
        elif section == _VALUE:
            body = value
    if not isinstance(body, dict | list | bytes | None):
        raise DecodeError(f"a body that is a {type(body).__name__}")
    message.body = body
    return message


def _read_header(message: Message, fields: list[Any]) -> None:
    ttl_ms, deliveries = fields[2], fields[4]
    message.ttl = _typed(ttl_ms, int) / 1000 if ttl_ms else None
    message.redelivered = bool(deliveries)


def _read_properties(message: Message, fields: list[Any]) -> None:
    user, to, subject, reply_to, correlation_id, content_type = fields[1:7]
    if isinstance(correlation_id, dict | list):
        raise DecodeError("a correlation id of many values")
    message.user_id = _typed(user, bytes).decode(errors="replace") or None if user else None
    message.address, message.subject, message.reply_to = (_text(one) for one in (to, subject, reply_to))
    message.correlation_id = correlation_id
    message.content_type = _text(content_type)


def _fields(value: Any, count: int) -> list[Any]:
    """What is left out at the end is null."""
    fields: list[Any] = _typed(value, list)
    return fields + [None] * (count - len(fields))


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise DecodeError(f"a {type(value).__name__} where a {kind.__name__} belongs")
    return value


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise DecodeError(f"a {type(value).__name__} where a text belongs")


class _Reader:
    """From `at` on. Each value is taken off the count before it is made."""

    __slots__ = ("_data", "_left", "at")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = MOST_VALUES
        self.at = 0

    def section(self) -> tuple[int, Any]:
        if self._data[self.at] != 0:
            raise DecodeError("a section without a descriptor")
        self.at += 1
        descriptor = self.value(_DEPTH)
        code = _NAMES.get(descriptor, -1) if isinstance(descriptor, str) else descriptor
        if code not in _SECTIONS:
            raise DecodeError(f"an unknown section {descriptor!r:.60}")
        return int(code), self.value(_DEPTH)

    def value(self, depth: int) -> Any:
        code = self._data[self.at]
        self.at += 1
        return self._coded(code, depth)

    def _coded(self, code: int, depth: int) -> Any:
        text_or_binary = _VARIABLE.get(code)
        if text_or_binary is not None:
            return self._variable(*text_or_binary)
        if code in _CONSTANTS:
            return _CONSTANTS[code]
        fixed = _FIXED.get(code)
        if fixed is not None:
            size, read = fixed
            raw = self._bytes(size)
            return read(raw)
        if depth == 0:
            raise DecodeError(f"values nested more than {_DEPTH} deep")
        if code == 0:
            self.value(depth - 1)  # a descriptor; what it describes is enough
            return self.value(depth - 1)
        compound = _COMPOUND.get(code)
        if compound is None:
            raise DecodeError(f"a value of the unknown type 0x{code:02x}")
        return self._compound(*compound, depth - 1)

    def _variable(self, width: int, read: Callable[[bytes], Any]) -> Any:
        return read(self._bytes(self._number(width)))

    def _compound(self, width: int, kind: type, depth: int) -> Any:
        begin = self.at + width
        size, count = self._number(width), self._number(width)
        end = begin + size
        if end > len(self._data) or count > self._left:
            raise DecodeError(f"more than there is, or more than {MOST_VALUES} values")
        self._left -= count
        value = self.value
        found: Any
        if kind is dict:
            if count % 2:
                raise DecodeError("a map with a key and no value")
            found = {value(depth): value(depth) for _ in range(count // 2)}
        elif kind is list:
            found = [value(depth) for _ in range(count)]
        else:
            found = self._array(count, depth)
        if self.at != end:
            raise DecodeError("a list or map of another size than it says")
        return found

    def _array(self, count: int, depth: int) -> list[Any]:
        """Its values have one type, told once."""
        code = self._data[self.at]
        self.at += 1
        if code == 0:
            self.value(depth)
            code = self._data[self.at]
            self.at += 1
        return [self._coded(code, depth) for _ in range(count)]

    def _number(self, width: int) -> int:
        return int.from_bytes(self._bytes(width))

    def _bytes(self, size: int) -> bytes:
        begin = self.at
        self.at = end = begin + size
        raw = self._data[begin:end]
        if len(raw) != size:
            raise DecodeError("the end came too soon")
        return raw


def _signed(raw: bytes) -> int:
    return int.from_bytes(raw, signed=True)


def _float(form: str) -> Callable[[bytes], float]:
    unpack = struct.Struct(form).unpack
    return lambda raw: float(unpack(raw)[0])


_CONSTANTS: dict[int, Any] = {0x40: None, 0x41: True, 0x42: False, 0x43: UInt(0), 0x44: ULong(0)}
_FIXED: dict[int, tuple[int, Callable[[bytes], Any]]] = {
    0x45: (0, lambda raw: []),
    0x50: (1, lambda raw: UByte(raw[0])),
    0x51: (1, _signed),
    0x52: (1, lambda raw: UInt(raw[0])),
    0x53: (1, lambda raw: ULong(raw[0])),
    0x54: (1, _signed),
    0x55: (1, _signed),
    0x56: (1, lambda raw: raw[0] != 0),
    0x60: (2, int.from_bytes),
    0x61: (2, _signed),
    0x70: (4, lambda raw: UInt(int.from_bytes(raw))),
    0x71: (4, _signed),
    0x72: (4, _float(">f")),
    0x73: (4, lambda raw: raw.decode("utf-32-be")),
    0x80: (8, lambda raw: ULong(int.from_bytes(raw))),
    0x81: (8, _signed),
    0x82: (8, _float(">d")),
    0x83: (8, _signed),
    0x98: (16, lambda raw: UUID(bytes=raw)),
}
_VARIABLE: dict[int, tuple[int, Callable[[bytes], Any]]] = {
    0xA0: (1, bytes),
    0xA1: (1, bytes.decode),
    0xA3: (1, bytes.decode),
    0xB0: (4, bytes),
    0xB1: (4, bytes.decode),
    0xB3: (4, bytes.decode),
}
_COMPOUND: dict[int, tuple[int, type]] = {
    0xC0: (1, list), 0xC1: (1, dict), 0xD0: (4, list), 0xD1: (4, dict), 0xE0: (1, tuple), 0xF0: (4, tuple),
}  # fmt: skip
