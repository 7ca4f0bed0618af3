# SPDX-License-Identifier: Apache-2.0
"""What goes onto the bus and what is taken from it: the one place where values are made fit for either.

qpidd closes the connection of every AMQP 0-10 consumer that would get certain values (a text of 64 KiB, a key of 256
bytes, a single character): one such value from one host would silence the consoles of all. Nothing is sent but through
`outgoing`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec

from vdsm.protocols.amqp import UByte, UInt, ULong

MAX_DEPTH = 24  # less than any peer takes
MAX_TEXT = 65_535  # bytes of a text; a longer one travels as binary
MAX_KEY = 255  # bytes of a key
_CUT_KEY = MAX_KEY - 17


class Unsendable(ValueError):
    """A value with no form on the bus: our own mistake."""


class Unacceptable(ValueError):
    """A value from the bus that is larger, deeper or stranger than is taken."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Of one message that is taken from the bus."""

    depth: int = 32
    items: int = 65_536
    size: int = 524_288  # bytes of all texts and keys in it


CONSOLE_LIMITS = Limits(items=4_194_304, size=67_108_864)
"""A console asked for what it gets, and some answers are long."""


def outgoing(value: Any, depth: int = 0) -> object:
    """The value as every peer can take it. Raises Unsendable."""
    if depth > MAX_DEPTH:
        raise Unsendable(f"a value nested more than {MAX_DEPTH} deep, or one that holds itself, cannot be sent")
    kind = type(value)
    # What is met by the thousand comes first, and leaves as it is.
    if kind is str and len(value) <= MAX_TEXT and value.isascii():
        return value
    if kind is int and -(2**63) <= value < 2**63:
        return value
    if kind is dict:
        return {outgoing_key(key): outgoing(one, depth + 1) for key, one in value.items()}
    match value:
        case None | bool() | float() | UUID():
            return value
        case str():
            return _outgoing_text(value)
        case int():
            return _outgoing_int(value)
        case bytes() | bytearray() | memoryview():
            return bytes(value)
        case Mapping():
            return {outgoing_key(key): outgoing(one, depth + 1) for key, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [outgoing(one, depth + 1) for one in value]
    raise Unsendable(f"a {type(value).__name__} cannot be sent over AMQP")


def outgoing_key(key: object) -> str:
    """On qpidd a map with a key that is no text arrives empty. A long key is cut, yet stays unique."""
    if type(key) is str and len(key) <= MAX_KEY and key.isascii():
        return key
    text = str.__str__(key) if isinstance(key, str) else str(key)
    raw = text.encode(errors="replace")
    if len(raw) <= MAX_KEY:
        return raw.decode()
    digest = hashlib.blake2b(raw, digest_size=8).hexdigest()
    return f"{raw[:_CUT_KEY].decode(errors='ignore')}~{digest}"


def _outgoing_text(text: str) -> str | bytes:
    """Exactly a text: a library may give its subclasses, such as a single character, a type of their own."""
    raw = text.encode(errors="replace")  # half a character has no UTF-8
    return raw.decode() if len(raw) <= MAX_TEXT else raw


def _outgoing_int(value: int) -> object:
    """The type it has if it fits, otherwise the next that holds it, and at last its digits."""
    fits = {UByte: 2**8, UInt: 2**32, ULong: 2**64}.get(type(value))
    if fits is not None and 0 <= value < fits:
        return value
    if -(2**63) <= value < 2**63:
        return int(value)
    return ULong(value) if 0 <= value < 2**64 else str(int(value))


def incoming(value: object, limits: Limits) -> Any:
    """Plain values, and text wherever it can be: AMQP 0-10 peers send theirs as binary. Raises Unacceptable."""
    return _Intake(limits).take(value, 0)


class _Intake:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._items = 0
        self._size = 0

    def take(self, value: object, depth: int) -> object:
        match value:
            case None | bool() | UUID():
                return value
            case str():
                self._count(len(value))
                return str.__str__(value)
            case int():
                return int(value)
            case float():
                return float(value)
            case bytes() | bytearray() | memoryview():
                return self._take_binary(bytes(value))
            case Mapping():
                self._enter(len(value), depth)
                return {self._take_key(key): self.take(one, depth + 1) for key, one in value.items()}
            case list() | tuple():
                self._enter(len(value), depth)
                return [self.take(one, depth + 1) for one in value]
        raise Unacceptable(f"a value of the type {type(value).__name__} is not taken")

    def _take_key(self, key: object) -> str:
        taken = self.take(key, 0)
        if not isinstance(taken, str):
            raise Unacceptable(f"the keys of a map are texts, not {taken!r:.40}")
        return taken

    def _take_binary(self, raw: bytes) -> str | bytes:
        self._count(len(raw))
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw

    def _enter(self, items: int, depth: int) -> None:
        self._items += items
        if depth >= self._limits.depth:
            raise Unacceptable(f"a value is nested more than {self._limits.depth} deep; send a flatter one")
        if self._items > self._limits.items:
            raise Unacceptable(f"a message has more than {self._limits.items} values; send less at a time")

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > self._limits.size:
            raise Unacceptable(f"a message holds more than {self._limits.size} bytes of text; send less at a time")
