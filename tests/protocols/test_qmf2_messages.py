# SPDX-License-Identifier: Apache-2.0
"""QMFv2 messages: each is read as it was written, known consoles' are understood, and nothing breaks the reader."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.qmf_transcripts import AGENT, PYTHON, TRANSCRIPTS, Said, python
from vdsm.protocols.amqp import Message, UByte, UInt, ULong
from vdsm.protocols.amqp010 import encode_list, encode_map
from vdsm.protocols.qmf2 import forms, writing
from vdsm.protocols.qmf2.guard import CONSOLE_LIMITS
from vdsm.protocols.qmf2.model import (
    Access,
    AgentAttributes,
    Argument,
    DataIndication,
    DataObject,
    Direction,
    Event,
    EventIndication,
    Fault,
    FaultCode,
    Heartbeat,
    Kind,
    Locate,
    Method,
    MethodAnswer,
    MethodCall,
    ObjectId,
    OldSchemaAnswer,
    OldSchemaRequest,
    Property,
    Query,
    QueryAnswer,
    Refused,
    Schema,
    SchemaFilter,
    SchemaId,
    Severity,
    Type,
    What,
)
from vdsm.protocols.qmf2.names import AgentName
from vdsm.protocols.qmf2.predicates import EVERYTHING, Predicate, equal
from vdsm.protocols.qmf2.reading import parse

NAME = AgentName.parse(AGENT)
REQUEST = Message(reply_to=PYTHON, correlation_id=ULong(7))

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
word = st.text("abcXYZ._", min_size=1, max_size=12)
number = st.integers(0, 2**63 - 1)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | text | st.uuids(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
values = st.dictionaries(text, plain, max_size=4)
object_ids = st.builds(ObjectId, text, text, st.integers(0, 2**32 - 1))
schema_ids = st.builds(SchemaId, word, word, st.sampled_from(Kind), st.uuids())
objects = st.builds(
    DataObject, id=st.none() | object_ids, schema=st.none() | schema_ids, values=values, subtypes=values,
    created_ns=number, updated_ns=number, deleted_ns=number,
)  # fmt: skip
events = st.builds(
    Event, schema=st.none() | schema_ids, values=values, timestamp_ns=number, severity=st.sampled_from(Severity)
)
common: dict[str, st.SearchStrategy[Any]] = {
    "name": word, "type": st.sampled_from(Type), "unit": text, "description": text, "subtype": text,
}  # fmt: skip
properties = st.builds(Property, **common, access=st.sampled_from(Access), index=st.booleans())
arguments = st.builds(Argument, **common, direction=st.sampled_from(Direction))
methods = st.builds(Method, name=word, arguments=st.lists(arguments, max_size=3).map(tuple), description=text)
schemata = st.builds(
    Schema, id=schema_ids, properties=st.lists(properties, max_size=3).map(tuple),
    methods=st.lists(methods, max_size=2).map(tuple), description=text, severity=st.none() | st.sampled_from(Severity),
)  # fmt: skip
seconds = st.integers(1, 3600)
attributes = st.builds(
    AgentAttributes, name=st.just(AGENT), vendor=text, product=text, instance=text, timestamp_ns=number,
    interval_s=seconds, epoch=st.integers(0, 2**32 - 1), schema_updated_ns=number, capability=st.integers(0, 9),
    direct_subject=text, others=st.dictionaries(text.map("x{}".format), plain, max_size=3),
)  # fmt: skip
filters = st.builds(SchemaFilter, st.none() | word, st.none() | word, st.none() | word, st.none() | st.uuids())
predicates = st.builds(equal, text, plain).map(Predicate) | st.just(EVERYTHING)
queries = st.builds(
    Query, what=st.sampled_from(What), schema=filters, object_id=st.none() | object_ids, where=predicates
)
calls = st.builds(MethodCall, name=text, object_id=st.none() | object_ids, arguments=values, subtypes=values)


def encodings(message: Message) -> list[Message]:
    """The same message, as it is and as peers of AMQP 0-10 have it."""
    if isinstance(message.body, bytes):
        return [message]
    body = encode_map(message.body) if isinstance(message.body, dict) else encode_list(message.body or [])
    headers: dict[str, object] = {k: v.encode() if isinstance(v, str) else v for k, v in message.properties.items()}
    return [message, msgspec.structs.replace(message, body=body, properties=headers)]


# There and back


@given(predicates)
def test_locate(where: Predicate) -> None:
    for message in encodings(writing.locate(where, PYTHON)):
        assert parse(message) == Locate(where)
        assert (message.reply_to, message.subject) == (PYTHON, "console.request.agent_locate")


@given(queries)
def test_query(query: Query) -> None:
    for message in encodings(writing.query(query, PYTHON, "1")):
        assert parse(message) == query


@given(calls)
def test_call(call: MethodCall) -> None:
    for message in encodings(writing.call(call, PYTHON, "1")):
        assert parse(message) == call


@given(attributes)
def test_heartbeat_and_the_answer_to_locate(one: AgentAttributes) -> None:
    message = writing.heartbeat(one)
    assert message.ttl == 2 * one.interval_s
    for read in encodings(message):
        assert parse(read) == Heartbeat(AGENT, one)
    for read in encodings(writing.located(REQUEST, one)):
        assert parse(read) == Heartbeat(AGENT, one, located=True)


@given(
    st.tuples(st.just(What.OBJECT), st.lists(objects, max_size=4))
    | st.tuples(st.just(What.OBJECT_ID), st.lists(object_ids, max_size=4))
    | st.tuples(st.just(What.SCHEMA), st.lists(schemata, max_size=4))
    | st.tuples(st.just(What.SCHEMA_ID), st.lists(schema_ids, max_size=4))
)
def test_query_answer(found: tuple[What, list[Any]]) -> None:
    what, items = found
    (message,) = writing.query_answers(REQUEST, AGENT, what, items)
    for read in encodings(message):
        assert parse(read) == QueryAnswer(AGENT, tuple(items))


@given(values, values)
def test_method_answer(arguments: dict[str, object], subtypes: dict[str, object]) -> None:
    for message in encodings(writing.method_answer(REQUEST, AGENT, arguments, subtypes)):
        assert parse(message) == MethodAnswer(AGENT, arguments, subtypes)


@given(st.integers(0, 2**32 - 1), text, values)
def test_fault(code: int, words: str, others: dict[str, object]) -> None:
    for message in encodings(writing.fault(REQUEST, AGENT, code, words, others)):
        assert parse(message) == Fault(agent=AGENT, code=code, text=words, others=others)


@given(st.lists(objects, min_size=1, max_size=4), schema_ids)
def test_data_indication(items: list[DataObject], schema: SchemaId) -> None:
    (message,) = writing.data_indications(NAME, schema, items)
    for read in encodings(message):
        assert parse(read) == DataIndication(AGENT, tuple(items))


@given(events, schema_ids)
def test_event_indication(event: Event, schema: SchemaId) -> None:
    for message in encodings(writing.event_indication(NAME, schema, event)):
        assert parse(message) == EventIndication(AGENT, (event,))


@given(schemata)
def test_a_schemas_hash_is_of_its_definition(schema: Schema) -> None:
    one = forms.identify(schema)
    assert one == forms.identify(one)
    assert one.id.hash != UUID(int=0)
    longer = msgspec.structs.replace(schema, methods=(*schema.methods, Method(name="more")))
    assert forms.identify(longer).id.hash != one.id.hash


def test_a_schemas_hash_is_the_same_for_ever() -> None:
    """A console's caches are keyed by it, and two hosts of one release must agree."""
    schema = Schema(
        id=SchemaId("org.vdsm", "VM"), properties=(Property(name="status", type=Type.STRING, statistic=True),)
    )
    assert forms.identify(schema).id.hash == UUID("3359e434-c6e9-d356-ec3a-244fc489bf67")


