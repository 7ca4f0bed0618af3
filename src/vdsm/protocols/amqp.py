# SPDX-License-Identifier: Apache-2.0
"""AMQP messages as plain data: what a codec writes and a transport carries."""

from __future__ import annotations

from typing import Any

import msgspec


class UByte(int):
    """An AMQP ubyte, 0 to 255."""


class UInt(int):
    """An AMQP uint, 32 bits. A plain int travels as a long, 64 bits and signed."""


class ULong(int):
    """An AMQP ulong, 64 bits: sizes, and nanoseconds since 1970."""


class Message(msgspec.Struct, kw_only=True):
    """One message. `uuid.UUID` travels as uuid, `bytes` as binary, `str` as UTF-8 text."""

    address: str | None = None  # the `to`: where it goes, in the words of the broker
    subject: str | None = None  # the routing key
    reply_to: str | None = None
    correlation_id: object = None  # of any type; an answer echoes it unchanged
    content_type: str | None = None
    user_id: str | None = None  # as the broker verified it
    redelivered: bool = False  # it was sent to somebody before, who may or may not have seen it
    ttl: float | None = None  # seconds
    properties: dict[str, object] = {}  # the application properties
    body: dict[Any, Any] | list[Any] | bytes | None = None
