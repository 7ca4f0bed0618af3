# SPDX-License-Identifier: Apache-2.0
"""Image tickets: what whoever knows one may read or write at this host's image port."""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from .types import Bytes, Input, Output, Uuid

TicketSeconds = Annotated[int, Meta(ge=0, le=2**31 - 1, description="Whole seconds.")]
TicketUrl = Annotated[
    str,
    Meta(
        pattern=r"^(file|nbd):[^\x00-\x20\x7f]{1,4000}$(?!\n)",
        description="file:// and the path of a volume, or the URL of one of this host's NBD servers.",
        examples=["nbd:unix:/run/vdsm/nbd/5f0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11.sock"],
    ),
]
TicketText = Annotated[str, Meta(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$(?!\n)")]


class TransferOp(enum.StrEnum):
    READ = "read"
    WRITE = "write"


class ImageTicket(Input, frozen=True, kw_only=True):
    """What a ticket allows; it ends by itself after `timeout`, or when unused for `inactivity_timeout`."""

    uuid: Uuid
    url: TicketUrl
    size: Bytes  # that may be read or written
    ops: Annotated[list[TransferOp], Meta(min_length=1, max_length=2)]
    timeout: TicketSeconds
    inactivity_timeout: TicketSeconds = msgspec.field(name="inactivity_timeout", default=0)
    sparse: bool = False  # zeros that are written free their space
    dirty: bool = False  # tell what changed, from an NBD server with a bitmap
    transfer_id: TicketText = msgspec.field(name="transfer_id", default="")
    filename: TicketText | None = None  # what a browser calls the download


class ImageTicketInfo(Output, frozen=True, kw_only=True):
    """A ticket, and how its transfer stands."""

    uuid: Uuid
    url: str
    size: Bytes
    ops: list[TransferOp]
    timeout: int
    filename: str | None = None
    active: bool  # a request is under way
    transferred: Bytes
