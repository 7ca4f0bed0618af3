# SPDX-License-Identifier: Apache-2.0
"""Any message from the bus -> what it means, or why it is not taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from vdsm.protocols.amqp import Message
from vdsm.protocols.amqp010 import DecodeError, decode_list, decode_map
from vdsm.protocols.qmf2 import forms, schema_v1
from vdsm.protocols.qmf2.forms import FormError, Map, field
from vdsm.protocols.qmf2.guard import Limits, Unacceptable, incoming
from vdsm.protocols.qmf2.model import (
    DataIndication,
    EventIndication,
    Fault,
    FaultCode,
    Heartbeat,
    Indication,
    Locate,
    MethodAnswer,
    MethodCall,
    ObjectId,
    QueryAnswer,
    Refused,
    Request,
    SchemaId,
)
from vdsm.protocols.qmf2.predicates import EVERYTHING

_REQUEST_LIMITS = Limits()
_HEADER_LIMITS = Limits(items=256, size=16_384)
_ECHO_LIMIT = 255  # bytes of what a requester chooses and an answer carries: a longer key is poison to old consoles


class Head(msgspec.Struct, frozen=True):
    """Of a message: what its application properties say."""

    opcode: str = ""
    agent: str = ""
    content: str = ""
    partial: bool = False  # the header is there, whatever it says


def parse(message: Message, limits: Limits = _REQUEST_LIMITS) -> Request | Indication | Refused:
    """Never raises: what comes from the bus may be anything."""
    head = Head()
    try:
        for name, echoed in (("correlation id", message.correlation_id), ("reply-to", message.reply_to)):
            if _size(echoed) > _ECHO_LIMIT:
                return Refused(FaultCode.INVALID_PARAMETER, f"the {name} is longer than any", answerable=False)
        head = read_head(message)
        body = _read_body(message, limits)
        if not head.opcode:
            return _read_old(head, body)
        reader = _READERS.get(head.opcode)
        if reader is None:
            return Refused(FaultCode.NOT_IMPLEMENTED, f"there is no opcode {head.opcode:.64}")
        return reader(head, body)
    except (FormError, DecodeError, Unacceptable) as error:
        answerable = head.opcode in _ANSWERABLE
        return Refused(FaultCode.INVALID_PARAMETER, f"{head.opcode or 'the message'}: {error}", answerable=answerable)


def _size(echoed: object) -> int:
    if isinstance(echoed, str):
        return len(echoed.encode(errors="replace"))
    return len(echoed) if isinstance(echoed, bytes) else 0


def read_head(message: Message) -> Head:
    """Raises Unacceptable."""
    properties = incoming(message.properties, _HEADER_LIMITS)
    opcode, agent, content = (properties.get(name) for name in ("qmf.opcode", "qmf.agent", "qmf.content"))
    return Head(
        opcode if isinstance(opcode, str) else "",
        agent if isinstance(agent, str) else "",
        content if isinstance(content, str) else "",
        "partial" in properties,
    )


def _read_body(message: Message, limits: Limits) -> object:
    """Some peers put maps and lists into the data of a message, in the encoding of AMQP 0-10."""
    body: object = message.body
    if isinstance(body, bytes | bytearray | memoryview):
        raw = bytes(body)
        if len(raw) > limits.size:
            raise Unacceptable(f"a body is larger than {limits.size} bytes; send less at a time")
        decode = _DECODERS.get(incoming(message.content_type, _HEADER_LIMITS))
        if decode is None:
            return raw
        body = decode(raw, limits.items)
    return incoming(body, limits)


_DECODERS: dict[str | None, Callable[[bytes, int], object]] = {"amqp/map": decode_map, "amqp/list": decode_list}


def _read_old(head: Head, body: object) -> Request | Indication | Refused:
    if isinstance(body, bytes) and body.startswith(schema_v1.MAGIC):
        return schema_v1.decode(body, head.agent)
    return Refused(FaultCode.NOT_IMPLEMENTED, "the message has no opcode", answerable=False)


def _map(body: object) -> Map:
    if not isinstance(body, dict):
        raise FormError(f"the body must be a map, not {_describe(body)}")
    return body


def _list(body: object) -> list[Any]:
    if not isinstance(body, list):
        raise FormError(f"the body must be a list, not {_describe(body)}")
    return body


def _describe(body: object) -> str:
    return "missing" if body is None else f"a {type(body).__name__}"


def _agent(head: Head) -> str:
    if not head.agent:
        raise FormError("the header qmf.agent, the name of the agent, is missing")
    return head.agent


# Requests


def _read_locate(head: Head, body: object) -> Locate:
    """C++ consoles also send one with no body at all."""
    return Locate(forms.read_predicate(_list(body)) if body else EVERYTHING)


def _read_query(head: Head, body: object) -> Request:
    return forms.read_query(_map(body))


def _read_call(head: Head, body: object) -> MethodCall:
    form = _map(body)
    given = field(form, "_object_id", dict, {})
    return MethodCall(
        name=field(form, "_method_name", str),
        object_id=forms.read_object_id(given) if given else None,
        arguments=field(form, "_arguments", dict, {}),
        subtypes=field(form, "_subtypes", dict, {}),
    )


# Answers and indications


def _read_heartbeat(head: Head, body: object) -> Heartbeat:
    values = field(_map(body), "_values", dict)
    agent = _agent(head)
    return Heartbeat(agent, forms.read_attributes(values, agent), head.opcode == "_agent_locate_response")


def _read_query_answer(head: Head, body: object) -> QueryAnswer:
    items = forms.maps(_list(body), "the body")
    agent = _agent(head)
    match head.content:
        case "_schema_id":
            return QueryAnswer(agent, tuple(_read_schema_id(item) for item in items), head.partial)
        case "_schema":
            return QueryAnswer(agent, tuple(forms.read_schema(item) for item in items), head.partial)
        case "_object_id":
            return QueryAnswer(agent, tuple(_read_object_id(item) for item in items), head.partial)
        case "_data" | "":
            return QueryAnswer(agent, tuple(forms.read_object(item) for item in items), head.partial)
    raise FormError(f"there is no content {head.content[:32]!r} of an answer")


def _read_schema_id(form: Map) -> SchemaId:
    """Older agents wrap it."""
    inner = form.get("_schema_id")
    return forms.read_schema_id(inner if isinstance(inner, dict) else form)


def _read_object_id(form: Map) -> ObjectId:
    inner = form.get("_object_id")
    return forms.read_object_id(inner if isinstance(inner, dict) else form)


def _read_method_answer(head: Head, body: object) -> MethodAnswer:
    form = _map(body)
    return MethodAnswer(_agent(head), field(form, "_arguments", dict, {}), field(form, "_subtypes", dict, {}))


def _read_fault(head: Head, body: object) -> Fault:
    """Some agents send the text only, or a bare map."""
    form = _map(body)
    values = field(form, "_values", dict, form)
    code, text = values.get("error_code"), values.get("error_text")
    others = {key: value for key, value in values.items() if key not in ("error_code", "error_text")}
    return Fault(
        agent=head.agent,
        code=code if isinstance(code, int) else FaultCode.EXCEPTION,
        text=text if isinstance(text, str) else "error",
        others=others,
    )


def _read_data(head: Head, body: object) -> DataIndication | EventIndication:
    items = forms.maps(_list(body), "the body")
    agent = _agent(head)
    if head.content == "_event":
        return EventIndication(agent, tuple(forms.read_event(item) for item in items))
    return DataIndication(agent, tuple(forms.read_object(item) for item in items))


_ANSWERABLE = frozenset({"_query_request", "_method_request"})
_READERS: dict[str, Callable[[Head, object], Request | Indication]] = {
    "_agent_locate_request": _read_locate,
    "_query_request": _read_query,
    "_method_request": _read_call,
    "_agent_locate_response": _read_heartbeat,
    "_agent_heartbeat_indication": _read_heartbeat,
    "_query_response": _read_query_answer,
    "_method_response": _read_method_answer,
    "_exception": _read_fault,
    "_data_indication": _read_data,
}
