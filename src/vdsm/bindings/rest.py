# SPDX-License-Identifier: Apache-2.0
"""The REST door as an ASGI application: every verb under /api/v1, and the few pages that are no verbs."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Mapping

import msgspec

from vdsm.contract import VERBS, AnyVerb, Kind
from vdsm.contract.access import Privilege
from vdsm.contract.errors import (
    AccessDenied,
    InternalError,
    MethodNotAllowed,
    MethodNotFound,
    Problem,
    Unauthenticated,
)
from vdsm.core.bridge import Bridge
from vdsm.core.caller import Caller

from .answers import (
    JSON,
    NO_STORE,
    Answer,
    Message,
    Receive,
    Scope,
    Send,
    problem_answer,
    refuse_websocket,
    send_answer,
)
from .connection import write_answer
from .endpoints import Change, Endpoint, Read, StreamOnly, task_url
from .identity import Identity
from .openapi import ROOT
from .options import RestOptions
from .pages import Pages
from .requests import Bodies, Disconnected, Request
from .routes import Routes, Values
from .stream import SocketEndpoint, Streams

_log = logging.getLogger(__name__)


_KNOWN, _KNOWN_LENGTH = 2048, 256  # paths remembered, and bytes of each


class Status(enum.StrEnum):
    """What /health says of the daemon."""

    STARTING = "starting"
    OK = "ok"
    STOPPING = "stopping"


class RestApp:
    """`metrics` gives OpenMetrics text; `status` says whether the daemon can serve."""

    def __init__(
        self,
        bridge: Bridge,
        identity: Identity,
        *,
        metrics: Callable[[], bytes],
        status: Callable[[], Status] = lambda: Status.OK,
        options: RestOptions | None = None,
        verbs: Mapping[str, AnyVerb] = VERBS,
    ) -> None:
        self._identity = identity
        self._metrics = metrics
        self._status = status
        self._streams = Streams(bridge, self._identify, options or RestOptions())
        self._bodies = Bodies(options or RestOptions())
        self._routes: Routes[Endpoint] = Routes()
        self._sockets: Routes[SocketEndpoint] = Routes()
        # Clients poll the same paths again and again: what was found is kept, by the path as it was sent.
        self._known: dict[tuple[str, bytes], tuple[Endpoint, Values]] = {}
        self._add_verbs(bridge, verbs)
        self._add_pages(Pages(verbs))

    def end_streams(self) -> None:
        """Let every event stream and console end, since the daemon does."""
        self._streams.end()

    def _add_verbs(self, bridge: Bridge, verbs: Mapping[str, AnyVerb]) -> None:
        locate = task_url(verbs, ROOT)
        for verb in verbs.values():
            path = ROOT + verb.route.path
            endpoint: Endpoint
            if verb.kind is Kind.STREAM:
                endpoint = StreamOnly(verb)
                self._sockets.add("GET", path, self._streams.tunnel(verb))
            elif verb.mutates:
                endpoint = Change(verb, bridge, self._identify, self._bodies, locate)
            else:
                endpoint = Read(verb, bridge, self._identify)
            self._routes.add(verb.route.method, path, endpoint)

    def _add_pages(self, pages: Pages) -> None:
        self._sockets.add("GET", ROOT + "/events", self._streams.events_socket)
        for path, endpoint in {
            ROOT + "/events": self._streams.events,
            "/metrics": self._give_metrics,
            "/health": self._give_health,
            **pages.endpoints(),
        }.items():
            self._routes.add("GET", path, endpoint)

    # ---- requests --------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if scope["type"] == "websocket":
            await self._serve_websocket(request, receive, send)
            return
        try:
            answer = await self._serve(request, receive, send)
        except Problem as problem:
            answer = self._refusal(request, problem)
        except Disconnected:
            return
        except Exception:  # the last net: a defect of this binding must answer as one of the daemon's does
            answer = _defect(request)
        if answer is not None:
            answer.headers += request.echo()
            if not write_answer(send, answer):
                await send_answer(send, answer)

    async def _serve(self, request: Request, receive: Receive, send: Send) -> Answer | None:
        found = self._known.get((request.method, request.scope["raw_path"])) or self._find(request)
        if found is not None:
            endpoint, values = found
            return await endpoint(request, values, receive, send)
        segments, method = request.segments(), request.method
        methods = self._routes.methods(segments)
        if not methods:
            raise MethodNotFound(method=f"{method} {request.path}")
        allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"])
        allow = (b"allow", allowed.encode())
        if method == "OPTIONS":
            return Answer(204, [NO_STORE, allow])
        refusal = MethodNotAllowed(path=request.path, method=method, allowed=allowed)
        return problem_answer(refusal, request.flow_id, allow)

    def _find(self, request: Request) -> tuple[Endpoint, Values] | None:
        found = self._routes.find("GET" if request.method == "HEAD" else request.method, request.segments())
        path: bytes = request.scope["raw_path"]
        if found is not None and len(path) <= _KNOWN_LENGTH:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[request.method, path] = found
        return found

    async def _serve_websocket(self, request: Request, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        opened = False

        async def watched(message: Message) -> None:
            nonlocal opened
            opened = opened or message["type"] == "websocket.accept"
            await send(message)

        try:
            found = self._sockets.find("GET", request.segments())
            if found is None:
                raise MethodNotFound(method=f"the WebSocket {request.path}")
            request.check_origin()
            endpoint, values = found
            await endpoint(request, values, receive, watched)
        except Problem as problem:
            answer = self._refusal(request, problem)
        except Exception:  # as above
            answer = _defect(request)
        else:
            return
        if opened:
            await send({"type": "websocket.close", "code": 1011})
        else:
            answer.headers += request.echo()
            await refuse_websocket(send, answer)

    def _refusal(self, request: Request, problem: Problem) -> Answer:
        self._identity.turned_away(problem, request.guest.channel, request.what, request.flow_id)
        return problem_answer(problem, request.flow_id)

    async def _identify(self, request: Request) -> Caller:
        """Raises Unauthenticated."""
        guest = request.guest
        authorization = request.headers.get(b"authorization")
        if authorization is not None:
            return await self._identity.of_token(authorization.decode("latin-1"), guest.channel)
        if guest.caller is None:
            guest.caller = self._identity.of_channel(guest.channel)
            if guest.caller is None:
                raise Unauthenticated(reason=f"{guest.channel.peer} shows neither a known certificate nor a token")
        return guest.caller

    # ---- pages about the daemon --------------------------------------------------------------------------------------

    async def _give_metrics(self, request: Request, values: Values, receive: Receive, send: Send) -> Answer:
        caller = await self._identify(request)
        if not caller.may(Privilege.HOST_READ):
            problem = AccessDenied(caller=caller.identity, privilege=Privilege.HOST_READ, method="/metrics")
            self._identity.refusals.note_caller(problem, request.what, caller)
            raise problem
        media = b"application/openmetrics-text; version=1.0.0; charset=utf-8"
        return Answer(200, [(b"content-type", media), NO_STORE], self._metrics())

    async def _give_health(self, request: Request, values: Values, receive: Receive, send: Send) -> Answer:
        status = self._status()
        body = msgspec.json.encode({"status": status})
        return Answer(200 if status is Status.OK else 503, [JSON, NO_STORE], body)


def _defect(request: Request) -> Answer:
    _log.exception("a request failed by a defect (flow %s)", request.flow_id)
    return problem_answer(InternalError(reason="the request could not be served"), request.flow_id)
