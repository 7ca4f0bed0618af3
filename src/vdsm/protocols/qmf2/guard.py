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


def outgoing(value: object, depth: int = 0) -> object:
    """The value as every peer can take it. Raises Unsendable."""
    # Answers have thousands of values, nearly all of them of these types and fit as they are.
    if type(value) is str:
        return value if len(value) <= MAX_TEXT and value.isascii() else _outgoing_text(value)
    if type(value) is int:
        return value if _LEAST <= value <= _MOST else _outgoing_int(value)
    if type(value) in _FIT:
        return value
    if depth > MAX_DEPTH:
        raise Unsendable(f"a value nested more than {MAX_DEPTH} deep, or one that holds itself, cannot be sent")
    if type(value) is dict or isinstance(value, Mapping):
        below = depth + 1
        return {
            key if type(key) is str and len(key) <= MAX_KEY and key.isascii() else outgoing_key(key):
            outgoing(one, below)
            for key, one in value.items()
        }  # fmt: skip
    if isinstance(value, list | tuple | set | frozenset):
        return [outgoing(one, depth + 1) for one in value]
    if isinstance(value, str):
        return _outgoing_text(value)
    if isinstance(value, int):
        return _outgoing_int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise Unsendable(f"a {type(value).__name__} cannot be sent over AMQP")


_LEAST, _MOST = -(2**63), 2**63 - 1
_FIT = frozenset({type(None), bool, float, UUID, bytes})


def outgoing_key(key: object) -> str:
    """On qpidd a map with a key that is no text arrives empty. A long key is cut, yet stays unique."""
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
    intake = _Intake(limits)
    taken = intake.take(value, 0)
    intake.check()
    return taken


class _Intake:
    """Counts as it goes; what it counts is in memory already, so it may be checked a little later."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._items = 0
        self._size = 0

    def take(self, value: object, depth: int) -> object:
        if type(value) is str:
            self._size += len(value)
            return value
        if type(value) in _AS_IT_IS:
            return value
        if type(value) is dict or isinstance(value, Mapping):
            self._enter(len(value), depth)
            below = depth + 1
            taken = {
                key if type(key) is str else self._take_key(key): self.take(one, below) for key, one in value.items()
            }
            self._size += sum(map(len, taken))
            return taken
        if isinstance(value, list | tuple):
            self._enter(len(value), depth)
            return [self.take(one, depth + 1) for one in value]
        if isinstance(value, bytes | bytearray | memoryview):
            return self._take_binary(bytes(value))
        if isinstance(value, str):
            return self.take(str.__str__(value), depth)
        for plain in (int, float):
            if isinstance(value, plain):
                return plain(value)
        raise Unacceptable(f"a value of the type {type(value).__name__} is not taken")

    def check(self) -> None:
        if self._size > self._limits.size:
            raise Unacceptable(f"a message holds more than {self._limits.size} bytes of text; send less at a time")

    def _take_key(self, key: object) -> str:
        taken = incoming(key, self._limits)
        if not isinstance(taken, str):
            raise Unacceptable(f"the keys of a map are texts, not {taken!r:.40}")
        return taken

    def _take_binary(self, raw: bytes) -> str | bytes:
        self._size += len(raw)
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
        self.check()


_AS_IT_IS = frozenset({type(None), bool, int, float, UUID})
