# SPDX-License-Identifier: Apache-2.0
"""A serial console as a `ByteStream` over a non-blocking libvirt stream, moved along by libvirt's event thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable

import libvirt

from vdsm.contract.errors import ConsoleInUse, NoSerialConsole

from . import problems
from .domains import find

_HELD_MAX = 256 * 1024  # bytes held for a slow reader or a guest that does not read, each
_CHUNK = 16 * 1024
_WOULD_BLOCK = -2
_ALWAYS = libvirt.VIR_STREAM_EVENT_HANGUP | libvirt.VIR_STREAM_EVENT_ERROR


def connect(conn: libvirt.virConnect, vm_id: str, loop: asyncio.AbstractEventLoop, *, force: bool) -> Console:
    """Open the first serial port. Blocks. Raises NoSerialConsole, ConsoleInUse."""
    domain = find(conn, vm_id)
    stream = conn.newStream(libvirt.VIR_STREAM_NONBLOCK)
    flags = libvirt.VIR_DOMAIN_CONSOLE_SAFE | (libvirt.VIR_DOMAIN_CONSOLE_FORCE if force else 0)
    try:
        domain.openConsole(None, stream, flags)
    except libvirt.libvirtError as error:
        if problems.code(error) == libvirt.VIR_ERR_OPERATION_FAILED:  # "Active console session exists"
            raise ConsoleInUse(vm=domain.name()) from None
        devices = ET.XML(domain.XMLDesc(0))
        if not any(devices.findall(f"devices/{kind}[@type='pty']") for kind in ("serial", "console")):
            raise NoSerialConsole(vm=domain.name()) from None
        raise
    return Console(stream, loop)


class Console:
    """Both ends hold little: a reader that is slow slows the guest's output, a guest that is slow the writer."""

    def __init__(self, stream: libvirt.virStream, loop: asyncio.AbstractEventLoop) -> None:
        self._stream = stream
        self._loop = loop
        self._lock = threading.Lock()  # over what follows: the event thread and the loop both touch it
        self._in = bytearray()
        self._out = bytearray()
        self._ended = False
        self._wanted = 0
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._closed = False
        with self._lock:
            self._wanted = self._events()
            stream.eventAddCallback(self._wanted, self._on_event, None)

    async def read(self) -> bytes:
        """The next bytes; empty at the end."""
        while True:
            await self._readable.wait()
            with self._lock:
                data, ended = bytes(self._in), self._ended
                self._in.clear()
                if not ended:
                    self._readable.clear()
                self._listen()
            if data or ended:
                return data  # else it was woken for what the last read took

    async def write(self, data: bytes) -> None:
        """Returns when the bytes are on their way, or lost because the other side is gone."""
        await self._writable.wait()
        with self._lock:
            if self._ended:
                return
            self._out += data
            if len(self._out) >= _HELD_MAX:
                self._writable.clear()
            self._listen()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with self._lock:
            self._end()
        # abort() waits for libvirt's answer: not on the loop, and not for ever.
        done = asyncio.Event()
        threading.Thread(target=self._abort, args=(done,), name="console-close", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                await done.wait()

    def _abort(self, done: asyncio.Event) -> None:
        with contextlib.suppress(libvirt.libvirtError):
            self._stream.abort()
        self._call(done.set)

    # ---- below: with the lock held -----------------------------------------------------------------------------------

    def _events(self) -> int:
        events = int(_ALWAYS)
        if len(self._in) < _HELD_MAX:
            events |= libvirt.VIR_STREAM_EVENT_READABLE
        if self._out:
            events |= libvirt.VIR_STREAM_EVENT_WRITABLE
        return events

    def _listen(self) -> None:
        """Ask for the events that matter now."""
        events = self._events()
        if not self._ended and events != self._wanted:
            self._wanted = events
            with contextlib.suppress(libvirt.libvirtError):  # the connection is gone: the error event says so
                self._stream.eventUpdateCallback(events)

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        with contextlib.suppress(libvirt.libvirtError):
            self._stream.eventRemoveCallback()
        self._call(self._readable.set)
        self._call(self._writable.set)

    def _on_event(self, _stream: libvirt.virStream, events: int, _opaque: object) -> None:
        """In libvirt's event thread."""
        with self._lock:
            if self._ended:
                return
            try:
                if events & libvirt.VIR_STREAM_EVENT_READABLE:
                    self._receive()
                if events & libvirt.VIR_STREAM_EVENT_WRITABLE:
                    self._send()
            except libvirt.libvirtError:
                self._end()
            if events & _ALWAYS:
                self._end()
            self._listen()

    def _receive(self) -> None:
        while len(self._in) < _HELD_MAX:
            data = self._stream.recv(_CHUNK)
            if data == _WOULD_BLOCK:
                break
            if not data:
                self._end()
                break
            self._in += data
        if self._in:
            self._call(self._readable.set)

    def _send(self) -> None:
        while self._out:
            sent = self._stream.send(bytes(self._out[:_CHUNK]))
            if sent == _WOULD_BLOCK:
                break
            del self._out[:sent]
        if len(self._out) < _HELD_MAX:
            self._call(self._writable.set)

    def _call(self, what: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(what)
