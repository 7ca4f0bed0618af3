# SPDX-License-Identifier: Apache-2.0
"""Buses on a real RabbitMQ: what is sent arrives, as it was, where it should, from whom it says."""

from __future__ import annotations

import secrets
import uuid
from typing import Any

import pytest

from harness.bus import Join, first, listen
from harness.rabbitmq import RabbitMQ
from harness.until import soon
from vdsm.amqp.address import BusAddress
from vdsm.amqp.bus import Bus
from vdsm.amqp.errors import BusDown
from vdsm.amqp.places import Direct, Inbox, ReplyTo, Topic
from vdsm.protocols.amqp import Message, UByte, UInt, ULong


@pytest.fixture
def word() -> str:
    """A name of this test's own."""
    return f"t{secrets.token_hex(6)}"


async def test_a_question_and_its_answer(rabbitmq: RabbitMQ, join: Join, word: str) -> None:
    agent, console = await join(rabbitmq.url("host-a")), await join(rabbitmq.url("engine"))
    name = f"vdsm.org:vdsmd:{word}"
    asked, answered = await listen(agent, Direct(name)), await listen(console, Inbox())
    question = Message(
        reply_to=console.reply_address,
        correlation_id=uuid.uuid4(),
        content_type="amqp/map",
        properties={"qmf.opcode": "_method_request", "n": None},
        body={"_arguments": {"size": ULong(2**63), "name": "ä", "parts": [1, 2, {"x": b"\0"}], "f": 1.5, "b": True}},
    )
    taken: list[bool] = []
    assert console.send(Direct(name), question, taken.append)
    got = await first(asked)
    assert (got.correlation_id, got.content_type, got.properties) == (
        question.correlation_id,
        "amqp/map",
        question.properties,
    )
    assert isinstance(got.body, dict)
    assert got.body == question.body
    assert type(got.body["_arguments"]["size"]) is ULong
    assert got.user_id == "engine"
    assert got.reply_to
    assert agent.send(ReplyTo(got.reply_to), Message(correlation_id=got.correlation_id, body={"_arguments": {}}))
    answer = await first(answered)
    assert (answer.correlation_id, answer.user_id) == (question.correlation_id, "host-a")
    await soon("the broker says it took the question", lambda: taken == [True])


async def test_broadcasts_by_pattern(rabbitmq: RabbitMQ, join: Join, word: str) -> None:
    bus = await join(rabbitmq.url("host-a"))
    everything, one, other = [
        await listen(bus, Topic(f"{word}.{pattern}")) for pattern in ("ind.#", "ind.event.*", "ind.data.#")
    ]
    for key in ("ind.event.a", "ind.event.a.b", "ind"):
        assert bus.send(Topic(f"{word}.{key}"), Message(body=[{"key": key}, {}]))
    await soon("three", lambda: len(everything) == 3)
    assert [message.subject for message in everything] == [
        f"{word}.{k}" for k in ("ind.event.a", "ind.event.a.b", "ind")
    ]
    assert [message.body for message in one] == [[{"key": "ind.event.a"}, {}]]
    assert other == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        [1, 2, 3],  # as a value, RabbitMQ's session would crash
        [[1], "a", None],
        {"nested": {"deep": [{"er": [{}]}]}, "none": None},
        {"id": uuid.UUID(int=5), "small": UByte(255), "mid": UInt(2**32 - 1), "negative": -(2**63)},
        b"",
        b"AM2S\0\1\2",
        {"text": "x" * 100_000, "data": bytes(300_000)},
    ],
    ids=lambda body: f"{body!r:.30}",
)
async def test_bodies_arrive_as_they_were(rabbitmq: RabbitMQ, join: Join, word: str, body: Any) -> None:
    bus = await join(rabbitmq.url("host-a"))
    mail = await listen(bus, Direct(word))
    assert bus.send(Direct(word), Message(body=body))
    assert (await first(mail)).body == body


async def test_nobody_can_write_another_name(rabbitmq: RabbitMQ, join: Join, word: str) -> None:
    """A forged user_id is the sender's loss alone."""
    agent, forger = await join(rabbitmq.url("host-a")), await join(rabbitmq.url("stranger"))
    mail = await listen(agent, Direct(word))
    downs: list[str] = []
    forger.watch(lambda: None, downs.append)
    forger.send(Direct(word), Message(user_id="engine", body={}))
    await soon("the forger is thrown out", lambda: downs)
    await forger.wait_up(30)
    assert forger.send(Direct(word), Message(body={}))
    await soon("an honest message", lambda: mail)
    assert [message.user_id for message in mail] == ["stranger"]
    assert agent.counters.failures == 0


async def test_the_anonymous_are_nobody(rabbitmq: RabbitMQ, join: Join, word: str) -> None:
    agent, anonymous = await join(rabbitmq.url("host-a")), await join(rabbitmq.url())
    mail = await listen(agent, Direct(word))
    assert anonymous.identity is None
    assert anonymous.send(Direct(word), Message(body={}))
    assert (await first(mail)).user_id is None


