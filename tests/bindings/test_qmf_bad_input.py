# SPDX-License-Identifier: Apache-2.0
"""What must not be sent to a host on a bus: it gets an exception or silence, and the next request is answered."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from proton import Array, Data, Described, ulong
from proton import Message as ProtonMessage

from harness.bus_host import BusHost, joined
from harness.qmf_transcripts import PYTHON, python
from harness.qpidd_peer import Heard, OldConsole, QpiddPeer
from harness.until import soon
from vdsm.amqp.address import BusAddress
from vdsm.amqp.bus import Bus
from vdsm.amqp.places import Direct
from vdsm.contract import vm
from vdsm.protocols.amqp import Message

from .test_qmf_consoles import Asking, translated

DIRECT = "qmf.default.direct"
PING = {"_method_name": "Host.ping2", "_object_id": {}, "_arguments": {}}


@pytest.fixture
def broker() -> Iterator[QpiddPeer]:
    with QpiddPeer({"host": "secret", "engine": "other"}) as broker:
        yield broker
        assert broker.poison == []


@pytest.fixture
async def there(broker: QpiddPeer) -> AsyncIterator[BusHost]:
    async with joined(broker.url("host")) as made:
        yield made


@pytest.fixture
def console(broker: QpiddPeer, there: BusHost) -> Asking:
    return Asking(broker, there.name, PYTHON)


async def refused(console: Asking, message: Message) -> tuple[int, str]:
    (answer,) = await console.ask(message)
    assert answer.opcode == "_exception", answer.body
    values = answer.body["_values"]
    assert values["error_text"]
    return values["error_code"], values["error_text"]


async def assert_well(console: Asking) -> None:
    """Nothing is stuck: the next request is answered, and nothing else."""
    before = {id(one) for one in console.heard}
    (answer,) = await console.ask(python("_method_request", PING))
    assert answer.opcode == "_method_response", answer.body
    late = [one for one in console.heard if id(one) not in before and one is not answer and one.exchange == DIRECT]
    assert late == []


def call(name: str, on: str = "", **arguments: Any) -> dict[str, Any]:
    return {"_method_name": name, "_object_id": {"_object_name": on} if on else {}, "_arguments": arguments}


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


CREATE = call("VM.create", vmParams={"name": "bad", "memory": 64})

INVALID, NOT_IMPLEMENTED = 4, 3


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        pytest.param(python("_magic_request", {}), NOT_IMPLEMENTED, "_magic_request", id="unknown opcode"),
        pytest.param(python("_method_request", [CREATE]), INVALID, "must be a map", id="a list for a map"),
        pytest.param(python("_method_request", None), INVALID, "missing", id="no body"),
        pytest.param(python("_query_request", ["OBJECT"]), INVALID, "must be a map", id="a list for a query"),
        pytest.param(python("_query_request", {"_what": "ALL"}), INVALID, "ALL", id="unknown kind of query"),
        pytest.param(
            python("_query_request", {"_what": "OBJECT", "_where": ["re_match", "a", ["quote", "(a+)+$"]]}),
            INVALID, "re_match", id="an expression that would take for ever",
        ),
        pytest.param(
            python("_method_request", call("VM.create", vmParams=nested(100))), INVALID, "deep", id="recursive maps"
        ),
        pytest.param(
            python("_method_request", call("VM.create", vmParams={"name": "x" * 1_000_000})),
            INVALID, "bytes", id="a text of a megabyte",
        ),
        pytest.param(
            python("_method_request", call("VM.create", vmParams={"name": b"x" * 1_000_000})),
            INVALID, "bytes", id="a binary of a megabyte",
        ),
        pytest.param(python("_method_request", {"_arguments": {}}), INVALID, "_method_name", id="no method"),
        pytest.param(python("_method_request", call("x" * 70_000)), None, "xxx", id="a long name"),
    ],
)  # fmt: skip
async def test_a_request_that_cannot_be_taken_is_an_exception(
    console: Asking, message: Message, code: int | None, reason: str
) -> None:
    found, text = await refused(console, message)
    assert code in (None, found)
    assert reason in text
    assert len(text) < 1000
    await assert_well(console)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(Message(), id="nothing"),
        pytest.param(Message(body=b"AM2S\0"), id="half of a binary request"),
        pytest.param(Message(body=b"AM2B\0\0\0\0"), id="another binary request"),
        pytest.param(Message(body=b"\xff" * 5000, content_type="amqp/map"), id="noise"),
        pytest.param(Message(body={"a": 1}), id="no opcode"),
        pytest.param(python("_agent_locate_request", ["nonsense"]), id="a locate that is no predicate"),
        pytest.param(python("_method_request", CREATE, cid="x" * 300), id="a long correlation id"),
        pytest.param(python("_query_response", []), id="an answer"),
        pytest.param(python("_exception", {"_values": {}}), id="an exception"),
        pytest.param(python("_data_indication", []), id="an indication"),
        pytest.param(python("_agent_heartbeat_indication", {"_values": {}}), id="a heartbeat"),
    ],
)
async def test_what_is_no_request_gets_silence_and_one_line(
    console: Asking, there: BusHost, message: Message, caplog: pytest.LogCaptureFixture
) -> None:
    """Never an answer to an answer: two agents could keep at it for ever."""
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            await asyncio.to_thread(console.console.send, DIRECT, there.name, translated(message))
        await assert_well(console)
    complaints = [one for one in caplog.messages if "is not taken" in one]
    assert len(complaints) == 1
    assert "\n" not in complaints[0]


async def test_no_reply_to_and_nothing_is_done(
    console: Asking, there: BusHost, caplog: pytest.LogCaptureFixture
) -> None:
    message = python("_method_request", CREATE)
    message.reply_to = None
    await asyncio.to_thread(console.console.send, DIRECT, there.name, translated(message))
    await assert_well(console)
    assert await there.host.call(vm.list_) == []
    assert [one for one in caplog.messages if "not where" in one]


@pytest.mark.parametrize(
    "reply_to",
    [
        "qmf.default.direct/nobody", "no.such.exchange/key", "nowhere", "/", "a/b/c", "x" * 70_000,
        f"qmf.default.direct/{'k' * 300}", "qmf.default.topic/agent.ind.heartbeat.forged", ";{create:always}",
    ],
)  # fmt: skip
async def test_a_reply_to_that_leads_nowhere_costs_nobody_anything(
    console: Asking, there: BusHost, reply_to: str
) -> None:
    message = python("_method_request", PING)
    message.reply_to = reply_to
    await asyncio.to_thread(console.console.send, DIRECT, there.name, translated(message))
    await assert_well(console)


async def test_an_agent_asked_to_answer_itself(console: Asking, there: BusHost) -> None:
    for message in (python("_method_request", PING), python("_magic", {}), python("_query_request", [])):
        message.reply_to = f"{DIRECT}/{there.name}"
        await asyncio.to_thread(console.console.send, DIRECT, there.name, translated(message))
    await assert_well(console)


async def test_another_agents_name_reaches_nobody(
    broker: QpiddPeer, console: Asking, there: BusHost, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (f"{there.name}x", there.name[:-1], "vdsm.org:vdsmd", "#", "*", ""):
        await asyncio.to_thread(console.console.send, DIRECT, name, translated(python("_method_request", CREATE)))
    await assert_well(console)
    assert await there.host.call(vm.list_) == []
    body = {**CREATE, "_object_id": {"_object_name": "Host", "_agent_name": "vdsm.org:vdsmd:another"}}
    _, text = await refused(console, python("_method_request", body))
    assert there.name in text
    assert await there.host.call(vm.list_) == []


async def test_a_request_sent_again_is_done_once(console: Asking, there: BusHost) -> None:
    """By whoever has read it, or by a broker that does not know that it arrived."""
    message = python("_method_request", CREATE, cid="replayed")
    for _ in range(3):
        await asyncio.to_thread(console.console.send, DIRECT, there.name, translated(message))
    await console.wait("it is answered three times", lambda one: len(answers(console, "replayed")) >= 3)
    assert len(await there.host.call(vm.list_)) == 1
    assert len({str(one.body) for one in answers(console, "replayed")}) == 1
    await assert_well(console)


def answers(console: Asking, number: str) -> list[Heard]:
    return [one for one in console.heard if one.message.correlation_id == number]


@pytest.mark.parametrize("sender", ["viewer", "stranger", None])
async def test_who_sends_is_what_the_broker_says_and_nothing_else(
    console: Asking, there: BusHost, sender: str | None
) -> None:
    """Names in the body and in the headers are only words."""
    forged = {**CREATE, "_user": "engine", "user_id": "engine", "_arguments": {**CREATE["_arguments"]}}
    message = python("_method_request", forged)
    message.properties |= {"qmf.agent": there.name, "user_id": "engine", "x-amqp-0-10.user-id": "engine"}
    message.correlation_id = "forged"
    made = translated(message)
    made.user_id = (sender or "").encode()
    await asyncio.to_thread(console.console.send, DIRECT, there.name, made)
    answer = await console.wait("it is refused", lambda one: one.message.correlation_id == "forged")
    assert answer.opcode == "_exception"
    assert await there.host.call(vm.list_) == []
    await assert_well(console)


async def test_a_user_name_that_is_not_the_senders_does_not_pass_the_broker(
    broker: QpiddPeer, there: BusHost, caplog: pytest.LogCaptureFixture
) -> None:
    """As the broker behaves; what it lets pass, it vouches for."""
    liar = Bus(BusAddress.parse(broker.url("host")))
    await liar.open()
    try:
        await liar.wait_up(30)
        liar.send(
            Direct(there.name),
            Message(user_id="engine", reply_to="x", properties={"qmf.opcode": "_method_request"}, body=CREATE),
        )
        console = Asking(broker, there.name, PYTHON)
        await assert_well(console)
    finally:
        await liar.close()
    assert await there.host.call(vm.list_) == []


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (call("VM.create", vmParams={"name": "bad", "memory": 64, "colour": "red"}), "colour"),
        (call("VM.create", vmParams={"name": "bad", "memory": "64"}), "memory"),
        (call("VM.create", vmParams={"name": "bad", "memory": 64}, colour="red"), "colour"),
        (call("VM.create", vmParams={"name": "bad", "memory": 64}, _colour="red"), "_colour"),
        (call("VM.create", vmParams={"name": "bad", "memory": 64}, _wait="long"), "_wait"),
        (call("VM.create", vmParams={"name": "bad", "memory": 64}, _flow_id="a\nb"), "_flow_id"),
        (call("VM.create", vmParams={"name": "bad", "memory": 64}, _idempotency_key="x" * 300), "_idempotency_key"),
        (call("VM.create"), "vmParams"),
        (call("pause", on="VM:../../etc"), "vmID"),
        (call("pause", on=f"VM:{uuid.uuid4()}", vmID=str(uuid.uuid4())), "vmID"),
    ],
)  # fmt: skip
async def test_unknown_and_wrong_arguments_are_named(
    console: Asking, there: BusHost, body: dict[str, Any], path: str
) -> None:
    _, text = await refused(console, python("_method_request", body))
    (answer,) = [one for one in console.heard if one.opcode == "_exception"]
    assert path in f"{text} {answer.body['_values']}"
    assert await there.host.call(vm.list_) == []
    await assert_well(console)


async def test_values_that_amqp_has_and_json_has_not(console: Asking) -> None:
    """Described values, arrays, keys that are numbers: no form that a library makes of them breaks anything."""
    odd: list[Any] = [
        {1: "a"}, Described(ulong(5), "x"), Array(None, Data.INT, 1, 2), {"k": Array(None, Data.STRING)}, {None: 1},
        {True: 1}, b"\xff\xfe", float("nan"), float("inf"), "\0", "\ud7ff", 2**63 - 1, [[[[]]]],
    ]  # fmt: skip
    for value in odd:
        for body in (call("VM.create", vmParams=value), {**CREATE, "_object_id": value}, value, [value]):
            made = translated(python("_method_request", {}))
            made.body = body
            await asyncio.to_thread(console.console.send, DIRECT, console.agent, made)
    await assert_alive(console)


async def assert_alive(console: Asking) -> None:
    (answer,) = await console.ask(python("_method_request", PING))
    assert answer.opcode == "_method_response", answer.body


async def test_a_flood_passes_and_each_request_in_it_is_answered(
    broker: QpiddPeer, console: Asking, there: BusHost
) -> None:
    """More at once than are served side by side: with what was asked for, or that the host is too busy."""
    count = 600

    def flood(peer: OldConsole) -> None:
        for number in range(count):
            made: ProtonMessage = translated(python("_query_request", {"_what": "OBJECT"}, cid=f"flood-{number}"))
            peer.send(DIRECT, there.name, made)

    await asyncio.to_thread(flood, console.console)
    await soon("all are answered", lambda: len(answered(console)) == count)
    await assert_well(console)


def answered(console: Asking) -> set[object]:
    return {one.message.correlation_id for one in list(console.heard) if one.exchange == DIRECT}
