# SPDX-License-Identifier: Apache-2.0
"""What an agent or a console says -> messages.

An answer's `address` is the requester's `reply_to`, and an indication's `subject` is its routing key on the topic
exchange; how a broker is told of either is the transport's part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from vdsm.protocols.amqp import Message, UInt
from vdsm.protocols.amqp010 import encode_list, encode_map
from vdsm.protocols.amqp10 import count_values
from vdsm.protocols.qmf2 import forms, guard, names, schema_v1
from vdsm.protocols.qmf2.forms import Map
from vdsm.protocols.qmf2.model import (
    AgentAttributes,
    DataObject,
    Event,
    FaultCode,
    MethodCall,
    ObjectId,
    OldSchemaRequest,
    Query,
    Schema,
    SchemaId,
    Severity,
    What,
)
from vdsm.protocols.qmf2.names import AgentName
from vdsm.protocols.qmf2.predicates import Predicate

PART_SIZE = 48_000
"""Bytes of a list's items in one message: some agents ignore more than 64 KiB, and the size is an estimate."""

MAX_VALUES = 60_000
"""Values and keys in one body: Proton has room for 65535."""

_APP_ID = "qmf2"
_CONTENT = {
    What.OBJECT: "_data",
    What.OBJECT_ID: "_object_id",
    What.SCHEMA: "_schema",
    What.SCHEMA_ID: "_schema_id",
}


# A console's


def locate(where: Predicate, reply_to: str) -> Message:
    """Who is there. To the topic exchange."""
    message = _message("_agent_locate_request", "request", where.source)
    message.subject, message.reply_to = names.LOCATE_KEY, reply_to
    return message


def query(asked: Query, reply_to: str, correlation_id: str) -> Message:
    return _request("_query_request", forms.query_map(asked), reply_to, correlation_id)


def call(asked: MethodCall, reply_to: str, correlation_id: str) -> Message:
    body: Map = {
        "_object_id": forms.object_id_map(asked.object_id) if asked.object_id else {},
        "_method_name": asked.name,
        "_arguments": asked.arguments,
    }
    if asked.subtypes:
        body["_subtypes"] = asked.subtypes
    return _request("_method_request", body, reply_to, correlation_id)


def old_schema_request(asked: OldSchemaRequest, reply_to: str) -> Message:
    return Message(content_type="x-application/qmf", reply_to=reply_to, body=schema_v1.encode_request(asked))


# An agent's


def heartbeat(attributes: AgentAttributes) -> Message:
    message = _message("_agent_heartbeat_indication", "indication", {"_values": forms.attributes_map(attributes)})
    message.properties["qmf.agent"] = attributes.name
    message.subject = names.heartbeat_key(AgentName.parse(attributes.name))
    message.ttl = 2.0 * attributes.interval_s
    return message


def located(request: Message, attributes: AgentAttributes) -> Message:
    body = {"_values": forms.attributes_map(attributes)}
    return _answer(request, attributes.name, "_agent_locate_response", body, method="indication")


def query_answers(
    request: Message,
    agent: str,
    what: What,
    found: Iterable[DataObject] | Iterable[ObjectId] | Iterable[Schema] | Iterable[SchemaId],
) -> Iterator[Message]:
    """At least one, also when nothing was found."""
    parts = list(_parts([_item_map(one) for one in found]))
    for number, part in enumerate(parts, 1):
        message = _answer(request, agent, "_query_response", part)
        message.properties["qmf.content"] = _CONTENT[what]
        if number < len(parts):
            message.properties["partial"] = True
        yield message


def method_answer(
    request: Message, agent: str, arguments: Mapping[str, object], subtypes: Mapping[str, object] | None = None
) -> Message:
    body: Map = {"_arguments": arguments}
    if subtypes:
        body["_subtypes"] = subtypes
    return _answer(request, agent, "_method_response", body)


def fault(request: Message, agent: str, code: int, text: str, others: Mapping[str, object] | None = None) -> Message:
    # C++ consoles read it as unsigned, and throw what they cannot.
    known = code if 0 <= code < 2**32 else FaultCode.EXCEPTION
    values = {**(others or {}), "error_code": UInt(known), "error_text": text}
    message = _answer(request, agent, "_exception", {"_values": values})
    message.properties["qmf.content"] = "_data"
    return message


