# SPDX-License-Identifier: Apache-2.0
"""XML-RPC on the HTTP door: POST of text/xml to any path, the historical names and the contract's own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from vdsm.contract import VERBS, AnyVerb
from vdsm.contract.errors import (
    InternalError,
    InvalidParams,
    MethodNotFound,
    MethodNotImplemented,
    Problem,
    Unauthenticated,
    UnsupportedMediaType,
)
from vdsm.core.bridge import Bridge
from vdsm.core.caller import Caller
from vdsm.protocols import historical, xmlrpc
from vdsm.protocols.dialect import XMLRPC, Dialect
from vdsm.protocols.errors import DialectError
from vdsm.protocols.xmlrpc import BadXmlRpc

from . import fields
from .answers import NO_STORE, Answer, Receive, Scope, Send, problem_answer, send_answer
from .connection import write_answer
from .dispatch import Branch, header
from .identity import Identity
from .options import RestOptions
from .published import PublishedCalls
from .requests import Bodies, Disconnected, Request
from .xmlrpc_system import System

_log = logging.getLogger(__name__)

_MEDIA = (b"text/xml", b"application/xml")
_XML = (b"content-type", b"text/xml; charset=utf-8")
_MAX_MULTICALL = 100


class XmlRpcApp:
    """An ASGI application. Failed verbs answer a status struct; a Fault is only for what is no XML-RPC."""

    def __init__(
        self,
        bridge: Bridge,
        identity: Identity,
        *,
        options: RestOptions | None = None,
        dialect: Dialect = XMLRPC,
        verbs: Mapping[str, AnyVerb] = VERBS,
    ) -> None:
        self._calls = PublishedCalls(bridge, dialect, verbs)
        self._identity = identity
        self._bodies = Bodies(options or RestOptions())
        self._verbs = verbs
        self._system = System(verbs)

    @property
    def branch(self) -> Branch:
        """For `dispatch.Dispatch`."""
        return Branch(takes, self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if given := fields.sane_id(request.headers.get(b"flowid", b"")):
            request.flow_id = given
        try:
            answer = Answer(200, [_XML, NO_STORE], await self._serve(request, receive))
        except Problem as problem:
            self._identity.turned_away(problem, request.guest.channel, request.what, request.flow_id)
            answer = problem_answer(problem, request.flow_id)
        except Disconnected:
            return
        except Exception:  # the last net: a defect of this binding must answer as one of the daemon's does
            _log.exception("an XML-RPC request failed by a defect (flow %s)", request.flow_id)
            answer = problem_answer(InternalError(reason="the request could not be served"), request.flow_id)
        answer.headers += request.echo()
        if not write_answer(send, answer):
            await send_answer(send, answer)

    async def _serve(self, request: Request, receive: Receive) -> bytes:
        """Raises Problem for what is wrong with the HTTP request."""
        request.check_origin()
        document = await self._read(request, receive)
        try:
            call = xmlrpc.parse_call(document)
        except BadXmlRpc as error:
            return xmlrpc.write_fault(error.code, str(error))
        if call.method == "system.multicall":
            return xmlrpc.write_answer(await self._multicall(request, call.params))
        return xmlrpc.write_answer(await self._answer(request, call.method, call.params))

    async def _read(self, request: Request, receive: Receive) -> bytes:
        """Raises UnsupportedMediaType, RequestTooLarge, TooBusy, Disconnected."""
        encoding = request.headers.get(b"content-encoding", b"identity")
        if encoding.lower() != b"identity":
            raise UnsupportedMediaType(got=f"compressed with {encoding.decode('latin-1')}")
        with self._bodies.arriving(int(request.headers.get(b"content-length") or 0)) as take:
            more, data = True, bytearray()
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                data = take(message.get("body", b""))
                more = message.get("more_body", False)
            return bytes(data)

    async def _answer(self, request: Request, name: str, params: list[Any]) -> object:
        """The struct, or of `system.` methods whatever they answer."""
        try:
            if name.startswith("system."):
                return self._system.answer(name, params)
            caller = await self._identify(request)
            method, arguments = self._meaning(name, params)
            verb = self._verbs.get(method)
            if verb is None:
                raise MethodNotImplemented(method=name)
            return historical.answer(method, await self._calls.call(verb, arguments, caller, request.flow_id))
        except Problem as problem:
            self._identity.turned_away(problem, request.guest.channel, name, request.flow_id)
            return _refusal(problem, request.flow_id)
        except Exception:  # as above, in the form callers read
            _log.exception("%s failed by a defect of the binding (flow %s)", name, request.flow_id)
            return _refusal(InternalError(reason="the call could not be served"), request.flow_id)

    def _meaning(self, name: str, params: list[Any]) -> tuple[str, Mapping[str, object] | list[Any]]:
        """The verb and its arguments. A contract's name takes them in one struct, by name, or one by one.

        Raises MethodNotFound, MethodNotImplemented and InvalidParams.
        """
        if name in self._verbs:
            by_name = len(params) == 1 and isinstance(params[0], dict)
            return name, params[0] if by_name else params
        method = historical.method(name)
        if method is None:
            raise MethodNotFound(method=name)
        if method not in self._verbs:
            raise MethodNotImplemented(method=name)
        try:
            return historical.meaning(name, params)
        except DialectError as error:
            raise InvalidParams(reason=str(error), path=error.path) from None

    async def _multicall(self, request: Request, params: list[Any]) -> object:
        """Each call's answer in a list of one, as agreed for `system.multicall`; a call that is none is a fault."""
        match params:
            case [list(calls)] if len(calls) <= _MAX_MULTICALL:
                answers = []
                for call in calls:
                    answers.append(await self._one_of_many(request, call))
                    await asyncio.sleep(0)  # a hundred quick calls must not keep everybody else waiting
                return answers
            case _:
                said = f"system.multicall takes one array of at most {_MAX_MULTICALL} calls"
                return _refusal(InvalidParams(reason=said), request.flow_id)

    async def _one_of_many(self, request: Request, call: object) -> object:
        match call:
            case {"methodName": str(name), "params": list(params)} if name != "system.multicall":
                return [await self._answer(request, name, params)]
            case _:
                return {"faultCode": xmlrpc.NOT_XMLRPC, "faultString": "a call has a methodName and params"}

    async def _identify(self, request: Request) -> Caller:
        """Raises Unauthenticated."""
        channel = request.guest.channel
        authorization = request.headers.get(b"authorization")
        if authorization is not None:
            return await self._identity.of_token(authorization.decode("latin-1"), channel)
        caller = self._identity.of_channel(channel)
        if caller is None:
            raise Unauthenticated(reason=f"{channel.peer} shows neither a known certificate nor a token")
        return caller


def _refusal(problem: Problem, flow_id: str) -> object:
    return historical.refusal(problem.code, str(problem), msgspec.to_builtins(problem.body(flow_id)))


def takes(scope: Scope) -> bool:
    """Whether a request is XML-RPC's: a POST of XML, whatever its path."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    return header(scope, b"content-type").partition(b";")[0].strip().lower() in _MEDIA
