# SPDX-License-Identifier: Apache-2.0
"""Where messages go and come from, in no broker's words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Direct:
    """What is addressed to one name."""

    name: str


@dataclass(frozen=True, slots=True)
class Topic:
    """What is broadcast under a key; a listener's may have the words `*` (one word) and `#` (any number)."""

    key: str


@dataclass(frozen=True, slots=True)
class Inbox:
    """Answers to this process; `Bus.reply_address` is what asks for them."""


@dataclass(frozen=True, slots=True)
class ReplyTo:
    """Where another process wants its answer: the `reply_to` of its message, as it came."""

    address: str


Source = Direct | Topic | Inbox
Target = Direct | Topic | ReplyTo