def test_the_old_schema() -> None:
    asked = OldSchemaRequest(3, SchemaId("p", "C", hash=UUID(int=5)))
    request = writing.old_schema_request(asked, PYTHON)
    assert parse(request) == asked
    schema = Schema(id=SchemaId("p", "C", Kind.DATA, UUID(int=5)))
    answer = writing.old_schema_answer(request, AGENT, asked, schema)
    assert (answer.address, answer.properties) == (PYTHON, {"qmf.agent": AGENT})
    assert parse(answer) == OldSchemaAnswer(AGENT, 3, schema)
    unknown = writing.old_schema_answer(request, AGENT, OldSchemaRequest(3, SchemaId("p", "é" * 120)), None)
    parsed = parse(unknown)
    assert isinstance(parsed, OldSchemaAnswer)
    assert parsed.schema is None


@pytest.mark.parametrize("code", [-32601, 2**32])
def test_a_code_that_a_console_cannot_read_is_the_general_one(code: int) -> None:
    assert body(writing.fault(REQUEST, AGENT, code, "no"))["_values"]["error_code"] == FaultCode.EXCEPTION


# What consoles insist on


def test_every_answer_goes_where_the_request_says_with_its_correlation_unchanged() -> None:
    one = AgentAttributes(name=AGENT, timestamp_ns=1, interval_s=10)
    answers = [
        writing.located(REQUEST, one),
        *writing.query_answers(REQUEST, AGENT, What.OBJECT, []),
        writing.method_answer(REQUEST, AGENT, {}),
        writing.fault(REQUEST, AGENT, 1, "no"),
    ]
    for answer in answers:
        assert answer.address == PYTHON
        assert answer.correlation_id is REQUEST.correlation_id
        assert answer.properties["qmf.agent"] == AGENT
        assert answer.properties["x-amqp-0-10.app-id"] == "qmf2"
        assert answer.content_type == ("amqp/list" if isinstance(answer.body, list) else "amqp/map")


