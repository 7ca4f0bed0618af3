# SPDX-License-Identifier: Apache-2.0
"""How each broker is addressed, and that messages keep their types on the way through Proton's codec."""

from __future__ import annotations

import string
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdsm.amqp.convert import Unreadable, decode, encode
from vdsm.amqp.places import Direct, Inbox, ReplyTo, Source, Topic
from vdsm.amqp.profiles import PROFILES, Receive, Send, recognise
from vdsm.protocols.amqp import Message, UByte, UInt, ULong

AGENT = "vdsm.org:vdsmd:h1"
EVENTS = "agent.ind.event.#"


@pytest.mark.parametrize(
    ("product", "version", "name"),
    [
        ("qpid-cpp", "1.39.0", "qpidd"),
        ("qpid", "9.2.0", "qpidd"),
        ("RabbitMQ", "3.10.8", "rabbitmq3"),
        ("RabbitMQ", "3.13.0-rc.1", "rabbitmq3"),
        ("RabbitMQ", "4.1.3", "rabbitmq4"),
        ("RabbitMQ", "12.0", "rabbitmq4"),
        ("apache-activemq-artemis", "2.31.2", "artemis"),
        ("ActiveMQ", "5.17.2", "activemq"),
        ("Acme", "1", None),
        (None, None, None),
    ],
)
def test_brokers_are_known_by_what_they_say(product: str | None, version: str | None, name: str | None) -> None:
    found = recognise(product, version)
    assert (found.name if found else None) == name


@pytest.mark.parametrize(
    ("profile", "where", "expected"),
    [
        (
            "qpidd",
            Direct(AGENT),
            Receive("qmf.default.direct", "apache.org:legacy-amqp-direct-binding:string", AGENT),
        ),
        ("qpidd", Topic(EVENTS), Receive("qmf.default.topic", "apache.org:legacy-amqp-topic-binding:string", EVENTS)),
        ("qpidd", Inbox(), Receive(None)),
        ("rabbitmq3", Direct(AGENT), Receive(f"/exchange/qmf.default.direct/{AGENT}")),
        ("rabbitmq3", Topic(EVENTS), Receive(f"/exchange/qmf.default.topic/{EVENTS}")),
        ("rabbitmq3", Inbox(), Receive("/exchange/qmf.default.direct/u")),
        ("rabbitmq4", Direct("a/b"), Receive("/queues/u", queue="u", binding=("qmf.default.direct", "a/b"))),
        ("rabbitmq4", Topic(EVENTS), Receive("/queues/u", queue="u", binding=("qmf.default.topic", EVENTS))),
        ("rabbitmq4", Inbox(), Receive("/queues/u", queue="u")),
        ("artemis", Direct(AGENT), Receive(f"qmf.default.direct.{AGENT}", capability="queue")),
        ("artemis", Topic(EVENTS), Receive(f"qmf.default.topic.{EVENTS}", capability="topic")),
        ("artemis", Inbox(), Receive(None)),
        ("activemq", Direct(AGENT), Receive(f"queue://qmf.default.direct.{AGENT}")),
        ("activemq", Topic(EVENTS), Receive("topic://qmf.default.topic.agent.ind.event.>")),
        ("activemq", Inbox(), Receive(None)),
    ],
)
def test_listening(profile: str, where: Source, expected: Receive) -> None:
    assert PROFILES[profile].receive(where, "default", "u") == expected


@pytest.mark.parametrize(
    ("profile", "direct", "topic"),
    [
        ("qpidd", Send(None, "qmf.lab.direct", AGENT), Send(None, "qmf.lab.topic", "a.b")),
        ("rabbitmq3", Send("/exchange/qmf.lab.direct", None, AGENT), Send("/exchange/qmf.lab.topic", None, "a.b")),
        (
            "rabbitmq4",
            Send(None, f"/exchanges/qmf.lab.direct/{AGENT}", None),
            Send(None, "/exchanges/qmf.lab.topic/a.b", None),
        ),
        ("artemis", Send(None, f"qmf.lab.direct.{AGENT}", None), Send(None, "qmf.lab.topic.a.b", None)),
        (
            "activemq",
            Send(None, f"queue://qmf.lab.direct.{AGENT}", None),
            Send(None, "topic://qmf.lab.topic.a.b", None),
        ),
    ],
)
def test_sending(profile: str, direct: Send, topic: Send) -> None:
    assert PROFILES[profile].send(Direct(AGENT), "lab") == direct
    assert PROFILES[profile].send(Topic("a.b"), "lab") == topic


