# SPDX-License-Identifier: Apache-2.0
"""Two-way byte streams (a serial console) over WebSocket."""

from __future__ import annotations

from contextlib import ExitStack

from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidHandshake, InvalidMessage, InvalidStatus
from websockets.sync.client import connect

from .transport import CONNECT_SECONDS, Refused, Transport, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Stream:
    """Bytes both ways until either side closes. One thread may read while another writes."""

    def __init__(self, transport: Transport, target: str) -> None:
        """Raises Unreachable; Refused if the daemon answers with a problem."""
        self.address = transport.address
        self._open = ExitStack()
        try:
            self._socket = self._open.enter_context(
                connect(
                    f"{'wss' if transport.address.tls else 'ws'}://{transport.address.authority}{target}",
                    sock=self._open.enter_context(transport.wire()),
                    ssl=transport.tls(),
                    server_hostname=transport.address.host if transport.address.tls else None,
                    additional_headers=transport.identity(),
                    compression=None,  # a keystroke is smaller than what compresses it
                    open_timeout=CONNECT_SECONDS,
                )
            )
        except InvalidStatus as error:
            self._open.close()
            raise Refused(error.response.status_code, bytes(error.response.body or b"")) from None
        except (OSError, InvalidHandshake, InvalidMessage) as error:
            self._open.close()
            raise Unreachable(self.address, str(error)) from error

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        """What comes, until the end. Raises Unreachable if the connection breaks."""
        while data := self.read():
            yield data

    def read(self, timeout: float | None = None) -> bytes:
        """The next bytes; empty at the end. Raises TimeoutError, Unreachable."""
        try:
            data = self._socket.recv(timeout=timeout)
            return data.encode() if isinstance(data, str) else data
        except ConnectionClosedOK:
            return b""
        except ConnectionClosed as error:
            raise self._cut(error) from error

    def write(self, data: bytes) -> None:
        """Raises Unreachable if the stream has ended."""
        try:
            self._socket.send(data)
        except ConnectionClosed as error:
            raise self._cut(error) from error

    def close(self) -> None:
        self._open.close()

    def _cut(self, error: ConnectionClosed) -> Unreachable:
        reason = error.rcvd.reason if error.rcvd is not None else ""
        return Unreachable(self.address, reason or "the stream broke")
