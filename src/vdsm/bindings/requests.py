# SPDX-License-Identifier: Apache-2.0
"""One HTTP request: its path, query, headers and body, each read when asked for."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl, unquote_to_bytes

from vdsm.contract.codec import parse_json
from vdsm.contract.errors import (
    ForeignOrigin,
    InvalidParams,
    InvalidRequest,
    NotAcceptable,
    RequestTooLarge,
    TooBusy,
    UnsupportedMediaType,
)

from . import fields
from .answers import NO_SNIFF, Headers, Receive, Scope
from .connection import Guest
from .options import RestOptions

Query = dict[str, list[str]]
Take = Callable[[bytes], bytearray]

_SANE_KEY = re.compile(r"[!-~]{1,255}", re.ASCII)
_MAX_PAIRS = 256  # in a query
_STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=31536000")
_NONE = fields.Preferences()

# A random part for the process and a running number: unique, and free of a system call for each request.
_process = os.urandom(6).hex()
_numbers = itertools.count(1)


class Disconnected(Exception):  # the client's doing, no error of ours
    """The client left before its request was complete."""


class Request:
    __slots__ = ("flow_id", "guest", "headers", "method", "path", "scope")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.method: str = scope.get("method", "GET")  # a WebSocket's opening is a GET
        self.path: str = scope["path"]
        self.guest: Guest = scope["state"]["guest"]
        pairs: list[tuple[bytes, bytes]] = scope["headers"]
        headers = dict(pairs)
        self.headers = headers if len(headers) == len(pairs) else fields.joined(pairs)
        given = headers.get(b"flow-id") or headers.get(b"x-request-id")
        self.flow_id = (given and fields.sane_id(given)) or f"{_process}{next(_numbers):06x}"

    @property
    def what(self) -> str:
        """It in a few words, for people."""
        return f"{self.method} {self.path}"

    def segments(self) -> list[str]:
        """The path, decoded piece by piece, so that an escaped slash stays within its piece. Raises InvalidRequest."""
        raw: bytes = self.scope["raw_path"]
        if b"%" not in raw:
            return self.path.split("/")[1:]
        try:
            return [unquote_to_bytes(piece).decode() for piece in raw.split(b"/")[1:]]
        except UnicodeDecodeError:
            raise InvalidRequest(reason="the path is not UTF-8") from None

    def query(self) -> Query:
        """Every value of every name. Raises InvalidRequest."""
        raw: bytes = self.scope["query_string"]
        found: Query = {}
        if raw:
            try:
                text = raw.decode("ascii")
                pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_PAIRS)
            except ValueError as error:
                raise InvalidRequest(reason=f"the query string: {error}") from None
            for name, value in pairs:
                found.setdefault(name, []).append(value)
        return found

    def check_accept(self, offered: str = "application/json") -> None:
        """Raises NotAcceptable."""
        accept = self.headers.get(b"accept")
        if accept is not None and not fields.accepts(accept, offered):
            raise NotAcceptable(offered=offered)

    def check_origin(self) -> None:
        """A page of another host may not use the certificate its reader's browser shows. Raises ForeignOrigin."""
        origin = self.headers.get(b"origin")
        kind = self.guest.channel.kind
        if origin is None or kind == "unix":
            return
        scheme = b"https://" if kind == "tls" else b"http://"
        if origin.lower() != scheme + self.headers.get(b"host", b"").lower():
            raise ForeignOrigin(origin=origin.decode("latin-1"))

    def deadline(self) -> float | None:
        """Seconds, from `Request-Timeout`. Raises InvalidRequest."""
        given = self.headers.get(b"request-timeout")
        if given is None:
            return None
        value = fields.seconds(given.decode("latin-1"))
        if not value:
            raise InvalidRequest(reason=f"Request-Timeout takes seconds, above 0 and up to {fields.LONGEST_WAIT:.0f}")
        return value

    def preferences(self) -> fields.Preferences:
        given = self.headers.get(b"prefer")
        return _NONE if given is None else fields.preferences(given)

    def idempotency_key(self) -> str:
        """Raises InvalidRequest."""
        given = self.headers.get(b"idempotency-key")
        if given is None:
            return ""
        key = given.decode("latin-1")
        if not _SANE_KEY.fullmatch(key):
            raise InvalidRequest(reason="an Idempotency-Key has 1 to 255 visible ASCII characters")
        return key

    def echo(self) -> Headers:
        """The headers every answer to this request carries."""
        flow_id = self.flow_id.encode()
        headers = [NO_SNIFF, (b"flow-id", flow_id)]
        if b"x-request-id" in self.headers:
            headers.append((b"x-request-id", flow_id))
        if self.guest.channel.kind == "tls":
            headers.append(_STRICT_TRANSPORT)
        return headers

    async def body(self, receive: Receive, bodies: Bodies) -> dict[str, object]:
        """The JSON object that was sent; an empty body is an empty object.

        Raises UnsupportedMediaType, RequestTooLarge, TooBusy, InvalidRequest, InvalidParams, Disconnected.
        """
        length = self.headers.get(b"content-length")
        sent = b"transfer-encoding" in self.headers or (length is not None and length != b"0")
        self._check_media(sent=sent)
        if not sent:
            return {}
        with bodies.arriving(int(length or 0)) as take:
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                data = take(message.get("body", b""))
                more = message.get("more_body", False)
            value = parse_json(bytes(data)) if data else {}
        if not isinstance(value, dict):
            raise InvalidParams(reason="Expected `object`")
        return value

    def _check_media(self, *, sent: bool) -> None:
        encoding = self.headers.get(b"content-encoding")
        if encoding is not None and encoding.lower() != b"identity":
            raise UnsupportedMediaType(got=f"compressed with {encoding.decode('latin-1')}")
        media = self.headers.get(b"content-type")
        if media is None:
            if sent:
                raise UnsupportedMediaType(got="of no stated type")
        elif not fields.is_json(media):
            raise UnsupportedMediaType(got=media.decode("latin-1"))


class Bodies:
    """Counts what all requests together hold of their bodies while these arrive."""

    def __init__(self, options: RestOptions) -> None:
        self._limit = options.max_body
        self._room = options.max_bodies

    @contextmanager
    def arriving(self, announced: int) -> Iterator[Take]:
        """Gives a function that takes a piece and returns all there is.

        Raises RequestTooLarge and TooBusy, as that function does.
        """
        if announced > self._limit:
            raise RequestTooLarge(limit=self._limit)
        data = bytearray()

        def take(piece: bytes) -> bytearray:
            if len(data) + len(piece) > self._limit:
                raise RequestTooLarge(limit=self._limit)
            if len(piece) > self._room:
                raise TooBusy(what="request bodies")
            self._room -= len(piece)
            data.extend(piece)
            return data

        try:
            yield take
        finally:
            self._room += len(data)