@pytest.mark.parametrize(
    ("profile", "address", "expected"),
    [
        ("qpidd", "qmf.default.direct/c.1", Send(None, "qmf.default.direct", "c.1")),
        ("qpidd", "amq.direct/reply-h.1.2;{mode:x}", Send(None, "amq.direct", "reply-h.1.2")),
        ("qpidd", "e/with/slashes", Send(None, "e", "with/slashes")),
        ("qpidd", "a-queue;{create:never}", Send(None, "a-queue", None)),
        ("qpidd", "", None),
        ("qpidd", "/", None),
        ("rabbitmq3", "/exchange/qmf.default.direct/u", Send("/exchange/qmf.default.direct", None, "u")),
        ("rabbitmq3", "/exchange/other/k", Send("/exchange/other", None, "k")),
        ("rabbitmq3", "/queue/q", Send("/amq/queue/q", None, None)),
        ("rabbitmq3", "/amq/queue/q", Send("/amq/queue/q", None, None)),
        ("rabbitmq3", "/topic/x", None),
        ("rabbitmq3", "/exchange/e", None),
        ("rabbitmq4", "/queues/u", Send(None, "/queues/u", None)),
        ("rabbitmq4", "/exchanges/e/a%2Fb", Send(None, "/exchanges/e/a%2Fb", None)),
        ("rabbitmq4", "/management", None),
        ("artemis", "any.thing", Send(None, "any.thing", None)),
        ("activemq", "temp-queue://x", Send(None, "temp-queue://x", None)),
        ("activemq", "", None),
    ],
)
def test_answering(profile: str, address: str, expected: Send | None) -> None:
    if expected:
        assert PROFILES[profile].send(ReplyTo(address), "default") == expected
    else:
        with pytest.raises(ValueError, match="no reply address"):
            PROFILES[profile].send(ReplyTo(address), "default")


@pytest.mark.parametrize("profile", PROFILES)
def test_a_reply_address_of_ones_own_is_understood(profile: str) -> None:
    """By the same profile at the other end, where the broker does not make it up."""
    if address := PROFILES[profile].receive(Inbox(), "default", "u").address:
        PROFILES[profile].send(ReplyTo(address), "default")


def test_what_a_broker_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="only at the end"):
        PROFILES["activemq"].receive(Topic("a.#.b"), "default", "u")
    with pytest.raises(ValueError, match="cannot say"):
        PROFILES["rabbitmq3"].receive(Direct("a/b"), "default", "u")


KEYS = st.text(string.printable, max_size=20)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.integers(0, 2**64 - 1).map(ULong)
    | st.integers(0, 2**32 - 1).map(UInt)
    | st.integers(0, 255).map(UByte)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
    | st.binary(max_size=50)
    | st.uuids(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


@given(st.dictionaries(KEYS, VALUES) | st.lists(VALUES, max_size=5) | st.binary(max_size=50) | st.none(), st.booleans())
def test_bodies_keep_values_and_types(body: Any, as_sequence: bool) -> None:
    got = decode(encode(Message(body=body), list_as_sequence=as_sequence)).body
    assert got == body
    assert repr(_typed(got)) == repr(_typed(body))


@given(
    st.none() | st.integers(0, 2**64 - 1).map(ULong) | st.text(min_size=1) | st.binary(min_size=1) | st.uuids(),
    st.dictionaries(KEYS, st.none() | st.booleans() | st.text() | st.integers(0, 9) | st.uuids()),
    st.none() | st.integers(1, 10**6),
)
def test_headers_keep_values(correlation_id: object, properties: dict[str, object], ttl: int | None) -> None:
    message = Message(
        correlation_id=correlation_id,
        properties=properties,
        ttl=ttl,
        subject="a.b",
        reply_to="e/k",
        content_type="amqp/map",
        user_id="host-a",
        address="e",
        body={},
    )
    assert decode(encode(message)) == message


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_unreadable(data: bytes) -> None:
    for beginning in (b"", b"\x00\x53\x77", b"\x00\x53\x73", b"\x00\x53\x74\xc1", b"\x00\x53\x76", b"\x00\x53\x75"):
        try:
            decode(beginning + data)
        except Unreadable:
            pass


def test_a_body_that_proton_would_cut_is_refused() -> None:
    assert decode(encode(Message(body=[1] * 65_000))).body == [1] * 65_000
    for body in ([1] * 70_000, {"a": [{"b": uuid.UUID(int=1)}] * 30_000}):
        with pytest.raises(ValueError, match="AMQP cannot carry"):
            encode(Message(body=body))


@pytest.mark.parametrize("body", [[2**63], {"a": {1, 2}}, {"a": object()}, {"a": ULong(-1)}])
def test_what_amqp_cannot_say_is_an_error(body: Any) -> None:
    with pytest.raises(ValueError, match="AMQP cannot carry"):
        encode(Message(body=body))


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    return [_typed(item) for item in value] if isinstance(value, list) else (type(value).__name__, value)