def test_types_on_the_wire() -> None:
    """Nanoseconds are ulong, small counts uint, a severity ubyte and a hash a uuid: C++ consoles read them so."""
    one = AgentAttributes(name=AGENT, timestamp_ns=1, interval_s=10, epoch=3, schema_updated_ns=5, capability=1)
    sent = body(writing.heartbeat(one))["_values"]
    assert {name: type(sent[name]) for name in sent if not isinstance(sent[name], str)} == {
        "_timestamp": ULong, "_schema_updated": ULong, "_heartbeat_interval": UInt, "_epoch": UInt,
        "qmf.agent_capability": UInt,
    }  # fmt: skip
    schema = SchemaId("p", "C", Kind.EVENT, UUID(int=9))
    (event,) = body(writing.event_indication(NAME, schema, Event(schema=schema, timestamp_ns=1)))
    assert (type(event["_timestamp"]), type(event["_severity"])) == (ULong, UByte)
    assert event["_schema_id"]["_hash"] == UUID(int=9)
    assert type(event["_schema_id"]["_type"]) is str
    assert type(body(writing.fault(REQUEST, AGENT, 1, "no"))["_values"]["error_code"]) is UInt


def test_members_that_must_exist_though_empty() -> None:
    assert body(writing.method_answer(REQUEST, AGENT, {})) == {"_arguments": {}}
    assert body(next(writing.query_answers(REQUEST, AGENT, What.SCHEMA, []))) == []
    (sent,) = body(next(writing.query_answers(REQUEST, AGENT, What.SCHEMA, [Schema(id=SchemaId("p", "C"))])))
    assert sent["_properties"] == []
    assert sent["_methods"] == []
    (sent,) = body(next(writing.query_answers(REQUEST, AGENT, What.OBJECT, [DataObject()])))
    assert sent == {"_values": {}, "_create_ts": 0, "_update_ts": 0, "_delete_ts": 0}


def body(message: Message) -> Any:
    return message.body


# Long lists


@given(st.lists(st.integers(0, 30_000), max_size=20))
def test_long_lists_are_cut_into_parts_that_every_peer_takes(sizes: list[int]) -> None:
    items = [DataObject(id=ObjectId(f"{number}"), values={"x": "x" * size}) for number, size in enumerate(sizes)]
    found: list[object] = []
    messages = list(writing.query_answers(REQUEST, AGENT, What.OBJECT, items))
    for number, message in enumerate(messages):
        answer = parse(message)
        assert isinstance(answer, QueryAnswer)
        assert answer.partial is (number < len(messages) - 1)
        assert len(encode_list(body(message))) < 64_000
        found += answer.found
    assert found == items
    assert len(messages) <= 1 + sum(sizes) // 15_000


