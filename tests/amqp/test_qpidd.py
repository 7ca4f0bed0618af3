# SPDX-License-Identifier: Apache-2.0
"""The bus on a broker that behaves as qpidd does, with peers of AMQP 1.0 and of 0-10."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from proton import Message as ProtonMessage
from proton import symbol, ulong

from harness.qpidd_peer import QpiddPeer
from harness.until import BUSY
from vdsm.amqp.address import BusAddress
from vdsm.amqp.bus import Bus
from vdsm.amqp.places import Direct, Inbox, ReplyTo, Topic
from vdsm.protocols.amqp import Message, ULong
from vdsm.protocols.qmf2 import writing
from vdsm.protocols.qmf2.guard import CONSOLE_LIMITS
from vdsm.protocols.qmf2.model import MethodAnswer
from vdsm.protocols.qmf2.reading import parse

pytestmark = pytest.mark.anyio

SECONDS = 10 * BUSY


@pytest.fixture
def broker() -> Iterator[QpiddPeer]:
    with QpiddPeer({"agent": "secret", "console": "other"}) as broker:
        yield broker
        assert broker.poison == []
        assert broker.dropped == []


class Ear:
    """Hears messages on a bus, to be taken one by one."""

    def __init__(self) -> None:
        self._heard: asyncio.Queue[Message] = asyncio.Queue()

    def __call__(self, message: Message) -> None:
        self._heard.put_nowait(message)

    async def next(self) -> Message:
        async with asyncio.timeout(SECONDS):
            return await self._heard.get()


@asynccontextmanager
async def joined(bus: Bus) -> AsyncIterator[Bus]:
    await bus.open()
    try:
        await bus.wait_up(SECONDS)
        yield bus
    finally:
        await bus.close()


def bus(broker: QpiddPeer, user: str) -> Bus:
    return Bus(BusAddress.parse(broker.url(user)))


async def test_a_request_and_its_answer_between_two_peers_of_1_0(broker: QpiddPeer) -> None:
    agent, console, asked, told = bus(broker, "agent"), bus(broker, "console"), Ear(), Ear()
    agent.listen(Direct("a:b:c"), asked)
    console.listen(Inbox(), told)
    async with joined(agent), joined(console):
        reply_to = console.reply_address
        assert reply_to
        sent = Message(reply_to=reply_to, correlation_id=ULong(7), content_type="amqp/map", body={"a": ULong(1)})
        assert console.send(Direct("a:b:c"), sent)
        request = await asked.next()
        assert (request.user_id, request.reply_to, request.correlation_id) == ("console", reply_to, 7)
        assert agent.send(ReplyTo(reply_to), Message(correlation_id=request.correlation_id, body=[{"b": True}]))
        answer = await told.next()
        assert (answer.user_id, answer.correlation_id, answer.body) == ("agent", 7, [{"b": True}])


async def test_a_broadcast_reaches_who_listens_to_its_key(broker: QpiddPeer) -> None:
    agent, console, ear, other = bus(broker, "agent"), bus(broker, "console"), Ear(), Ear()
    console.listen(Topic("agent.ind.event.#"), other)
    console.listen(Topic("agent.ind.*.x"), ear)
    async with joined(agent), joined(console):
        for key in ("agent.ind.data", "agent.ind.data.y", "agent.ind.data.x"):
            assert agent.send(Topic(key), Message(body={"key": key}))
        assert (await ear.next()).body == {"key": "agent.ind.data.x"}
        assert agent.send(Topic("agent.ind.event.a.b"), Message(body={}))
        assert (await other.next()).subject == "agent.ind.event.a.b"


async def test_an_old_consoles_reply_address_is_an_exchange_and_a_key(broker: QpiddPeer) -> None:
    agent, asked, console = bus(broker, "agent"), Ear(), broker.console()
    agent.listen(Direct("a:b:c"), asked)
    async with joined(agent):
        for number, reply in enumerate(
            ("qmf.default.direct/console.1", "qmf.default.topic/direct.2", "amq.direct/reply-3;{mode:consume}")
        ):
            exchange, _, key = reply.partition(";")[0].partition("/")
            console.bind(exchange, key)
            request = ProtonMessage(
                {"_what": b"OBJECT"}, reply_to=reply, correlation_id=str(number), properties={"qmf.opcode": b"x"}
            )
            request.content_type = symbol("amqp/map")
            console.send("qmf.default.direct", "a:b:c", request)
            heard = await asked.next()
            assert (heard.reply_to, heard.body, heard.properties) == (reply, {"_what": b"OBJECT"}, {"qmf.opcode": b"x"})
            assert agent.send(ReplyTo(reply), Message(correlation_id=heard.correlation_id, body={"n": ULong(5)}))
            answer = await asyncio.to_thread(console.answer, str(number))
            assert (answer.exchange, answer.key) == (exchange, key)
            assert (answer.body, type(answer.body["n"])) == ({"n": 5}, ulong)


async def test_all_is_attached_again_after_the_broker_was_gone(broker: QpiddPeer) -> None:
    agent, asked, console = bus(broker, "agent"), Ear(), broker.console()
    agent.listen(Direct("a:b:c"), asked)
    ups: list[None] = []
    agent.watch(lambda: ups.append(None), lambda reason: None)
    async with joined(agent):
        for number in range(2, 5):
            await asyncio.to_thread(broker.cut, refuse=True)
            await asyncio.to_thread(broker.listen)
            async with asyncio.timeout(SECONDS):
                while len(ups) < number:
                    await asyncio.sleep(0.01)
            await asyncio.to_thread(console.send, "qmf.default.direct", "a:b:c", ProtonMessage({"n": number}))
            assert (await asked.next()).body == {"n": number}


async def test_a_long_answer_arrives_whole(broker: QpiddPeer) -> None:
    """A hundred thousand values, which is more than the library takes as values."""
    agent, console, told = bus(broker, "agent"), bus(broker, "console"), Ear()
    console.listen(Inbox(), told)
    async with joined(agent), joined(console):
        result = [{"vmId": f"{number}", "up": True} for number in range(25_000)]
        request = Message(reply_to=console.reply_address, correlation_id="1")
        answer = writing.method_answer(request, "a:b:c", {"result": result})
        assert agent.send(ReplyTo(request.reply_to or ""), answer)
        found = parse(await told.next(), CONSOLE_LIMITS)
        assert found == MethodAnswer("a:b:c", {"result": result})


async def test_an_answer_to_no_address_is_given_up_at_once(broker: QpiddPeer) -> None:
    agent = bus(broker, "agent")
    async with joined(agent):
        for address in ("/", "", ";{create: always}"):
            said: list[bool] = []
            assert agent.send(ReplyTo(address), Message(), said.append)
            assert said == [False]


async def test_a_wrong_password_is_told(broker: QpiddPeer) -> None:
    stranger = Bus(BusAddress.parse(f"amqp://agent:wrong@127.0.0.1:{broker.port}"))
    await stranger.open()
    async with asyncio.timeout(SECONDS):
        while "refuses agent" not in stranger.failure:
            await asyncio.sleep(0.01)
    assert not stranger.up
    await stranger.close()


async def test_the_broker_notes_what_would_cost_old_consoles_their_connections() -> None:
    with QpiddPeer() as broker:
        agent = bus(broker, "")
        async with joined(agent):
            for body in ({"a": "x" * 65_536}, {"k" * 256: 1}, [{"b": [{1: 2}]}]):
                assert agent.send(Topic("a"), Message(body=body))
            assert agent.send(Topic("a"), Message(body={"a": "x" * 65_535, "b": b"x" * 70_000}))
            assert agent.send(ReplyTo("nowhere"), Message())
            async with asyncio.timeout(SECONDS):
                while not broker.dropped:
                    await asyncio.sleep(0.01)
        assert broker.poison == ["a text of 65536 bytes", f"the key '{'k' * 39}", "the key 1"]
