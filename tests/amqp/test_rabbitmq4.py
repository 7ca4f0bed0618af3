# SPDX-License-Identifier: Apache-2.0
"""Buses on a peer with the ways of RabbitMQ 4: every listener has a queue that it has made and bound itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from harness.bus import Join, first, listen
from harness.rabbitmq4_peer import RabbitMQ4Peer
from harness.until import soon
from vdsm.amqp.address import BusAddress
from vdsm.amqp.bus import Bus
from vdsm.amqp.places import Direct, Inbox, ReplyTo, Topic
from vdsm.protocols.amqp import Message

NAME = "vdsm.org:vdsmd:host 7/a"


@pytest.fixture
def peer() -> Iterator[RabbitMQ4Peer]:
    with RabbitMQ4Peer() as made:
        yield made
        assert made.dropped == []


async def test_a_question_and_its_answer(peer: RabbitMQ4Peer, join: Join) -> None:
    agent, console = await join(peer.url()), await join(peer.url())
    asked, answered = await listen(agent, Direct(NAME)), await listen(console, Inbox())
    taken: list[bool] = []
    assert console.send(Direct(NAME), Message(reply_to=console.reply_address, body={"a": 1}), taken.append)
    request = await first(asked)
    assert request.body == {"a": 1}
    assert agent.send(ReplyTo(f"{request.reply_to}"), Message(body=[1, 2]))
    assert (await first(answered)).body == [1, 2]
    await soon("the broker says it took the question", lambda: taken == [True])
    assert ("qmf.default.direct", NAME) in [binding for bound in peer.declared.values() for binding in bound]
    assert sorted(method for method, _ in peer.requests) == ["POST", "PUT", "PUT"], "an inbox is bound to nothing"


async def test_broadcasts_and_coming_back(peer: RabbitMQ4Peer, join: Join) -> None:
    bus, ups = await join(peer.url()), list[bool]()
    bus.watch(lambda: ups.append(True), lambda reason: None)
    events = await listen(bus, Topic("agent.ind.event.#"))
    heartbeats = await listen(bus, Topic("agent.ind.heartbeat.#"))
    for number in range(3):
        assert bus.send(Topic("agent.ind.event.x"), Message(body={"n": number}))
        await soon("it is heard", lambda: events)
        assert events.pop().body == {"n": number}
        ups.clear()
        await asyncio.to_thread(peer.cut)
        await soon("it is back", lambda: ups)
    assert heartbeats == []
    assert len(set(peer.declared)) == len(peer.declared) == 2 * 4, "new queues on each connection"


async def test_what_management_refuses_is_said(peer: RabbitMQ4Peer) -> None:
    bus = Bus(BusAddress.parse(peer.url()), domain="nowhere")
    bus.listen(Direct("x"), lambda message: None)
    await bus.open()
    await soon("it says so", lambda: "404 to POST /bindings: no exchange 'qmf.nowhere.direct'" in bus.failure)
    await bus.close()