def data_indications(agent: AgentName, schema: SchemaId, objects: Iterable[DataObject]) -> Iterator[Message]:
    """Objects of one class, for every console; none if there are none."""
    for part in _parts([forms.object_map(one) for one in objects]):
        if part:
            yield _indication(agent, names.data_key(schema.package, schema.name, agent), "_data", part)


def event_indication(agent: AgentName, schema: SchemaId, event: Event) -> Message:
    key = names.event_key(schema.package, schema.name, Severity(event.severity).word, agent)
    return _indication(agent, key, "_event", [forms.event_map(event)])


def old_schema_answer(request: Message, agent: str, asked: OldSchemaRequest, schema: Schema | None) -> Message:
    """The header names the agent: a console keeps queries waiting for this."""
    if schema is None:
        body = schema_v1.encode_unknown(asked.sequence, f"there is no class {asked.schema.name[:40]}")
    else:
        body = schema_v1.encode_found(asked.sequence, schema)
    return Message(
        address=request.reply_to,
        correlation_id=request.correlation_id,
        properties={"qmf.agent": agent},
        body=body,
    )


# Shared


def _item_map(one: DataObject | ObjectId | Schema | SchemaId) -> Map:
    match one:
        case DataObject():
            return forms.object_map(one)
        case ObjectId():
            return forms.object_id_map(one)
        case Schema():
            return forms.schema_map(one)
        case SchemaId():
            return forms.schema_id_map(one)


def _request(opcode: str, body: Map, reply_to: str, correlation_id: str) -> Message:
    message = _message(opcode, "request", body)
    message.reply_to, message.correlation_id = reply_to, correlation_id
    return message


def _answer(request: Message, agent: str, opcode: str, body: object, method: str = "response") -> Message:
    message = _message(opcode, method, body)
    message.properties["qmf.agent"] = agent
    message.address, message.correlation_id = request.reply_to, request.correlation_id
    return message


def _indication(agent: AgentName, key: str, content: str, body: list[object]) -> Message:
    message = _message("_data_indication", "indication", body)
    message.properties |= {"qmf.agent": str(agent), "qmf.content": content}
    message.subject = key
    return message


def _message(opcode: str, method: str, body: object) -> Message:
    """Every message but those of QMFv1 is made here, of values that have been made fit."""
    fit = guard.outgoing(body)
    assert isinstance(fit, dict | list)
    content_type = "amqp/map" if isinstance(fit, dict) else "amqp/list"
    # Through qpidd, consoles of AMQP 0-10 see the first header as their app-id, and C++ ones insist on it.
    headers = {"x-amqp-0-10.app-id": _APP_ID, "qmf.opcode": opcode, "method": method}
    return Message(content_type=content_type, properties=dict(headers), body=_compact(fit))


def _compact(body: dict[str, object] | list[object]) -> dict[str, object] | list[object] | bytes:
    """A long body as data in the encoding of AMQP 0-10, which every peer reads: Proton has no room for it."""
    if count_values(body) <= MAX_VALUES:
        return body
    return encode_map(body) if isinstance(body, dict) else encode_list(body)


def _parts(items: Sequence[Map]) -> Iterator[list[object]]:
    """The items in as few lists as hold them; one empty list of none."""
    part: list[object] = []
    total = 0
    for item in items:
        size = _estimate(item)
        if part and total + size > PART_SIZE:
            yield part
            part, total = [], 0
        part.append(item)
        total += size
    yield part


def _estimate(value: object) -> int:
    """The bytes of a value on the wire, roughly and rather too many."""
    if isinstance(value, str):
        return 5 + (len(value) if value.isascii() else 4 * len(value))
    if isinstance(value, dict):
        return 9 + sum([5 + len(key) + _estimate(one) for key, one in value.items()])
    if isinstance(value, list | tuple | set | frozenset):
        return 9 + sum([_estimate(one) for one in value])
    return 5 + len(value) if isinstance(value, bytes) else 17
