# SPDX-License-Identifier: Apache-2.0
"""The pages about the API: OpenAPI document, readable documentation, and the way there from `/`."""

from __future__ import annotations

import functools
from base64 import b64encode
from collections.abc import Mapping
from hashlib import blake2b, sha256

import msgspec

from vdsm.contract import AnyVerb

from . import docs
from .answers import JSON, REVALIDATE, Answer, Receive, Send
from .endpoints import Endpoint
from .fields import matches_etag
from .openapi import ROOT, document
from .requests import Request
from .routes import Values

DOCS = "/api/docs"

_HTML = (b"content-type", b"text/html; charset=utf-8")


class Page:
    """A body that never changes while the daemon runs."""

    def __init__(self, body: bytes, *headers: tuple[bytes, bytes]) -> None:
        self._body = body
        self._etag = b'"%s"' % blake2b(body, digest_size=12).hexdigest().encode()
        self._headers = [REVALIDATE, (b"etag", self._etag), *headers]

    def answer(self, request: Request) -> Answer:
        known = request.headers.get(b"if-none-match")
        if known is not None and matches_etag(known, self._etag):
            return Answer(304, [*self._headers])
        return Answer(200, [*self._headers], self._body)


class Pages:
    """Each is made when it is first asked for."""

    def __init__(self, verbs: Mapping[str, AnyVerb]) -> None:
        self._verbs = verbs

    def endpoints(self) -> dict[str, Endpoint]:
        """By path. They say nothing of this host, so whoever can connect may read them."""
        return {ROOT + "/openapi.json": self._give_openapi, DOCS: self._give_docs, "/": self._redirect}

    @functools.cached_property
    def _openapi(self) -> Page:
        return Page(msgspec.json.encode(document(self._verbs)), JSON)

    @functools.cached_property
    def _docs(self) -> Page:
        style = docs.style()
        digest = b64encode(sha256(style.encode()).digest())
        policy = b"default-src 'none'; style-src 'sha256-%s'; frame-ancestors 'none'; base-uri 'none'" % digest
        html = docs.render(document(self._verbs), style)
        return Page(html.encode(), _HTML, (b"content-security-policy", policy))

    async def _give_openapi(self, request: Request, values: Values, receive: Receive, send: Send) -> Answer:
        request.check_accept()
        return self._openapi.answer(request)

    async def _give_docs(self, request: Request, values: Values, receive: Receive, send: Send) -> Answer:
        return self._docs.answer(request)

    async def _redirect(self, request: Request, values: Values, receive: Receive, send: Send) -> Answer:
        return Answer(302, [(b"location", DOCS.encode())])
