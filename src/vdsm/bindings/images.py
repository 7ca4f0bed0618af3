# SPDX-License-Identifier: Apache-2.0
"""The published image streams on the HTTP door: PUT and GET with `Storage-*` headers, to and from any path."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import AsyncIterator, Mapping

import msgspec

from vdsm.contract import VERBS, AnyVerb, ByteStream
from vdsm.contract.errors import (
    InternalError,
    InvalidRequest,
    LengthRequired,
    Problem,
    Unauthenticated,
)
from vdsm.core.bridge import Bridge
from vdsm.core.caller import Caller

from .answers import JSON, NO_STORE, Answer, Receive, Scope, Send, problem_answer, send_answer
from .dispatch import Branch
from .identity import Identity
from .requests import Disconnected, Request

_log = logging.getLogger(__name__)

_IDS = {"storagepoolID": b"storage-pool-id", "storagedomainID": b"storage-domain-id", "imageID": b"image-id"}
_VOLUME_ID = b"volume-id"
_MARK = b"storage-"  # how the headers begin by which such a request is known, whatever its path
_LENGTH = re.compile(rb"[0-9]{1,18}")
_RANGE = re.compile(rb"bytes=0-([0-9]{1,18})")
_OWN_STATUS = (400, 401, 403, 411)  # of problems of the request; with any other the published servers say 500


class ImageStreamsApp:
    """An ASGI application; all checks are the bridge's."""

    def __init__(self, bridge: Bridge, identity: Identity, *, verbs: Mapping[str, AnyVerb] = VERBS) -> None:
        self._bridge = bridge
        self._identity = identity
        self._receive, self._send = verbs["Image.receive"], verbs["Image.send"]

    @property
    def branch(self) -> Branch:
        """For `dispatch.Dispatch`."""
        return Branch(takes, self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        try:
            request.check_origin()
            caller = await self._caller(request)
            if request.method == "GET":
                await self._give(request, caller, receive, send)
                return
            answer = await self._take(request, caller, receive)
        except Problem as problem:
            self._identity.turned_away(problem, request.guest.channel, request.what, request.flow_id)
            answer = _refusal(problem, request.flow_id)
        except Disconnected:
            return
        except Exception:  # the last net: a defect of this binding must answer as one of the daemon's does
            _log.exception("an image stream failed by a defect (flow %s)", request.flow_id)
            answer = _refusal(InternalError(reason="the request could not be served"), request.flow_id)
        answer.headers += request.echo()
        await send_answer(send, answer)

    async def _caller(self, request: Request) -> Caller:
        """Raises Unauthenticated."""
        channel = request.guest.channel
        if (authorization := request.headers.get(b"authorization")) is not None:
            return await self._identity.of_token(authorization.decode("latin-1"), channel)
        if (caller := self._identity.of_channel(channel)) is None:
            raise Unauthenticated(reason=f"{channel.peer} shows neither a known certificate nor a token")
        return caller

    async def _open(self, verb: AnyVerb, request: Request, caller: Caller, size: bytes, task_id: str) -> ByteStream:
        """Raises Problem."""
        params: dict[str, object] = {"size": int(size), "taskID": task_id}
        for name, header in _IDS.items():
            if header not in request.headers:
                raise InvalidRequest(reason=f"there is no header {header.decode().title()}")
            params[name] = request.headers[header].decode("latin-1")
        if _VOLUME_ID in request.headers:
            params["volumeID"] = request.headers[_VOLUME_ID].decode("latin-1")
        return await self._bridge.open(verb, params, caller, flow_id=request.flow_id)

    # ---- there -----------------------------------------------------------------------------------------------------

    async def _take(self, request: Request, caller: Caller, receive: Receive) -> Answer:
        """Raises Problem, Disconnected."""
        length = request.headers.get(b"content-length")
        if length is None:
            raise LengthRequired()
        if not _LENGTH.fullmatch(length):
            raise InvalidRequest(reason="the Content-Length is no number of bytes")
        task_id = f"{uuid.uuid4()}"
        stream = await self._open(self._receive, request, caller, length, task_id)
        try:
            async for piece in _body(request, receive):
                await stream.write(piece)
            await stream.read()  # until all is on the disk
        finally:
            await stream.close()
        return Answer(200, [(b"task-id", task_id.encode()), NO_STORE])

    # ---- and back --------------------------------------------------------------------------------------------------

    async def _give(self, request: Request, caller: Caller, receive: Receive, send: Send) -> None:
        """Raises Problem as long as nothing was sent."""
        wanted = _RANGE.fullmatch(request.headers.get(b"range", b""))
        if wanted is None:
            raise InvalidRequest(reason="the header Range is not bytes=0-<last>")
        size, task_id = int(wanted[1]) + 1, f"{uuid.uuid4()}"
        stream = await self._open(self._send, request, caller, b"%d" % size, task_id)
        try:
            headers = [
                (b"content-type", b"application/octet-stream"),
                (b"content-length", b"%d" % size),
                (b"content-range", b"bytes 0-%d" % (size - 1)),
                (b"task-id", task_id.encode()),
                NO_STORE,
                *request.echo(),
            ]
            first = await stream.read()
            await send({"type": "http.response.start", "status": 206, "headers": headers})
            sending = asyncio.ensure_future(_pour(first, stream, send))
            leaving = asyncio.ensure_future(_until_gone(receive))
            await asyncio.wait([sending, leaving], return_when=asyncio.FIRST_COMPLETED)
            for part in (sending, leaving):
                part.cancel()
            results = await asyncio.gather(sending, leaving, return_exceptions=True)
        finally:
            await stream.close()
        if isinstance(failed := results[0], BaseException):
            # The status is out: that the body ends too early is all that can still be said.
            request.guest.transport.abort()
            if not isinstance(failed, (Problem, OSError, asyncio.CancelledError)):
                raise failed


async def _body(request: Request, receive: Receive) -> AsyncIterator[bytes]:
    """The pieces as they come; each has the time of a whole body. Raises Disconnected."""
    clock, more = asyncio.get_running_loop().time, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        more = message.get("more_body", False)
        if more:
            request.guest.waiting_since = clock()
        if body := message.get("body", b""):
            yield body


async def _pour(first: bytes, stream: ByteStream, send: Send) -> None:
    data = first
    while data:
        await send({"type": "http.response.body", "body": data, "more_body": True})
        data = await stream.read()
    await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _refusal(problem: Problem, flow_id: str) -> Answer:
    """With the published struct, and the members of ours beside it."""
    answer = problem_answer(problem, flow_id)
    if problem.status not in _OWN_STATUS:
        answer.status = 500
        answer.headers = [JSON if name == b"content-type" else (name, value) for name, value in answer.headers]
    members: Mapping[str, object] = msgspec.json.decode(answer.body)
    answer.body = msgspec.json.encode({**members, "status": {"code": problem.code, "message": str(problem)}})
    return answer


def takes(scope: Scope) -> bool:
    """Whether a request is an image stream."""
    if scope["type"] != "http" or scope["method"] not in ("GET", "PUT") or scope["path"].startswith("/api/"):
        return False
    return any(name.startswith(_MARK) for name, _ in scope["headers"])