def test_one_large_item_goes_alone() -> None:
    items = [DataObject(values={"x": "x" * size}) for size in (1, 100_000, 1)]
    messages = list(writing.query_answers(REQUEST, AGENT, What.OBJECT, items))
    assert [len(body(message)) for message in messages] == [1, 1, 1]
    assert ["partial" in message.properties for message in messages] == [True, True, False]
    assert list(writing.data_indications(NAME, SchemaId("p", "C"), [])) == []


def test_an_answer_of_very_many_values_is_data() -> None:
    """AMQP's library has no room for so many; peers of 0-10 have no other form."""
    result = [{"vmId": f"{number}", "up": True} for number in range(50_000)]
    message = writing.method_answer(REQUEST, AGENT, {"result": result})
    assert isinstance(message.body, bytes)
    assert message.content_type == "amqp/map"
    answer = parse(message, CONSOLE_LIMITS)
    assert isinstance(answer, MethodAnswer)
    assert answer.arguments == {"result": result}
    assert isinstance(parse(message), Refused)  # nobody sends an agent so much


# Other people's messages


@pytest.mark.parametrize("said", TRANSCRIPTS, ids=lambda said: said.label)
def test_known_consoles_are_understood(said: Said) -> None:
    assert parse(said.message) == said.means


@pytest.mark.parametrize(
    ("opcode", "content", "form", "means"),
    [
        (
            "_agent_heartbeat_indication",
            "",
            {"_values": {"timestamp": 5, "heartbeat_interval": 10, "epoch": 2, "_vendor": "v", "host": "h"}},
            Heartbeat(
                AGENT,
                AgentAttributes(name=AGENT, vendor="v", timestamp_ns=5, interval_s=10, epoch=2, others={"host": "h"}),
            ),
        ),
        ("_exception", "_data", {"_values": {"error_text": b"no"}}, Fault(agent=AGENT, text="no")),
        ("_exception", "", {}, Fault(agent=AGENT)),
        ("_method_response", "", {}, MethodAnswer(AGENT)),
        (
            "_query_response",
            "_data",
            [{"_object_id": {"_object_name": b"a"}, "_values": {b"x": b"y"}}],
            QueryAnswer(AGENT, (DataObject(id=ObjectId("a"), values={"x": "y"}),)),
        ),
        ("_query_response", "_schema_id", [], QueryAnswer(AGENT, ())),
        (
            "_data_indication",
            "_event",
            [{"_values": {"a": 1}, "_severity": 99}],
            EventIndication(AGENT, (Event(values={"a": 1}, timestamp_ns=0, severity=Severity.DEBUG),)),
        ),
    ],
)
def test_other_agents_are_understood(opcode: str, content: str, form: object, means: object) -> None:
    message = python(opcode, form)
    message.properties |= {"qmf.agent": AGENT.encode(), "qmf.content": content}
    assert parse(message, CONSOLE_LIMITS) == means


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


CALL = {"_method_name": "m", "_arguments": {}}


