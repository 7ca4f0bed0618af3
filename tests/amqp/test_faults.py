# SPDX-License-Identifier: Apache-2.0
"""Brokers that are slow, silent, cut connections, repeat themselves or talk nonsense; and messages that are none."""

from __future__ import annotations

import asyncio
import logging
import random
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proton import Message as ProtonMessage
from proton import TransportException

from harness.bus import Join, first, listen
from harness.qpidd_peer import CREDIT, QpiddPeer
from harness.until import soon
from vdsm.amqp.address import BusAddress
from vdsm.amqp.attachment import WAITING_ANSWERS
from vdsm.amqp.bus import Bus
from vdsm.amqp.engine import Engine
from vdsm.amqp.errors import ProtocolFault, Refused
from vdsm.amqp.links import BACKLOG_BYTES, MOST_BYTES
from vdsm.amqp.places import Direct, Inbox, Topic
from vdsm.amqp.sasl import HEADER, SaslClient
from vdsm.protocols.amqp import Message

NAME = "vdsm.org:vdsmd:h1"
DIRECT = "qmf.default.direct"


@pytest.fixture
def peer() -> Iterator[QpiddPeer]:
    with QpiddPeer() as made:
        yield made


async def put(peer: QpiddPeer, bus: Bus, data: bytes) -> None:
    """Into its inbox, whatever it is."""
    await asyncio.to_thread(peer.run, lambda: peer.queues[str(bus.reply_address)]("", "", data))


async def test_without_credit_broadcasts_are_dropped_and_answers_wait(peer: QpiddPeer, join: Join) -> None:
    bus, console = await join(peer.url()), peer.console()
    console.bind(DIRECT, "console")
    peer.refills = False
    for _ in range(CREDIT):
        assert bus.send(Topic("agent.ind.data.x"), Message(body={}))
    assert not bus.send(Topic("agent.ind.data.x"), Message(body={}))
    for number in range(WAITING_ANSWERS):
        assert bus.send(Direct("console"), Message(body={"n": number}))
    assert not bus.send(Direct("console"), Message(body={}))
    assert not bus.send(Topic("agent.ind.data.x"), Message(body={})), "nothing overtakes what waits"
    assert (bus.counters.sent, bus.counters.dropped) == (CREDIT + WAITING_ANSWERS, 3)
    await asyncio.to_thread(peer.refill, 10_000)
    await soon("what waited has arrived", lambda: len(console.heard) == WAITING_ANSWERS)
    assert [heard.body["n"] for heard in console.heard] == list(range(WAITING_ANSWERS))
    assert bus.send(Topic("agent.ind.data.x"), Message(body={}))


async def test_a_broker_that_reads_nothing_costs_little_memory(peer: QpiddPeer, join: Join) -> None:
    bus, console = await join(peer.url()), peer.console()
    console.bind("qmf.default.topic", "big.#")
    await asyncio.to_thread(peer.deafen, True)
    taken: list[bool] = []
    size, sent = 100_000, 0
    while bus.send(Topic("big.x"), Message(body={"n": sent, "data": bytes(size)}), taken.append):
        sent += 1
        await asyncio.sleep(0)
    assert sent * size < BACKLOG_BYTES + 16_000_000, "beyond the backlog, only what the kernel's buffers hold"
    assert taken == []
    await asyncio.to_thread(peer.deafen, False)
    await soon("all that was not dropped has arrived", lambda: len(taken) == sent)
    assert [heard.body["n"] for heard in console.heard] == list(range(sent))
    assert bus.counters.failures == 0


async def test_what_is_under_way_when_the_connection_breaks_is_told(peer: QpiddPeer, join: Join) -> None:
    bus = await join(peer.url())
    await asyncio.to_thread(peer.deafen, True)
    taken: list[bool] = []
    ups: list[bool] = []

    def settled(was_taken: bool) -> None:
        taken.append(was_taken)
        ups.append(bus.up)

    for _ in range(5):
        assert bus.send(Direct("x"), Message(body={}), settled)
    await asyncio.to_thread(peer.cut)
    await soon("five are lost", lambda: len(taken) == 5)
    assert taken == [False] * 5
    assert ups == [False] * 5, "so that whoever sends it again knows to wait"
    assert bus.counters.refused == 5
    await bus.wait_up(30)
    assert bus.send(Direct("x"), Message(body={}), taken.append)
    await soon("and then one arrives", lambda: taken[5:] == [True])


async def test_cut_anywhere_no_half_message_is_handed_over(peer: QpiddPeer, join: Join) -> None:
    """At the handshake, while links are attached, within a message: it comes back, and what comes is whole."""
    bus, chance = await join(peer.url()), random.Random(5)
    mail = await listen(bus, Direct(NAME))
    sender = peer.console()
    text = "x" * 3000
    for round_number in range(6):
        peer.allowance = chance.randrange(1, 6000)
        for _ in range(4):
            await asyncio.to_thread(sender.send, DIRECT, NAME, ProtonMessage(body={"n": round_number, "text": text}))
        await asyncio.to_thread(peer.cut)
        peer.allowance = None
        await asyncio.to_thread(peer.cut)
        # What is on its way up may have been cut once more: only an arrival proves it well.
        for _ in range(600):
            await asyncio.to_thread(sender.send, DIRECT, NAME, ProtonMessage(body={"n": -1, "text": text}))
            await asyncio.sleep(0.02)
            if mail and mail[-1].body == {"n": -1, "text": text}:
                break
        assert all(isinstance(got.body, dict) and got.body["text"] == text for got in mail)
        mail.clear()
    assert bus.up


