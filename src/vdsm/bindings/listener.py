# SPDX-License-Identifier: Apache-2.0
"""A door: it takes connections from listening sockets, counts them, and sees them out."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import Protocol

from uvicorn.config import Config

from vdsm.contract.errors import TooBusy, Unauthenticated
from vdsm.core.refusals import Refusals

from .answers import Receive, Scope, Send, problem_answer, raw_answer
from .connection import DatedState, Guest, HttpConnection, WebSocketConnection
from .firstbytes import FirstBytes, Wire
from .identity import peer_of, unix_channel
from .options import RestOptions
from .sockets import UnixListener
from .tls import ServerTls

_log = logging.getLogger(__name__)

_SWEEP_EVERY = 1.0  # seconds
_ACCEPT_PAUSE = 0.2  # seconds, when the process is out of file descriptors
_NO_CERTIFICATE = ("CERTIFICATE_VERIFY_FAILED", "PEER_DID_NOT_RETURN_A_CERTIFICATE")  # OpenSSL's words
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Application(Protocol):
    """An ASGI application that can end what would go on for ever."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]: ...

    def end_streams(self) -> None: ...


class Door:
    """Serves one application, and on TCP the `wires` too, on any number of sockets, under one set of limits."""

    def __init__(
        self, app: Application, refusals: Refusals, options: RestOptions | None = None, wires: Sequence[Wire] = ()
    ) -> None:
        self._refusals = refusals
        self.options = options = options or RestOptions()
        self._app = app
        self._wires = wires
        self._state = DatedState()
        self._config = Config(
            app,
            ws=WebSocketConnection,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # a header says nothing about who calls
            server_header=False,
            date_header=False,  # DatedState does it
            ws_max_size=options.max_message,
            ws_per_message_deflate=False,
            ws_ping_interval=options.heartbeat,
            ws_ping_timeout=options.stall_timeout,
        )
        self._config.load()
        self._listeners: dict[asyncio.Task[None], socket.socket] = {}
        self._paths: list[UnixListener] = []
        self._arriving: dict[asyncio.Task[None], None] = {}  # before their first byte, the oldest first
        self._peers: Counter[str] = Counter()
        self._guests: set[Guest] = set()
        self._gone = asyncio.Event()  # somebody left
        self._sweeping: asyncio.TimerHandle | None = None

    def open(self, listener: socket.socket | UnixListener, tls: ServerTls | None = None) -> None:
        """Begin to take connections from a listening, non-blocking socket, which is the door's from now on."""
        if isinstance(listener, UnixListener):
            self._paths.append(listener)
            listener = listener.sock
        task = asyncio.get_running_loop().create_task(self._accept(listener, tls))
        self._listeners[task] = listener

    @property
    def guests(self) -> int:
        """How many connections there are."""
        return len(self._guests) + len(self._arriving)

    async def close(self) -> None:
        """Take no more connections, let what is under way end, and after `grace` end it."""
        for listener in self._paths:
            listener.remove()
        ending = [*self._listeners, *self._arriving]
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        for sock in self._listeners.values():
            sock.close()
        self._listeners.clear()
        self._app.end_streams()
        for wire in self._wires:
            wire.end()
        for connection in list(self._state.connections):
            connection.shutdown()
        await self._drain(self.options.grace)
        for guest in list(self._guests):
            guest.transport.abort()
        for task in self._state.tasks:
            task.cancel()
        await self._drain(1.0)
        if self._sweeping is not None:
            self._sweeping.cancel()

    async def _drain(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._guests:
                    self._gone.clear()
                    await self._gone.wait()
                while tasks := {task for task in self._state.tasks if not task.done()}:
                    await asyncio.wait(tasks)

    async def _accept(self, listener: socket.socket, tls: ServerTls | None) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    _log.warning("no connection can be taken: %s", error)
                    await asyncio.sleep(_ACCEPT_PAUSE)
                continue  # the client was gone before it was taken
            try:
                peer = peer_of(address[0]) if isinstance(address, tuple) else unix_channel(sock).peer
            except OSError:
                sock.close()
                continue
            if self._admits(peer):
                task = loop.create_task(self._welcome(sock, peer, tls))
                self._arriving[task] = None
                task.add_done_callback(self._arrived)
                # With a full backlog sock_accept does not suspend: let the task begin, and everybody else go on.
                await asyncio.sleep(0)
            else:
                _turn_away(sock, tls)

    def _admits(self, peer: str) -> bool:
        """Whether one more fits; a handshake that takes its time makes room."""
        options = self.options
        if self._peers[peer] >= options.max_connections_per_peer:
            return False
        full = len(self._guests) + len(self._arriving) >= options.max_connections
        if (full or len(self._arriving) >= options.max_handshakes) and self._arriving:
            next(iter(self._arriving)).cancel()
            return True
        return not full

    def _arrived(self, task: asyncio.Task[None]) -> None:
        self._arriving.pop(task, None)

    async def _welcome(self, sock: socket.socket, peer: str, tls: ServerTls | None) -> None:
        self._peers[peer] += 1
        options = self.options
        first = FirstBytes(() if sock.family == socket.AF_UNIX else self._wires, self, self._http)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: first,
                sock,
                ssl=None if tls is None else tls.context(),
                ssl_handshake_timeout=None if tls is None else options.handshake_timeout,
                ssl_shutdown_timeout=None if tls is None else options.handshake_timeout,
            )
            async with asyncio.timeout(options.head_timeout):
                await first.decided.wait()
        except OSError as error:  # ssl.SSLError, TimeoutError and ConnectionError are among them
            if isinstance(error, ssl.SSLError) and error.reason in _NO_CERTIFICATE:
                problem = Unauthenticated(reason=f"{error}")
                self._refusals.note(problem, "a TLS handshake", identity=f"tcp:{peer}", channel="tls", peer=peer)
            else:
                _log.info("no connection with %s: %s", peer, f"{error}" or "it said nothing")
        finally:
            if first.abandon():
                self._forget(peer)

    def _http(self) -> HttpConnection:
        return HttpConnection(self, self._config, self._state)

    def entered(self, guest: Guest) -> None:
        self._guests.add(guest)
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(_SWEEP_EVERY, self._sweep)

    def left(self, guest: Guest) -> None:
        self._guests.discard(guest)
        self._gone.set()
        self._forget(guest.channel.peer)

    def _forget(self, peer: str) -> None:
        self._peers[peer] -= 1
        if self._peers[peer] <= 0:
            del self._peers[peer]

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for guest in list(self._guests):
            guest.sweep(now)
        self._sweeping = loop.call_later(_SWEEP_EVERY, self._sweep) if self._guests else None


def _turn_away(sock: socket.socket, tls: ServerTls | None) -> None:
    """Close at once; without TLS there is a way to say why."""
    with sock:
        if tls is None:
            sock.setblocking(False)
            try:
                sock.send(raw_answer(problem_answer(TooBusy(what="this door"), "")))
            except OSError:
                return
