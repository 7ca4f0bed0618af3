# SPDX-License-Identifier: Apache-2.0
"""The connections to libvirt: several at once, kept alive, made again when they break."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import queue
from collections.abc import Callable, Sequence
from typing import TypeVar

import libvirt

from vdsm.contract.errors import DeadlineExceeded, HypervisorUnavailable, Problem
from vdsm.drivers.pool import Pool

from . import eventloop, problems, words

T = TypeVar("T")

log = logging.getLogger(__name__)

ANSWER_S = 30.0  # for a call that only needs libvirt or QEMU's monitor
_CONNECT_S = 20.0
_CALLS_EACH = 4  # one less than libvirtd reads, for its own answers to keep-alives
_KEEPALIVE_S, _KEEPALIVES = 5, 3  # a libvirtd that hangs is given up after 20 s
_BACKOFF_FIRST_S, _BACKOFF_MOST_S = 0.1, 5.0


def default_uri() -> str:
    """The host's libvirt for root, the user's own for everybody else."""
    return "qemu:///system" if os.geteuid() == 0 else "qemu:///session"


class Line:
    """Calls of one kind: connections and threads of their own.

    libvirtd reads at most five requests of a client at a time (max_client_requests): calls that may hang or last
    must not share a connection with those that are wanted at once.
    """

    def __init__(self, name: str, *, connections: int = 1) -> None:
        self.connections = connections
        self._pool = Pool(f"libvirt-{name}", workers=connections * _CALLS_EACH)
        self._free: queue.SimpleQueue[libvirt.virConnect] | None = None  # each connection, once for each call it takes
        self._reason = "the connection has not been opened"

    def attach(self, conns: Sequence[libvirt.virConnect]) -> None:
        self._free = queue.SimpleQueue()
        for conn in [*conns] * _CALLS_EACH:
            self._free.put(conn)

    def detach(self, reason: str) -> None:
        self._free, self._reason = None, reason

    def close(self) -> None:
        self._pool.close()

    async def run(
        self,
        what: str,
        call: Callable[[libvirt.virConnect], T],
        *,
        vm: str = "",
        most: float = ANSWER_S,
        key: str = "",
    ) -> T:
        """Let a thread of this line make a call. One that hangs is given up and keeps its thread.

        Raises HypervisorUnavailable, DeadlineExceeded, TooBusy, NoSuchVM, HypervisorError, and what `call` raises.
        """
        free = self._free
        if free is None:
            raise HypervisorUnavailable(reason=self._reason)

        def make() -> T:
            conn = free.get()  # there is one: no more calls run than fit, but for those stuck in an earlier round
            try:
                return call(conn)
            finally:
                free.put(conn)

        try:
            return await self._pool.run(what, make, most=most, key=key)
        except libvirt.libvirtError as error:
            raise problems.problem(error, what, vm) from None


class Connection:
    """Holds the lines open. `subscribe` asks for events on the first line's connection and returns their numbers."""

    def __init__(
        self,
        uri: str,
        lines: Sequence[Line],
        *,
        subscribe: Callable[[libvirt.virConnect], list[int]],
        lost: Callable[[str], None],
        back: Callable[[], None],
    ) -> None:
        self._uri = uri or default_uri()
        self._lines = lines
        self._subscribe = subscribe
        self._lost = lost
        self._back = back
        self._dialer = Pool("libvirt-connect", workers=1)
        self._hanger = Pool("libvirt-close", workers=2)
        self._broken = asyncio.Event()
        self._why = ""
        self._round = 0  # tells a late answer or break of an earlier attempt from this one's
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Make the first attempt, and go on in the background."""
        eventloop.start()
        tried = asyncio.Event()
        self._task = asyncio.create_task(self._keep(tried), name="libvirt connection")
        await tried.wait()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        for line in self._lines:
            line.close()
        self._dialer.close()
        self._hanger.close()

    async def _keep(self, tried: asyncio.Event) -> None:
        away, backoff = False, _BACKOFF_FIRST_S
        while True:
            try:
                calls = await self._connect()
            except Problem as problem:
                why = problem.facts.get("reason", str(problem))
                self._detach(why)
                if not away:
                    log.error("libvirt at %s does not answer: %s", self._uri, why)
                    self._lost(why)
                    away = True
                tried.set()
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, _BACKOFF_MOST_S)
                continue
            conns = iter(calls.conns)
            for line in self._lines:
                line.attach(list(itertools.islice(conns, line.connections)))
            if away:
                log.info("libvirt at %s is back", self._uri)
                self._back()
            tried.set()
            away, backoff = True, _BACKOFF_FIRST_S  # the next thing that happens is that it breaks
            try:
                await self._broken.wait()
                log.error("libvirt at %s is lost: %s", self._uri, self._why)
                self._lost(self._why)
            finally:
                self._detach(self._why or "the connection was closed")
                await self._dispose(calls)

    def _detach(self, why: str) -> None:
        for line in self._lines:
            line.detach(why)

    async def _connect(self) -> _Calls:
        """A connection for each line. Raises HypervisorUnavailable, DeadlineExceeded."""
        self._round += 1
        self._broken.clear()
        self._why = ""
        this, loop = self._round, asyncio.get_running_loop()

        def broke(_conn: libvirt.virConnect, number: int, _opaque: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is interested any more
                loop.call_soon_threadsafe(self._note_break, this, words.CLOSED.get(number, "unknown"))

        def dial() -> _Calls:
            calls = _Calls()
            try:
                for _ in range(sum(line.connections for line in self._lines)):
                    calls.add(libvirt.open(self._uri), broke)
                calls.events = self._subscribe(calls.conns[0])
            except libvirt.libvirtError:
                calls.hang_up()
                raise
            if this != self._round:  # given up meanwhile
                calls.hang_up()
            return calls

        try:
            return await self._dialer.run("connecting to libvirt", dial, most=_CONNECT_S)
        except libvirt.libvirtError as error:
            raise HypervisorUnavailable(reason=problems.reason(error)) from None

    def _note_break(self, number: int, why: str) -> None:
        if number == self._round and not self._broken.is_set():
            self._why = why
            self._broken.set()

    async def _dispose(self, calls: _Calls) -> None:
        self._round += 1
        with contextlib.suppress(DeadlineExceeded):
            await self._hanger.run("closing libvirt", calls.hang_up, most=2.0)


class _Calls:
    """The connections of one round."""

    def __init__(self) -> None:
        self.conns: list[libvirt.virConnect] = []
        self.events: list[int] = []

    def add(self, conn: libvirt.virConnect, broke: Callable[[libvirt.virConnect, int, object], None]) -> None:
        self.conns.append(conn)
        conn.setKeepAlive(_KEEPALIVE_S, _KEEPALIVES)
        conn.registerCloseCallback(broke, None)

    def hang_up(self) -> None:
        """Let go of connections that may be dead already. Each event asked for would hold its connection."""
        for number in self.events:
            with contextlib.suppress(libvirt.libvirtError):
                self.conns[0].domainEventDeregisterAny(number)
        for conn in self.conns:
            with contextlib.suppress(libvirt.libvirtError):
                conn.unregisterCloseCallback()
            with contextlib.suppress(libvirt.libvirtError):
                conn.close()
