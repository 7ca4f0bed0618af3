# SPDX-License-Identifier: Apache-2.0
"""The `Transfers` port by ovirt-imageio's control socket."""

from __future__ import annotations

import hashlib
import re
import ssl
from pathlib import Path

import msgspec

from vdsm.contract.errors import InvalidParams
from vdsm.contract.errors_storage import ImageDaemonError, ImageTicketsError
from vdsm.contract.host_tickets import TransferOp
from vdsm.core.ports import deadline
from vdsm.core.ports.transfers import ImageDoor, Ticket, TicketState
from vdsm.drivers.files import clean
from vdsm.drivers.pool import Pool

from .daemon import Answer, Daemon, Door

_PATIENCE_S = 30.0
_REMOVE_S = 75.0  # ovirt-imageio itself waits 60 s for the requests that are under way
_CERTIFICATE_END = "-----END CERTIFICATE-----"
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


class _Known(msgspec.Struct, frozen=True):
    """What ovirt-imageio tells of a ticket."""

    uuid: str
    url: str
    ops: list[TransferOp]
    timeout: int
    active: bool
    canceled: bool
    connections: int
    expires: int
    idle_time: int
    size: int
    transferred: int | None = None
    filename: str = ""


class ImageioTransfers:
    """`directory` is emptied at boot and nobody else's."""

    def __init__(self, directory: Path, door: Door) -> None:
        self._daemon = Daemon(directory, door)
        self._door = door
        self._pool = Pool("imageio", workers=4)

    def door(self) -> ImageDoor:
        found = ""
        if self._door.cert_file:
            try:
                first = Path(self._door.cert_file).read_text().partition(_CERTIFICATE_END)
                found = hashlib.sha256(ssl.PEM_cert_to_DER_cert("".join(first[:2]).strip())).hexdigest()
            except (OSError, ValueError) as error:
                raise ImageDaemonError(reason=f"{self._door.cert_file}: {error}") from None
        return ImageDoor(host=self._door.host, port=self._door.port, fingerprint=found)

    async def add(self, ticket: Ticket) -> None:
        await self._pool.run("starting ovirt-imageio", self._daemon.ensure, most=_PATIENCE_S, key="start")
        words = msgspec.to_builtins(ticket)
        for name in ("transfer_id", "filename", "inactivity_timeout"):
            if not words[name]:
                del words[name]
        _expect(await self._ask("PUT", ticket.uuid, words), ticket.uuid)

    async def get(self, uuid: str) -> TicketState:
        answer = await self._ask("GET", uuid)
        _expect(answer, uuid)
        try:
            known = msgspec.json.decode(answer.body, type=_Known)
        except msgspec.DecodeError:
            raise ImageDaemonError(reason="its answer makes no sense") from None
        return TicketState(
            uuid=known.uuid,
            url=known.url,
            ops=known.ops,
            timeout=known.timeout,
            filename=known.filename,
            active=known.active,
            canceled=known.canceled,
            connections=known.connections,
            transferred=known.transferred,
            expires=known.expires,
            idle_seconds=known.idle_time,
            size=known.size,
        )

    async def extend(self, uuid: str, timeout: int) -> None:
        _expect(await self._ask("PATCH", uuid, {"timeout": timeout}), uuid)

    async def remove(self, uuid: str) -> None:
        try:
            answer = await self._ask("DELETE", uuid, most=_REMOVE_S)
        except ImageDaemonError:  # it is gone, and the ticket with it
            return
        _expect(answer, uuid)

    async def close(self) -> None:
        await self._pool.run("ending ovirt-imageio", self._daemon.stop, most=_PATIENCE_S, key="start")
        self._pool.close()

    async def _ask(self, method: str, uuid: str, body: object | None = None, *, most: float = _PATIENCE_S) -> Answer:
        if not _ID.fullmatch(uuid):
            raise InvalidParams(reason=f"{uuid!r} is no id of a ticket")
        seconds = deadline.remaining(most)
        try:
            return await self._pool.run(
                "asking ovirt-imageio", lambda: self._daemon.ask(method, f"/tickets/{uuid}", body, seconds), most=most
            )
        except TimeoutError:
            raise ImageDaemonError(reason=f"no answer in {seconds:.3g} s") from None


def _expect(answer: Answer, uuid: str) -> None:
    if answer.status >= 400:
        reason = clean(answer.body.decode(errors="replace"), 512) or f"status {answer.status}"
        raise ImageTicketsError(ticket=uuid, reason=reason)
