# SPDX-License-Identifier: Apache-2.0
"""Messages to the bytes of AMQP 1.0 and back: by Proton's codec, but for the bodies that are written."""

from __future__ import annotations

from typing import Any

import proton
from proton import Array, Described, ProtonException, symbol
from proton import Message as ProtonMessage

from vdsm.protocols.amqp import Message, UByte, UInt, ULong
from vdsm.protocols.amqp10 import count_values, encode_body

_NO_BODY = b"\x00\x53\x77\x40"  # which Proton writes where there is none
MOST_NODES = 65_535
"""Readers made with Proton see as many nodes of a body, one for each value and key, and miss the rest unasked."""

_OUT: dict[type, type] = {UByte: proton.ubyte, UInt: proton.uint, ULong: proton.ulong}
_IN: dict[type, type] = {
    proton.ubyte: UByte,
    proton.uint: UInt,
    proton.ulong: ULong,
    proton.byte: int,
    proton.short: int,
    proton.ushort: int,
    proton.int32: int,
    proton.timestamp: int,
    proton.float32: float,
    proton.symbol: str,
    proton.char: str,
    memoryview: bytes,
    bytearray: bytes,
}


class Unreadable(Exception):
    """What came is no message, or one beyond all limits."""


def encode(message: Message, *, list_as_sequence: bool = False) -> bytes:
    """Raises ValueError for what AMQP, or Proton, cannot carry."""
    try:
        out = ProtonMessage()
        if message.properties:
            out.properties = _out(message.properties)
        if message.correlation_id is not None:
            out.correlation_id = _out(message.correlation_id)
        if message.content_type:
            out.content_type = symbol(message.content_type)
        if message.ttl is not None:
            out.ttl = message.ttl
        if message.user_id:
            out.user_id = message.user_id.encode()
        if message.address:
            out.address = message.address
        if message.subject:
            out.subject = message.subject
        if message.reply_to:
            out.reply_to = message.reply_to
        head = bytes(out.encode()).removesuffix(_NO_BODY)
        body = encode_body(message.body, list_as_sequence=list_as_sequence)
        if len(body) > MOST_NODES and count_values(message.body) > MOST_NODES:  # each takes a byte at least
            raise ValueError(f"more than {MOST_NODES} values")
        return head + body
    except (ProtonException, OverflowError, KeyError, TypeError, ValueError, AssertionError) as error:
        # an AssertionError is what Proton makes of an unsigned number below 0
        raise ValueError(f"AMQP cannot carry this message: {type(error).__name__}: {error}") from error


def decode(data: bytes) -> Message:
    """Raises Unreadable."""
    incoming = ProtonMessage()
    try:
        incoming.decode(data)
        reader = _Reader()
        body = reader.plain(incoming.body)
        properties = reader.plain(incoming.properties)
        correlation_id = reader.plain(incoming.correlation_id)
    except (ProtonException, ValueError, OverflowError, TypeError, RecursionError) as error:
        # a map's key that is a list is a TypeError, depth beyond reason a RecursionError
        raise Unreadable(f"{type(error).__name__}: {error}"[:200]) from error
    if not isinstance(properties, dict | None) or not isinstance(body, dict | list | bytes | None):
        raise Unreadable(f"a body that is a {type(body).__name__}")
    return Message(
        address=incoming.address,
        subject=incoming.subject,
        reply_to=incoming.reply_to,
        correlation_id=correlation_id,
        content_type=_text(incoming.content_type),
        user_id=bytes(incoming.user_id).decode(errors="replace") or None,
        redelivered=incoming.delivery_count > 0,
        ttl=incoming.ttl or None,
        properties=properties or {},
        body=body,
    )


def _text(value: str) -> str | None:
    """Proton makes the symbol None of a content type that is not there."""
    return None if value == "None" else str(value)


def _out(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {key: _out(item) for key, item in value.items()}
    if kind is list:
        return [_out(item) for item in value]
    wrapper = _OUT.get(kind)
    return wrapper(value) if wrapper else value


class _Reader:
    """Counts, to know when Proton has left something out."""

    def __init__(self) -> None:
        self._left = MOST_NODES - 1

    def plain(self, value: Any) -> Any:
        self._left -= 1
        if self._left <= 0:
            raise Unreadable(f"more than {MOST_NODES} values")
        kind = type(value)
        if kind is dict:
            return {self.plain(key): self.plain(item) for key, item in value.items()}
        if kind is list:
            return [self.plain(item) for item in value]
        if kind is Array:
            return [self.plain(item) for item in value.elements]
        if kind is Described:
            return self.plain(value.value)
        wrapper = _IN.get(kind)
        return wrapper(value) if wrapper else value
