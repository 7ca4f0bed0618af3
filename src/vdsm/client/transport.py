# SPDX-License-Identifier: Apache-2.0
"""HTTP to one daemon, over its unix socket or TLS: kept connections, one safe retry. Standard library only.

Thread safety: `request` may be called from several threads; each exchange has a connection for itself.
"""

from __future__ import annotations

import contextlib
import http.client
import select
import socket

from .address import Address

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping

CONNECT_SECONDS = 10.0
KEPT = 8  # idle connections; more are closed


class Unreachable(ConnectionError):
    """The daemon cannot be reached, or the connection broke before its answer came."""

    def __init__(self, address: Address, reason: str, *, sent: bool = False) -> None:
        super().__init__(f"{address}: {reason}")
        self.address = address
        self.reason = reason
        self.sent = sent  # the request had gone out: whether it was done is not known


class BadAnswer(Exception):
    """Something answered, but not as this API does."""


class Refused(Exception):
    """The daemon answered with a problem, still as bytes: a stream of events or of bytes was not opened."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"the daemon answered with status {status}")
        self.status = status
        self.body = body


class Reply:
    """A whole HTTP answer."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: http.client.HTTPMessage, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def is_problem(self) -> bool:
        return self.status >= 400


class Transport:
    """Connections to one daemon, opened when needed and kept."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._idle: list[http.client.HTTPConnection] = []
        self._tls: ssl.SSLContext | None = None

    def request(
        self,
        method: str,
        target: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        repeatable: bool = False,
    ) -> Reply:
        """One exchange. `repeatable`: sending it twice does no more than once, so a broken connection is tried again.

        `timeout` is for each silence of the daemon, None for ever. Raises Unreachable, TimeoutError.
        """
        sent = {**self.identity(), **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        for connection, again in ((self._take(), repeatable), (None, False)):
            try:
                return self._exchange(connection or self._open(), method, target, body, sent, timeout)
            except (TimeoutError, Unreachable):
                raise
            except (OSError, http.client.HTTPException) as error:
                if not again:
                    reason = f"the connection broke before the answer came ({_words(error)})"
                    raise Unreachable(self.address, reason, sent=True) from error
        raise AssertionError("the second attempt returns or raises")

    def stream(self, target: str, *, headers: Mapping[str, str] | None = None, timeout: float | None = None) -> Chunks:
        """Open an answer that does not end, on a connection of its own. Raises Unreachable, TimeoutError."""
        connection = self._open()
        try:
            wire = connection.sock
            wire.settimeout(timeout)
            connection.request("GET", target, headers={**self.identity(), **(headers or {})})
            return Chunks(self.address, connection, wire, connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if isinstance(error, TimeoutError):
                raise
            raise Unreachable(self.address, _words(error)) from error

    def identity(self) -> dict[str, str]:
        """The headers that say who we are; over a unix socket the kernel says it."""
        return {"Authorization": f"Bearer {self.address.token}"} if self.address.token else {}

    def tls(self) -> ssl.SSLContext | None:
        """The TLS settings for this address; None where there is none. Raises Unreachable."""
        if not self.address.tls:
            return None
        if self._tls is None:
            import ssl

            where = self.address
            try:
                self._tls = ssl.create_default_context(cafile=where.ca or None)
                if where.cert:
                    self._tls.load_cert_chain(where.cert, where.key or None)
            except OSError as error:
                files = ", ".join(f for f in (where.ca, where.cert, where.key) if f)
                raise Unreachable(where, f"a certificate cannot be used ({files}: {_words(error)})") from error
        return self._tls

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> http.client.HTTPConnection | None:
        """A kept connection that the daemon has not closed meanwhile."""
        while self._idle:
            connection = self._idle.pop()
            poll = select.poll()
            poll.register(connection.sock, select.POLLIN)
            if not poll.poll(0):  # anything readable between two exchanges is its end
                return connection
            connection.close()
        return None

    def wire(self) -> socket.socket:
        """A socket that is connected to the daemon, without TLS so far. Raises Unreachable."""
        where = self.address
        try:
            if not where.path:
                wire = socket.create_connection((where.host, where.port), timeout=CONNECT_SECONDS)
                # A dead peer is noticed although nothing is sent; a keystroke goes out at once.
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
                wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return wire
            wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                wire.settimeout(CONNECT_SECONDS)
                wire.connect(where.path)
            except BaseException:
                wire.close()
                raise
        except OSError as error:
            raise Unreachable(where, _words(error)) from error
        return wire

    def _open(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self.address.host, self.address.port)
        context = self.tls()
        wire = self.wire()
        try:
            connection.sock = context.wrap_socket(wire, server_hostname=self.address.host) if context else wire
        except OSError as error:
            wire.close()
            raise Unreachable(self.address, _words(error)) from error
        return connection

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout: float | None,
    ) -> Reply:
        done = False
        try:
            connection.sock.settimeout(timeout)
            # A daemon that refuses a large body answers and closes while we still send: the answer counts.
            with contextlib.suppress(BrokenPipeError):
                connection.request(method, target, body=body, headers=dict(headers))
            answer = connection.getresponse()
            reply = Reply(answer.status, answer.headers, answer.read())
            done = True
        finally:
            if not done or answer.will_close or len(self._idle) >= KEPT:
                connection.close()
        if connection.sock is not None:
            self._idle.append(connection)
        return reply


class Chunks:
    """An answer read piece by piece as it comes."""

    def __init__(
        self,
        address: Address,
        connection: http.client.HTTPConnection,
        wire: socket.socket,
        answer: http.client.HTTPResponse,
    ) -> None:
        self.status = answer.status
        self._address = address
        self._connection = connection
        self._wire = wire
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        """Raises Unreachable when the connection breaks, TimeoutError after too long a silence."""
        try:
            while chunk := self._answer.read1(1 << 16):
                yield chunk
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(self._address, _words(error)) from error

    def read(self) -> bytes:
        """All of it: for an answer that is a problem after all."""
        return b"".join(self)

    def interrupt(self) -> None:
        """End it for the thread that waits for the next piece; that thread closes it."""
        with contextlib.suppress(OSError):
            # Not the TLS socket's own shutdown, which takes the TLS state from under the reader.
            socket.socket.shutdown(self._wire, socket.SHUT_RDWR)

    def close(self) -> None:
        self._answer.close()
        self._connection.close()


def _words(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
