# SPDX-License-Identifier: Apache-2.0
"""Buses on a peer with the ways of Qpid's C++ broker, with peers of AMQP 0-10 behind it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
from proton import Message as ProtonMessage
from proton import symbol

from harness.bus import Join, first, listen
from harness.qpidd_peer import QpiddPeer, serving
from harness.until import soon
from vdsm.amqp.address import BusAddress
from vdsm.amqp.bus import Bus
from vdsm.amqp.places import Direct, Inbox, ReplyTo, Topic
from vdsm.protocols.amqp import Message, ULong

NAME = "vdsm.org:vdsmd:h1"


@pytest.fixture
async def peer() -> AsyncIterator[QpiddPeer]:
    async with serving(QpiddPeer()) as made:
        yield made


async def test_a_question_and_its_answer(peer: QpiddPeer, join: Join) -> None:
    agent, console = await join(peer.url), await join(peer.url)
    asked, answered = await listen(agent, Direct(NAME)), await listen(console, Inbox())
    question = Message(reply_to=console.reply_address, correlation_id="17", body={"_what": "SCHEMA_ID"})
    taken: list[bool] = []
    assert console.send(Direct(NAME), question, taken.append)
    got = await first(asked)
    assert got.body == question.body
    assert got.reply_to
    assert agent.send(ReplyTo(got.reply_to), Message(correlation_id="17", body=[{"_values": {}}]))
    assert (await first(answered)).body == [{"_values": {}}]
    await soon("the broker says it took the question", lambda: taken == [True])


async def test_an_old_console_is_answered(peer: QpiddPeer, join: Join) -> None:
    """One that speaks AMQP 0-10: "exchange/key" to reply to, binary for strings, no app-id."""
    agent = await join(peer.url)
    asked = await listen(agent, Direct(NAME))
    console = peer.bind("qmf.default.direct", "qmfc-v2-console.1")
    peer.publish(
        ProtonMessage(
            address="qmf.default.direct",
            subject=NAME,
            reply_to="qmf.default.direct/qmfc-v2-console.1;{node:{type:topic}}",
            correlation_id="1",
            content_type=symbol("amqp/map"),
            properties={"qmf.opcode": b"_query_request", "method": b"request"},
            body={"_what": b"SCHEMA_ID"},
        )
    )
    got = await first(asked)
    assert got.properties["qmf.opcode"] == b"_query_request"
    assert got.reply_to
    assert agent.send(
        ReplyTo(got.reply_to), Message(correlation_id="1", body=[{"_hash": uuid.UUID(int=3), "n": ULong(1)}])
    )
    await soon("the answer", lambda: console)
    assert (console[0].address, console[0].subject) == ("qmf.default.direct", "qmfc-v2-console.1")
    assert console[0].body == [{"_hash": uuid.UUID(int=3), "n": 1}]


async def test_the_old_schema_handshake_is_bytes(peer: QpiddPeer, join: Join) -> None:
    agent = await join(peer.url)
    asked = await listen(agent, Direct(NAME))
    console = peer.bind("amq.direct", "reply-host.1.1")
    request = b"AM2S\0\0\0\1"
    peer.publish(
        ProtonMessage(
            address="qmf.default.direct",
            subject=NAME,
            reply_to="amq.direct/reply-host.1.1",
            content_type=symbol("x-application/qmf"),
            inferred=True,
            body=request,
        )
    )
    got = await first(asked)
    assert got.body == request
    assert got.reply_to
    assert agent.send(ReplyTo(got.reply_to), Message(body=b"AM2s", properties={"qmf.agent": NAME}))
    await soon("the answer", lambda: console)
    assert console[0].body == b"AM2s"
    assert console[0].inferred, "it is a data section, not a value"


async def test_broadcasts_by_pattern(peer: QpiddPeer, join: Join) -> None:
    agent = await join(peer.url)
    located = await listen(agent, Topic("console.#"))
    heard = peer.bind("qmf.default.topic", "agent.ind.heartbeat.#")
    peer.publish(ProtonMessage(address="qmf.default.topic", subject="console.request.agent_locate", body=[]))
    assert (await first(located)).subject == "console.request.agent_locate"
    assert agent.send(Topic("agent.ind.heartbeat.vdsm_org.vdsmd.h1"), Message(body={"_values": {}}, ttl=20))
    assert agent.send(Topic("agent.ind.data.x"), Message(body=[]))
    await soon("the heartbeat", lambda: heard)
    assert [(message.subject, message.ttl) for message in heard] == [("agent.ind.heartbeat.vdsm_org.vdsmd.h1", 20)]


async def test_only_its_own_answers_reach_a_console(peer: QpiddPeer, join: Join) -> None:
    one, other = await join(peer.url), await join(peer.url)
    mine, theirs = await listen(one, Inbox()), await listen(other, Inbox())
    assert one.reply_address != other.reply_address
    assert one.send(ReplyTo(f"{other.reply_address}"), Message(body={}))
    await first(theirs)
    assert mine == []


async def test_every_connection_has_fresh_names(peer: QpiddPeer, join: Join) -> None:
    """A name used twice would end the connection, and the old queue may still be there."""
    agent = await join(peer.url)
    asked = await listen(agent, Direct(NAME))
    for round_number in range(3):
        peer.cut_all()
        await soon("it is down", lambda: not agent.up)
        await agent.wait_up(10)
        peer.publish(ProtonMessage(address="qmf.default.direct", subject=NAME, body={"round": round_number}))
        await first(asked)
        assert asked.pop().body == {"round": round_number}


async def test_passwords(join: Join) -> None:
    async with serving(QpiddPeer({"host": "good", "engine": "better"})) as peer:
        agent = await join(f"amqp://host:good@127.0.0.1:{peer.port}")
        engine = await join(f"amqp://engine:better@127.0.0.1:{peer.port}")
        asked = await listen(agent, Direct(NAME))
        assert engine.send(Direct(NAME), Message(body={}))
        assert (await first(asked)).user_id == "engine"
        bad = Bus(BusAddress.parse(f"amqp://host:bad@127.0.0.1:{peer.port}"))
        await bad.open()
        await soon("it is refused", lambda: "does not accept these credentials" in bad.failure)
        await bad.close()


async def test_a_user_id_that_nobody_verified_is_left_out(peer: QpiddPeer, join: Join) -> None:
    agent = await join(peer.url)
    asked = await listen(agent, Direct(NAME))
    peer.publish(ProtonMessage(address="qmf.default.direct", subject=NAME, user_id=b"engine", body={}))
    assert (await first(asked)).user_id is None


async def test_a_broker_nobody_knows(peer: QpiddPeer, join: Join) -> None:
    peer.product = "Acme"
    bus = Bus(BusAddress.parse(peer.url))
    await bus.open()
    await soon("it says so", lambda: "calls itself Acme 1.39.0" in bus.failure)
    await bus.close()
    await join(f"{peer.url}?profile=qpidd")
