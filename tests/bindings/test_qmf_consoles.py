# SPDX-License-Identifier: Apache-2.0
"""The consoles that exist, as each of them speaks, with a host on a broker that behaves as qpidd does.

Each test is what one of them does from its start on; `harness.qmf_transcripts` says how each one's messages look.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from proton import Message as ProtonMessage
from proton import symbol, ubyte, uint, ulong

from harness.bus_host import BusHost, joined
from harness.qmf_transcripts import CPP, LOCATE, PYTHON, PYTHON_OLD, TOOLS, cpp, old_schema, python, raw
from harness.qpidd_peer import Heard, OldConsole, QpiddPeer
from vdsm.contract import vm
from vdsm.protocols.amqp import Message
from vdsm.protocols.qmf2 import schema_v1
from vdsm.protocols.qmf2.model import Kind, OldSchemaAnswer, SchemaId

TOPIC, DIRECT = "qmf.default.topic", "qmf.default.direct"


@pytest.fixture
def broker() -> Iterator[QpiddPeer]:
    with QpiddPeer({"host": "secret", "engine": "other"}) as broker:
        yield broker
        assert broker.poison == []
        assert broker.dropped == []


@pytest.fixture
async def there(broker: QpiddPeer) -> AsyncIterator[BusHost]:
    async with joined(broker.url("host"), after_locate_s=0.2) as made:
        yield made


class Asking:
    """A console of AMQP 0-10, asked from a coroutine. Its broker says who it is, as qpidd does."""

    def __init__(self, broker: QpiddPeer, agent: str, reply_to: str) -> None:
        self.console: OldConsole = broker.console()
        self.agent = agent
        self.reply_to = reply_to
        self._numbers = iter(range(1, 1_000_000))
        for address in {reply_to, PYTHON_OLD}:
            self.console.bind(*address.split("/", 1))
        self.console.bind(TOPIC, "agent.ind.#")

    @property
    def heard(self) -> list[Heard]:
        return self.console.heard

    async def broadcast(self, message: Message) -> None:
        await asyncio.to_thread(self.console.send, TOPIC, message.subject or "", translated(message))

    async def ask(self, message: Message) -> list[Heard]:
        """All parts of the answer."""
        number = str(next(self._numbers))
        message.correlation_id = number
        await asyncio.to_thread(self.console.send, DIRECT, self.agent, translated(message))
        await asyncio.to_thread(self.console.answer, number, lambda one: "partial" not in props(one))
        return [one for one in self.heard if one.message.correlation_id == number]

    async def wait(self, what: str, accept: Callable[[Heard], object]) -> Heard:
        return await asyncio.to_thread(self.console.wait, what, accept)


def translated(message: Message) -> ProtonMessage:
    made = ProtonMessage(message.body, properties=message.properties, inferred=isinstance(message.body, bytes))
    made.user_id = b"engine"
    if message.reply_to:
        made.reply_to = message.reply_to
    if message.content_type:
        made.content_type = symbol(message.content_type)
    if isinstance(message.correlation_id, str | bytes):
        made.correlation_id = message.correlation_id
    return made


def items(parts: list[Heard], opcode: str, content: str) -> list[dict[str, Any]]:
    """Of an answer, as the consoles insist on it."""
    for part in parts:
        assert part.opcode == opcode
        assert part.message.properties["qmf.content"] == content
        assert part.message.properties["x-amqp-0-10.app-id"] == "qmf2"
        assert part.message.properties["qmf.agent"]
        assert part.message.content_type == "amqp/list"
    return [item for part in parts for item in part.body]


async def with_a_machine(there: BusHost) -> str:
    return (await there.host.create("one")).vm_id


async def test_the_python_console(broker: QpiddPeer, there: BusHost) -> None:
    """And qpid-tool, which is made of it: agents, class keys, binary schema, objects by class, methods, events."""
    machine = await with_a_machine(there)
    console = Asking(broker, there.name, PYTHON)
    await console.broadcast(python("_agent_locate_request", [], LOCATE, None))
    found = await console.wait("it is located", lambda one: one.opcode == "_agent_locate_response")
    assert found.message.correlation_id is None
    assert_is_alive(found, there.name)

    ids = items(await console.ask(python("_query_request", {"_what": "SCHEMA_ID"})), "_query_response", "_schema_id")
    assert {"Host", "VM", "Task", "VM_status"} <= {one["_class_name"] for one in ids}
    for one in ids:
        assert isinstance(one["_hash"], uuid.UUID)
        schema = await old_answer(console, one)
        assert schema.id == SchemaId(one["_package_name"], one["_class_name"], Kind(one["_type"]), one["_hash"])
        assert schema.properties

    asked = python("_query_request", {"_what": "OBJECT", "_schema_id": {"_class_name": "VM"}})
    (known,) = items(await console.ask(asked), "_query_response", "_data")
    assert known["_values"]["vmName"] == "one"
    assert known["_schema_id"] in ids
    assert known["_object_id"]["_agent_name"] == there.name
    asked = python("_query_request", {"_what": "OBJECT", "_object_id": known["_object_id"]})
    assert [one["_object_id"] for one in items(await console.ask(asked), "_query_response", "_data")] == [
        known["_object_id"]
    ]
    asked = python("_query_request", {"_what": "OBJECT", "_schema_id": {"_class_name": "NoSuchClass"}})
    assert items(await console.ask(asked), "_query_response", "_data") == []

    body = {"_object_id": known["_object_id"], "_method_name": "destroy", "_arguments": {}}
    (answer,) = await console.ask(python("_method_request", body))
    assert answer.opcode == "_method_response", answer.body
    assert answer.message.content_type == "amqp/map"
    assert answer.message.properties["qmf.agent"] == there.name
    assert isinstance(answer.body["_arguments"], dict)
    event = await console.wait("an event", lambda one: "qmf.content" in props(one) and is_event(one, machine))
    (said,) = event.body
    assert isinstance(said["_timestamp"], ulong)
    assert isinstance(said["_severity"], ubyte)
    assert abs(said["_timestamp"] - time.time_ns()) < 60e9
    assert event.key.startswith(f"agent.ind.event.org_vdsm.{said['_schema_id']['_class_name']}.")
    assert (await old_answer(console, said["_schema_id"])).id.kind is Kind.EVENT


async def test_every_object_is_told_soon_after_a_locate(broker: QpiddPeer, there: BusHost) -> None:
    """qpid-tool shows only objects that came so."""
    machine = await with_a_machine(there)
    await asyncio.sleep(0.5)  # what was told before nobody heard
    console = Asking(broker, there.name, PYTHON)
    await console.broadcast(python("_agent_locate_request", [], LOCATE, None))
    told = await console.wait("the machine is told", lambda one: is_data(one, "VM", machine))
    assert told.key == f"agent.ind.data.org_vdsm.VM.vdsm_org.vdsmd.{there.options.instance}"
    assert told.message.properties["method"] == "indication"
    assert told.message.correlation_id is None
    for one in told.body:
        assert {"_values", "_object_id", "_schema_id", "_create_ts", "_update_ts", "_delete_ts"} <= one.keys()
        assert one["_delete_ts"] == 0
    await console.wait("the host is told", lambda one: is_data(one, "Host"))
    await there.host.call(vm.destroy, vmID=machine)
    gone = await console.wait("it is gone", lambda one: is_data(one, "VM", machine) and one.body[0]["_delete_ts"])
    assert isinstance(gone.body[0]["_delete_ts"], ulong)


async def test_the_cpp_console(broker: QpiddPeer, there: BusHost) -> None:
    """All texts are binary; schema by QMFv2 because the agent says it can; predicates on agents and objects."""
    machine = await with_a_machine(there)
    console = Asking(broker, there.name, CPP)
    await console.broadcast(cpp(b"_agent_locate_request", [b"eq", b"_vendor", [b"quote", b"apache.org"]], LOCATE))
    await console.broadcast(cpp(b"_agent_locate_request", [b"eq", b"_vendor", [b"quote", b"vdsm.org"]], LOCATE, b"2"))
    found = await console.wait("it is located", lambda one: one.opcode == "_agent_locate_response")
    assert found.message.correlation_id == b"2"
    assert_is_alive(found, there.name)

    asked = cpp(b"_query_request", {"_what": b"SCHEMA", "_schema_id": {"_class_name": b"VM"}})
    (schema,) = items(await console.ask(asked), "_query_response", "_schema")
    assert schema["_schema_id"]["_class_name"] == "VM"
    assert {one["_name"] for one in schema["_properties"]} >= {"vmId", "status"}
    assert {one["_name"] for one in schema["_methods"]} >= {"pause", "destroy"}
    for one in schema["_methods"]:
        assert all(argument["_dir"] in ("I", "O", "IO") for argument in one["_arguments"])

    where = [b"and", [b"exists", b"vmName"], [b"eq", b"vmName", [b"quote", b"one"]]]
    package = {"_package_name": b"org.vdsm", "_class_name": b"VM", "_type": b"_data"}
    asked = cpp(b"_query_request", {"_what": b"OBJECT", "_schema_id": package, "_where": where})
    (known,) = items(await console.ask(asked), "_query_response", "_data")
    asked = cpp(b"_query_request", {"_what": b"OBJECT_ID", "_schema_id": package})
    assert items(await console.ask(asked), "_query_response", "_object_id") == [known["_object_id"]]
    address = {"_object_name": known["_object_id"]["_object_name"].encode(), "_agent_name": there.name.encode()}
    body = {"_object_id": {**address, "_agent_epoch": 0}, "_method_name": b"getStats", "_arguments": {}}
    (answer,) = await console.ask(cpp(b"_method_request", {**body, "_subtypes": {}}))
    assert answer.opcode == "_method_response", answer.body
    assert machine in str(answer.body["_arguments"]["result"])
    (answer,) = await console.ask(cpp(b"_method_request", {**body, "_method_name": b"noSuchMethod"}))
    assert answer.opcode == "_exception"
    assert isinstance(answer.body["_values"]["error_code"], uint)
    assert "noSuchMethod" in answer.body["_values"]["error_text"]


async def test_the_cpp_client_of_amqp_1_0(broker: QpiddPeer, there: BusHost) -> None:
    """Its maps and lists are data in the encoding of AMQP 0-10."""
    await with_a_machine(there)
    console = Asking(broker, there.name, TOOLS)
    locate = raw(cpp(b"_agent_locate_request", [], LOCATE))
    locate.reply_to = TOOLS
    await console.broadcast(locate)
    await console.wait("it is located", lambda one: one.opcode == "_agent_locate_response")
    asked = raw(cpp(b"_query_request", {"_what": b"OBJECT", "_schema_id": {"_class_name": b"VM"}}))
    asked.reply_to = TOOLS
    (known,) = items(await console.ask(asked), "_query_response", "_data")
    body = {"_object_id": dict(known["_object_id"]), "_method_name": "getStats", "_arguments": {}}
    asked = raw(cpp(b"_method_request", body))
    asked.reply_to = TOOLS
    (answer,) = await console.ask(asked)
    assert answer.opcode == "_method_response", answer.body


async def test_the_java_tools(broker: QpiddPeer, there: BusHost) -> None:
    """Their subscriptions are refused at once, so that they ask again and again instead."""
    console = Asking(broker, there.name, PYTHON)
    await console.broadcast(python("_agent_locate_request", [], LOCATE, "java-1"))
    found = await console.wait("it is located", lambda one: one.opcode == "_agent_locate_response")
    assert found.message.correlation_id == "java-1"
    body = {"_query": {"_what": "OBJECT"}, "_interval": 5000, "_duration": 60}
    (answer,) = await console.ask(python("_subscribe_request", body))
    assert answer.opcode == "_exception"
    assert answer.body["_values"]["error_code"] == 3


async def old_answer(console: Asking, one: dict[str, Any]) -> Any:
    """The schema, asked for in the form of QMFv1."""
    before = len(console.heard)
    message = old_schema("x-application/qmf", PYTHON_OLD)
    asked = SchemaId(one["_package_name"], one["_class_name"], hash=one["_hash"])
    message.body = b"AM2S\0\0\0\x07" + schema_v1.encode_id(asked)
    await asyncio.to_thread(console.console.send, DIRECT, console.agent, translated(message))
    answer = await console.wait("a schema", lambda one: one in console.heard[before:] and one.exchange == "amq.direct")
    assert props(answer) == {"qmf.agent": console.agent}
    parsed = schema_v1.decode(bytes(answer.body))
    assert isinstance(parsed, OldSchemaAnswer)
    assert parsed.sequence == 7
    assert parsed.schema is not None, parsed.text
    return parsed.schema


def assert_is_alive(beat: Heard, name: str) -> None:
    assert beat.message.properties["qmf.agent"] == name
    assert beat.message.properties["x-amqp-0-10.app-id"] == "qmf2"
    assert beat.message.content_type == "amqp/map"
    values = beat.body["_values"]
    assert values["_name"] == name == f"{values['_vendor']}:{values['_product']}:{values['_instance']}"
    assert (type(values["_timestamp"]), type(values["_heartbeat_interval"])) == (ulong, uint)
    assert abs(values["_timestamp"] - time.time_ns()) < 60e9
    assert values["_epoch"] >= 1
    assert values["_schema_updated"] > 0
    assert values["qmf.agent_capability"] == 1


def props(one: Heard) -> dict[str, Any]:
    return one.message.properties or {}


def is_data(one: Heard, kind: str, name: str = "") -> bool:
    return one.key.startswith(f"agent.ind.data.org_vdsm.{kind}.") and name in str(one.body)


def is_event(one: Heard, name: str) -> bool:
    return props(one).get("qmf.content") == "_event" and name in str(one.body)
