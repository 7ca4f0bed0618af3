# SPDX-License-Identifier: Apache-2.0
"""Images read and written over HTTPS by whoever has a ticket: ovirt-imageio, and the NBD servers behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from vdsm.contract.host_tickets import TransferOp

from .disks import Image


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """What one transfer may do."""

    uuid: str
    url: str  # file:///path or nbd:unix:/socket[:exportname=name]
    size: int  # bytes that may be read or written
    ops: list[TransferOp]
    timeout: int  # seconds until it ends by itself
    inactivity_timeout: int = 0  # seconds without a request; 0: the daemon's own
    sparse: bool = False
    dirty: bool = False  # serve the dirty bitmap's extents
    transfer_id: str = ""
    filename: str = ""


class TicketState(msgspec.Struct, frozen=True, kw_only=True):
    uuid: str
    url: str
    ops: list[TransferOp]
    timeout: int  # as it was asked for
    filename: str
    active: bool  # a request runs
    canceled: bool
    connections: int
    transferred: int | None  # bytes; None: cannot be told
    expires: int  # seconds of the host's monotonic clock
    idle_seconds: int
    size: int


class ImageDoor(msgspec.Struct, frozen=True, kw_only=True):
    """Where clients come in."""

    host: str
    port: int
    fingerprint: str = ""  # SHA-256 of its certificate, in hexadecimal; empty: there is no TLS


class Transfers(Protocol):
    """Every method may raise ImageDaemonError and DeadlineExceeded.

    ovirt-imageio is started by the first ticket. Tickets live in its memory: when it ends they are gone.
    """

    def door(self) -> ImageDoor: ...

    async def add(self, ticket: Ticket) -> None:
        """Raises ImageTicketsError."""

    async def get(self, uuid: str) -> TicketState:
        """Raises ImageTicketsError: there is none."""

    async def extend(self, uuid: str, timeout: int) -> None:
        """Let it live `timeout` seconds from now. Raises ImageTicketsError."""

    async def remove(self, uuid: str) -> None:
        """No request runs with it any more when this returns. None of that name is fine."""

    async def close(self) -> None: ...


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """How an image is served over NBD on a local socket."""

    image: Image
    read_only: bool = True
    discard: bool = False
    detect_zeroes: bool = False
    with_backing: bool = True  # serve what the backing files hold too
    bitmap: str = ""  # of dirty blocks, to be asked for by clients


class ImageServers(Protocol):
    async def start(self, server_id: str, export: Export) -> str:
        """The URL, nbd:unix:/path; the same one if it serves already. Raises ImageOperationFailed."""

    def url(self, server_id: str) -> str:
        """Where one of that name serves, or would."""

    async def stop(self, server_id: str) -> None:
        """None of that name is fine."""

    async def running(self) -> Sequence[str]:
        """The ids of those that serve; they outlive the daemon."""

    async def close(self) -> None: ...