async def test_a_request_brought_again_is_not_carried_out_again(peer: QpiddPeer, join: Join) -> None:
    bus, console = await join(peer.url()), peer.console()
    mail = await listen(bus, Direct(NAME))

    async def bring(number: int, times_before: int) -> None:
        request = ProtonMessage(body={}, reply_to="temp", correlation_id=str(number), delivery_count=times_before)
        await asyncio.to_thread(console.send, DIRECT, NAME, request)

    await bring(1, 0)
    await bring(1, 1)
    await bring(2, 3)  # new to this process: it may have been lost on its way to the one before
    await bring(3, 0)
    await bring(3, 0)  # two requests of a careless console
    await soon("the last", lambda: len(mail) == 4)
    assert [(got.correlation_id, got.redelivered) for got in mail] == [
        ("1", False),
        ("2", True),
        ("3", False),
        ("3", False),
    ]


async def test_a_message_that_is_too_long_is_refused(peer: QpiddPeer, join: Join) -> None:
    bus = await join(peer.url())
    mail = await listen(bus, Inbox())
    await put(peer, bus, ProtonMessage(body=bytes(MOST_BYTES)).encode())
    await put(peer, bus, ProtonMessage(body={"n": 1}).encode())
    assert (await first(mail)).body == {"n": 1}
    assert bus.counters.failures == 0


def _nested(depth: int) -> bytes:
    """Lists in lists, each of one element."""
    lists = b"".join(b"\xd0" + struct.pack(">II", 9 * (depth - level) - 4, 1) for level in range(depth))
    return b"\x00\x53\x77" + lists + b"\x40"


NOT_MESSAGES = {
    "empty": b"",
    "zeroes": bytes(100),
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "deep": _nested(100_000),
    "many": b"\x00\x53\x77\xf0" + struct.pack(">II", 5, 2**31 - 1) + b"\x40",
    "a key that is a list": b"\x00\x53\x77\xc1\x04\x02\x45\x54\x01\x40",
    "a number": ProtonMessage(body=5).encode(),
    "cut short": ProtonMessage(body={"a": "b" * 200}).encode()[:-50],
}


@pytest.mark.parametrize("data", NOT_MESSAGES.values(), ids=NOT_MESSAGES.keys())
async def test_what_is_no_message_is_refused_or_empty(
    peer: QpiddPeer, join: Join, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    bus = await join(peer.url())
    mail = await listen(bus, Inbox())
    with caplog.at_level(logging.WARNING, "vdsm.amqp"):
        await put(peer, bus, data)
        await put(peer, bus, ProtonMessage(body={"n": 1}).encode())
        await soon("the good one", lambda: mail and mail[-1].body)
    assert mail.pop().body == {"n": 1}
    assert len(mail) + len(caplog.records) == 1, "it came as a message with nothing in it, or the log says why not"
    assert all((got.body, got.properties, got.reply_to) == (None, {}, None) for got in mail)
    assert bus.counters.failures == 0


async def test_nonsense_ends_the_connection_and_not_the_bus(peer: QpiddPeer, join: Join) -> None:
    bus, ups = await join(peer.url()), list[bool]()
    bus.watch(lambda: ups.append(True), lambda reason: None)
    for nonsense in (b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(64), b"\xff" * 3000):
        ups.clear()
        await asyncio.to_thread(peer.say, nonsense)
        await soon("it is up anew", lambda: ups)


async def test_a_silent_broker_is_left(peer: QpiddPeer) -> None:
    bus = Bus(BusAddress.parse(peer.url()), idle_seconds=3.0)
    await bus.open()
    try:
        await bus.wait_up(30)
        # It does hear and say something now and then, by itself, when all is well.
        await asyncio.sleep(4)
        assert bus.counters.failures == 0
        await asyncio.to_thread(peer.run, peer.hang)
        await soon("it is given up", lambda: bus.counters.failures == 1)
        assert "idle" in bus.failure
        await bus.wait_up(30)
    finally:
        await bus.close()


async def test_a_fault_in_a_handler_is_the_handlers(peer: QpiddPeer, join: Join) -> None:
    bus, console = await join(peer.url()), peer.console()
    faults: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(str(context["exception"])))
    mail: list[Message] = []

    def handle(message: Message) -> None:
        mail.append(message)
        raise RuntimeError("oh")

    bus.listen(Direct(NAME), handle)
    await soon("it listens", lambda: bus.up)
    for _ in range(2):
        await asyncio.to_thread(console.send, DIRECT, NAME, ProtonMessage(body={}))
    await soon("both came", lambda: len(mail) == 2)
    assert faults == ["oh", "oh"]
    assert bus.counters.failures == 0


@given(st.binary(max_size=200))
def test_any_bytes_of_a_server_are_authentication_or_a_fault(data: bytes) -> None:
    for beginning in (b"", HEADER, HEADER + b"\0\0\0\x11\x02\x01\0\0\0\x53"):
        client = SaslClient(BusAddress.parse("amqp://u:p@h"))
        try:
            for byte in beginning + data:
                client.feed(bytes([byte]))
        except (Refused, ProtocolFault):
            pass
        assert len(client.outgoing) < 1000


@given(st.binary(max_size=300), st.binary(max_size=30))
def test_any_bytes_of_a_server_are_amqp_or_the_end(data: bytes, header: bytes) -> None:
    for beginning in (b"", b"AMQP\0\1\0\0", b"AMQP\0\1\0\0\0\0\0\x1c\x02\0\0\0\0\x53\x10\xc0\x0f" + header):
        ended: list[str] = []
        engine = Engine("c", "h", 20, lambda properties: None, ended.append)
        channel = engine.channel(ended.append)
        channel.send(None, 1, lambda: None, lambda: None)
        engine.take()
        try:
            engine.feed(beginning + data)
        except TransportException as problem:
            ended.append(str(problem))
        engine.take()
        engine.abandon()
