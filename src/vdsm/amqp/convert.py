# SPDX-License-Identifier: Apache-2.0
"""Messages to the bytes of AMQP 1.0 and back. Of Proton's codec only what writes the head of a message is used."""

from __future__ import annotations

from typing import Any

import proton
from proton import Message as ProtonMessage
from proton import ProtonException, symbol

from vdsm.protocols.amqp import Message, UByte, UInt, ULong
from vdsm.protocols.amqp10 import count_values, encode_body
from vdsm.protocols.amqp10_reading import DecodeError, decode_message

_NO_BODY = b"\x00\x53\x77\x40"  # which Proton writes where there is none
MOST_NODES = 65_535
"""Readers made with Proton see as many nodes of a body, one for each value and key, and miss the rest unasked."""

_OUT: dict[type, type] = {UByte: proton.ubyte, UInt: proton.uint, ULong: proton.ulong}


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
    try:
        return decode_message(data)
    except DecodeError as error:
        raise Unreadable(str(error)[:200]) from error


def _out(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {key: _out(item) for key, item in value.items()}
    if kind is list:
        return [_out(item) for item in value]
    wrapper = _OUT.get(kind)
    return wrapper(value) if wrapper else value