async def test_tls_with_a_password_and_with_a_certificate(rabbitmq: RabbitMQ, join: Join, word: str) -> None:
    ca = str(rabbitmq.authority.certificate)
    pair = rabbitmq.authority.client("host-b")
    by_password = await join(rabbitmq.tls_url("host-a", "host-a"), ca=ca)
    by_certificate = await join(rabbitmq.tls_url("host-b"), ca=ca, certificate=str(pair.certificate), key=str(pair.key))
    mail = await listen(by_password, Direct(word))
    assert by_certificate.send(Direct(word), Message(body={}))
    assert (await first(mail)).user_id == "host-b"


@pytest.mark.parametrize(
    ("url", "files", "said"),
    [
        ("amqp://host-a:wrong@127.0.0.1:{port}", {}, "refuses host-a .PLAIN.: it does not accept these credentials"),
        ("amqps://host-a:host-a@localhost:{tls_port}", {}, "certificate cannot be trusted"),
        ("amqps://host-a:host-a@127.0.0.2:{tls_port}", {"ca": ""}, "127.0.0.2|refused"),
        ("amqp://host-a:host-a@127.0.0.1:1", {}, "127.0.0.1"),
        ("amqp://host-a:host-a@127.0.0.1:{port}/no-such-host", {}, "no-such-host|not.found"),
        ("amqp://host-a:host-a@127.0.0.1:{epmd}", {}, "no answer|no AMQP|closed|lost"),
    ],
)
async def test_what_is_wrong_is_said(rabbitmq: RabbitMQ, url: str, files: dict[str, str], said: str) -> None:
    address = url.format(port=rabbitmq.port, tls_port=rabbitmq.tls_port, epmd=rabbitmq._epmd_port)
    bus = Bus(BusAddress.parse(address, **files))
    await bus.open()
    try:
        await soon("it has failed", lambda: bus.counters.failures)
        assert not bus.up
        assert not bus.send(Direct("x"), Message(body={}))
        with pytest.raises(BusDown, match=said):
            await bus.wait_up(0.01)
    finally:
        await bus.close()
    assert bus.counters.dropped == 1


async def test_a_listener_that_has_gone_hears_nothing(rabbitmq: RabbitMQ, join: Join, word: str) -> None:
    bus = await join(rabbitmq.url("host-a"))
    leaves: list[Message] = []
    subscription = bus.listen(Direct(word), leaves.append)
    stays = await listen(bus, Direct(word))
    assert bus.send(Direct(word), Message(body={"n": 1}))
    await soon("both hear", lambda: leaves and stays)
    subscription.close()
    for n in (2, 3):
        assert bus.send(Direct(word), Message(body={"n": n}))
    await soon("one hears", lambda: len(stays) == 3)
    assert len(leaves) == 1
    assert bus.up
    assert bus.counters.failures == 0


async def test_a_wrong_reply_address_hurts_nobody(rabbitmq: RabbitMQ, join: Join, word: str) -> None:
    """What a stranger makes an agent send to ends with that one link, and leaves nothing behind on the broker."""
    agent = await join(rabbitmq.url("host-a"))
    mail = await listen(agent, Direct(word))
    taken: list[bool] = []
    for address in (
        f"/queue/{word}",
        f"/amq/queue/{word}",
        f"/exchange/{word}/key",
        f"/exchange/qmf.default.direct/{word}",
    ):
        assert agent.send(ReplyTo(address), Message(body={"to": address}), taken.append)
    for address in ("", "nonsense", "/", "/queue/", "/exchange/x", f"/queue/{word}/../y"):
        given_up: list[bool] = []
        assert agent.send(ReplyTo(address), Message(body={}), given_up.append)
        assert given_up == [False], "at once, and for good: nothing is gained by sending it again"
    await soon("all are settled", lambda: len(taken) == 4)
    assert taken.count(False) == 1, "an exchange that is not there; to a queue that is not there goes nothing"
    await soon("the good one arrived", lambda: mail)
    assert agent.up
    assert agent.counters.failures == 0
    assert word not in rabbitmq.control("list_queues", "name")


async def test_a_place_without_an_address_is_said_and_not_the_end(rabbitmq: RabbitMQ, join: Join, word: str) -> None:
    bus = Bus(BusAddress.parse(rabbitmq.url("host-a")))
    subscription = bus.listen(Direct("a/b"), lambda message: None)
    await bus.open()
    await soon("it says so", lambda: "cannot say 'a/b'" in bus.failure)
    subscription.close()
    await bus.wait_up(30)
    with pytest.raises(ValueError, match="cannot say"):
        bus.listen(Direct("a/b"), lambda message: None)
    assert bus.up
    await bus.close()


async def test_a_host_name_that_is_none(word: str) -> None:
    bus = Bus(BusAddress.parse(f"amqp://{'x' * 70}.example"))
    await bus.open()
    await soon("it goes on trying", lambda: bus.counters.failures >= 2)
    await bus.close()
