# SPDX-License-Identifier: Apache-2.0
"""HTTP answers as data, the problem document among them, and how they go out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import msgspec

from vdsm.contract.errors import Problem, Unauthenticated
from vdsm.protocols import problem as rfc9457

Headers = list[tuple[bytes, bytes]]
Scope = MutableMapping[str, Any]  # ASGI's word for the request; its values are of many types
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = (b"content-type", b"application/json")
PROBLEM_JSON = (b"content-type", rfc9457.MEDIA_TYPE.encode())
NO_SNIFF = (b"x-content-type-options", b"nosniff")
NO_STORE = (b"cache-control", b"no-store")
REVALIDATE = (b"cache-control", b"private, no-cache")

_RETRY_AFTER = (b"retry-after", b"1")  # seconds; what is busy or starting now mostly is not a second later


@dataclass(slots=True)
class Answer:
    """Everything but the common headers."""

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes = b""

    def all_headers(self) -> Headers:
        """With the length of the body, for a status that has one."""
        if self.status in (204, 304):
            return self.headers
        return [*self.headers, (b"content-length", str(len(self.body)).encode())]


def problem_answer(problem: Problem, flow_id: str, *headers: tuple[bytes, bytes]) -> Answer:
    """The RFC 9457 answer, with the headers its status asks for."""
    members: Mapping[str, object] = msgspec.to_builtins(problem.body(flow_id))
    extra = [PROBLEM_JSON, NO_STORE, *headers]
    if problem.retryable:
        extra.append(_RETRY_AFTER)
    if isinstance(problem, Unauthenticated):
        extra.append((b"www-authenticate", b'Bearer realm="vdsm"'))
    instance = f"urn:vdsm:flow:{flow_id}" if flow_id else ""
    return Answer(problem.status, extra, rfc9457.encode(members, instance=instance))


async def send_answer(send: Send, answer: Answer) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.all_headers()})
    await send({"type": "http.response.body", "body": answer.body})


async def refuse_websocket(send: Send, answer: Answer) -> None:
    """Answer a WebSocket's opening request with plain HTTP."""
    await send({"type": "websocket.http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "websocket.http.response.body", "body": answer.body})


def raw_answer(answer: Answer) -> bytes:
    """The answer as bytes for a connection that ends with it: for requests too broken to reach the application."""
    headers = [
        *answer.headers,
        NO_SNIFF,
        (b"content-length", str(len(answer.body)).encode()),
        (b"connection", b"close"),
    ]
    status = f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n".encode()
    return status + b"".join(b"%s: %s\r\n" % pair for pair in headers) + b"\r\n" + answer.body
