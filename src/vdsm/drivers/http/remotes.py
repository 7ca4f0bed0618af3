# SPDX-License-Identifier: Apache-2.0
"""The `Remotes` port over HTTP/1.1 and TLS. One request, one connection; what a server says is hostile."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlsplit

import httptools

from vdsm.contract.errors_storage import RemoteTransferError
from vdsm.core.ports.remotes import Give, Take

_PIECE = 4 << 20
_READ = 256 << 10
_HEAD_MAX = 64 << 10
_AT_ONCE = 4
_PORTS = {"http": 80, "https": 443}


class HttpRemotes:
    """`ca_file` holds the authorities to trust beside the system's; `idle_s` is how long a server may be silent."""

    def __init__(self, ca_file: str = "", *, idle_s: float = 60.0) -> None:
        self._ca_file = ca_file
        self._idle_s = idle_s
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def fetch(self, url: str, headers: Mapping[str, str], take: Take, *, most: int) -> int:
        async with self._slots, self._connection(url) as wire:
            await wire.write(_head("GET", url, headers))
            answer = await wire.answer()
            if answer.length is None:
                raise wire.failed("it does not say how long its answer is")
            if answer.length > most:
                raise wire.failed(f"it would send {answer.length} bytes, and there is room for {most}")
            came = 0
            while came < answer.length:
                piece = await wire.body(_PIECE)
                if not piece:
                    raise wire.failed(f"it sent {came} bytes of {answer.length}")
                came += len(piece)
                await take(piece, answer.length)
            return came

    async def send(self, url: str, headers: Mapping[str, str], give: Give, length: int) -> None:
        async with self._slots, self._connection(url) as wire:
            await wire.write(_head("PUT", url, {**headers, "Content-Length": str(length)}))
            sent = 0
            while sent < length:
                piece = await give(sent, min(_PIECE, length - sent))
                if not piece:
                    raise wire.failed(f"what is sent has become shorter than {length} bytes")
                sent += len(piece)
                if not await wire.try_write(piece):  # it refuses, and may have said why
                    break
            await wire.answer()
            if sent < length:
                raise wire.failed(f"it took {sent} bytes of {length}")

    @contextlib.asynccontextmanager
    async def _connection(self, url: str) -> AsyncIterator[_Wire]:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        wire = _Wire(parts.netloc, self._idle_s)
        try:
            async with asyncio.timeout(self._idle_s):
                context = await asyncio.to_thread(self._context) if parts.scheme == "https" else None
                wire.reader, wire.writer = await asyncio.open_connection(host, port, ssl=context, limit=_READ)
        except TimeoutError:
            raise wire.failed("it does not answer") from None
        except (OSError, ssl.SSLError) as error:
            raise wire.failed(str(error)) from None
        try:
            yield wire
        finally:
            wire.writer.transport.abort()

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._ca_file:
            context.load_verify_locations(self._ca_file)
        return context


def _head(method: str, url: str, headers: Mapping[str, str]) -> bytes:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = {"Host": parts.netloc, "Connection": "close", "Accept-Encoding": "identity", **headers}
    return "".join(
        [f"{method} {target} HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in lines.items()), "\r\n"]
    ).encode("latin-1")


class _Wire:
    """A connection on which one request is made. httptools calls the `on_` methods."""

    def __init__(self, server: str, idle_s: float) -> None:
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter
        self.length: int | None = None
        self._server = server
        self._idle_s = idle_s
        self._parser = httptools.HttpResponseParser(self)
        self._head, self._complete = 0, False
        self._headed = False
        self._body = bytearray()
        self._chunked = False

    def failed(self, reason: str) -> RemoteTransferError:
        return RemoteTransferError(server=self._server, reason=reason)

    # ---- what the parser tells ---------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"content-length" if value.isdigit() and len(value) < 19:
                self.length = int(value)
            case b"transfer-encoding" | b"content-encoding" if value.lower() != b"identity":
                self._chunked = True

    def on_headers_complete(self) -> None:
        self._headed = self._parser.get_status_code() >= 200
        if not self._headed:  # 100: go on
            self.length = None

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        self._complete = self._headed

    # ---- what is done with it ----------------------------------------------------------------------------------------

    async def write(self, data: bytes) -> None:
        if not await self.try_write(data):
            raise self.failed("it closed the connection")

    async def try_write(self, data: bytes) -> bool:
        """False: it does not listen any more."""
        try:
            self.writer.write(data)
            async with asyncio.timeout(self._idle_s):
                await self.writer.drain()
        except TimeoutError:
            raise self.failed("it does not take what is sent") from None
        except OSError:
            return False
        return True

    async def answer(self) -> _Wire:
        """Its head, of an answer that says that all is well."""
        while not self._headed:
            if not await self._more():
                raise self.failed("it closed the connection without an answer")
            if self._head > _HEAD_MAX and not self._headed:
                raise self.failed("its answer has no end of headers")
        status = self._parser.get_status_code()
        if 300 <= status < 400:
            raise self.failed(f"it answered {status}, and no redirect is followed")
        if status not in (200, 201, 204):
            raise self.failed(f"it answered {status}")
        if self._chunked:
            self.length = None
        return self

    async def body(self, most: int) -> bytes:
        """The next piece; empty at the end."""
        while len(self._body) < most and not self._complete:
            if not await self._more():
                break
        piece = bytes(self._body[:most])
        del self._body[:most]
        return piece

    async def _more(self) -> bool:
        try:
            async with asyncio.timeout(self._idle_s):
                data = await self.reader.read(_READ)
            self._head += len(data)
            if data:
                self._parser.feed_data(data)
        except TimeoutError:
            raise self.failed("it is silent") from None
        except (OSError, httptools.HttpParserError) as error:
            raise self.failed(str(error)) from None
        return bool(data)