@pytest.mark.parametrize(
    ("message", "code", "answerable", "reason"),
    [
        (Message(), FaultCode.NOT_IMPLEMENTED, False, "no opcode"),
        (Message(body=b"AM2B\0\0\0\1"), FaultCode.INVALID_PARAMETER, False, "QMFv1"),
        (Message(body=b"AM2S\0\0"), FaultCode.INVALID_PARAMETER, False, "too early"),
        (python("_magic_request", {}), FaultCode.NOT_IMPLEMENTED, True, "_magic_request"),
        (python("_query_request", []), FaultCode.INVALID_PARAMETER, True, "must be a map, not a list"),
        (python("_query_request", None), FaultCode.INVALID_PARAMETER, True, "not missing"),
        (python("_query_request", {}), FaultCode.INVALID_PARAMETER, True, "_what is missing"),
        (python("_query_request", {"_what": "PACKAGES"}), FaultCode.INVALID_PARAMETER, True, "PACKAGES"),
        (python("_query_request", {"_what": 5}), FaultCode.INVALID_PARAMETER, True, "_what is 5"),
        (python("_query_request", {"_what": "OBJECT", "_where": {}}), FaultCode.INVALID_PARAMETER, True, "_where"),
        (python("_query_request", {"_what": "OBJECT", "_where": ["x"]}), FaultCode.INVALID_PARAMETER, True, "'x'"),
        (
            python("_query_request", {"_what": "OBJECT", "_schema_id": {"_hash": "x"}}),
            FaultCode.INVALID_PARAMETER, True, "_hash",
        ),
        (python("_method_request", {"_arguments": {}}), FaultCode.INVALID_PARAMETER, True, "_method_name"),
        (python("_method_request", CALL | {"_arguments": []}), FaultCode.INVALID_PARAMETER, True, "_arguments"),
        (python("_method_request", CALL | {"_object_id": {"a": 1}}), FaultCode.INVALID_PARAMETER, True, "_object_name"),
        (python("_method_request", CALL | {"_arguments": nested(100)}), FaultCode.INVALID_PARAMETER, True, "deep"),
        (
            python("_method_request", CALL | {"_arguments": {"a": "x" * 1_000_000}}),
            FaultCode.INVALID_PARAMETER, True, "bytes of text",
        ),
        (
            python("_method_request", CALL | {"_arguments": {"a": [0] * 100_000}}),
            FaultCode.INVALID_PARAMETER, True, "values",
        ),
        (python("_agent_locate_request", ["nonsense"]), FaultCode.INVALID_PARAMETER, False, "nonsense"),
        (python("_agent_locate_request", {"a": 1}), FaultCode.INVALID_PARAMETER, False, "must be a list"),
        (python("_method_request", CALL, cid="x" * 300), FaultCode.INVALID_PARAMETER, False, "correlation"),
        (
            msgspec.structs.replace(python("_method_request", CALL), reply_to=f"a/{'é' * 130}"),
            FaultCode.INVALID_PARAMETER, False, "reply-to",
        ),
        (python("_data_indication", []), FaultCode.INVALID_PARAMETER, False, "qmf.agent"),
        (python("_query_response", {}), FaultCode.INVALID_PARAMETER, False, "must be a list"),
    ],
)  # fmt: skip
def test_what_is_refused(message: Message, code: int, answerable: bool, reason: str) -> None:
    refused = parse(message)
    assert isinstance(refused, Refused)
    assert (refused.code, refused.answerable) == (code, answerable)
    assert reason in refused.text
    assert len(refused.text) < 400


OPCODES = st.sampled_from(
    [
        "_agent_locate_request", "_agent_locate_response", "_agent_heartbeat_indication", "_query_request",
        "_query_response", "_method_request", "_method_response", "_exception", "_data_indication", "", "x",
    ]
)  # fmt: skip
MEMBERS = st.sampled_from(
    [
        "_what", "_schema_id", "_object_id", "_where", "_values", "_arguments", "_method_name", "_subtypes", "_hash",
        "_object_name", "_agent_epoch", "_class_name", "_type", "_properties", "_methods", "_name", "_timestamp",
        "_severity", "_heartbeat_interval", "_epoch", "_dir", "_access", "_index", "OBJECT", "SCHEMA", "TYPE_INT",
    ]
)  # fmt: skip
soup = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text | MEMBERS | st.binary(max_size=16) | st.uuids(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(MEMBERS | text | st.integers(), inner, max_size=5),
    max_leaves=25,
)


@given(
    OPCODES, st.sampled_from(["", "_data", "_event", "_schema_id", "_schema", "_object_id", "_query", "x"]),
    st.sampled_from(["amqp/map", "amqp/list", "", None, b"amqp/map", "x-application/qmf"]),
    soup | st.binary(max_size=80) | st.binary(max_size=60).map(b"AM2S".__add__),
    st.dictionaries(MEMBERS | st.just("partial") | st.just("qmf.agent"), soup, max_size=3), soup,
)  # fmt: skip
def test_anything_is_understood_or_refused(
    opcode: str, content: str, content_type: Any, form: Any, headers: dict[str, object], cid: object
) -> None:
    message = Message(
        body=form, content_type=content_type, correlation_id=cid,
        properties={"qmf.agent": "a:b:c", **headers, "qmf.opcode": opcode, "qmf.content": content},
    )  # fmt: skip
    found = parse(message)
    assert isinstance(found, msgspec.Struct)
    if isinstance(found, Refused):
        assert found.text
