# SPDX-License-Identifier: Apache-2.0
"""Several HTTP applications behind one door: each request goes to the first that takes it, else to REST."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from vdsm.contract.errors import ForeignHost, Problem

from .answers import Receive, Scope, Send, problem_answer, refuse_websocket, send_answer
from .connection import Guest
from .identity import Identity
from .listener import Application
from .requests import Request

HttpApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_OWN_NAME = re.compile(rb"(localhost|[0-9.]+|\[[0-9a-f:.]+\])(:[0-9]+)?", re.IGNORECASE)


class Branch(NamedTuple):
    """An application, and which requests are its own: a look at method, path and headers."""

    takes: Callable[[Scope], bool]
    app: HttpApp


class Dispatch:
    """See `listener.Application`."""

    def __init__(self, rest: Application, identity: Identity, branches: Sequence[Branch] = ()) -> None:
        self._rest = rest
        self._identity = identity
        self._branches = (Branch(_is_foreign, self._refuse_host), *branches)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        for takes, app in self._branches:
            if takes(scope):
                return app(scope, receive, send)
        return self._rest(scope, receive, send)

    def end_streams(self) -> None:
        self._rest.end_streams()

    async def _refuse_host(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = ForeignHost(name=header(scope, b"host").decode("latin-1"))
        request = Request(scope)
        self._identity.turned_away(problem, request.guest.channel, request.what, request.flow_id)
        await _refuse(scope, receive, send, problem)


def header(scope: Scope, name: bytes) -> bytes:
    """The first value of a header; empty without one."""
    return next((value for key, value in scope["headers"] if key == name), b"")


def _is_foreign(scope: Scope) -> bool:
    """Without TLS any web site can have its name stand for this host, and a browser here then lets its pages call us.

    Such a request names the site. An address, or localhost, nobody can claim. HTTP/1.0 lets a program name nothing,
    which no browser does.
    """
    guest: Guest = scope["state"]["guest"]
    if guest.channel.kind != "tcp" or _OWN_NAME.fullmatch(header(scope, b"host")):
        return False
    return scope["http_version"] != "1.0" or any(name == b"host" for name, _ in scope["headers"])


async def _refuse(scope: Scope, receive: Receive, send: Send, problem: Problem) -> None:
    answer = problem_answer(problem, "")
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        await refuse_websocket(send, answer)
    else:
        await send_answer(send, answer)
