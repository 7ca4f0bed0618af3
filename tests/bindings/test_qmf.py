# SPDX-License-Identifier: Apache-2.0
"""A host on a bus, through a real RabbitMQ: found, described, called, and heard."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator

import pytest

from harness.bus_console import Console, Refused, altered, console, everything, until
from harness.bus_host import BusHost, joined
from harness.rabbitmq import RabbitMQ
from vdsm.bindings.qmf.schema import Schemata
from vdsm.contract import token, vm
from vdsm.protocols.qmf2 import writing
from vdsm.protocols.qmf2.model import (
    DataObject,
    Heartbeat,
    ObjectId,
    OldSchemaAnswer,
    OldSchemaRequest,
    Query,
    SchemaFilter,
    SchemaId,
    Severity,
    What,
)
from vdsm.protocols.qmf2.predicates import Predicate, equal


@pytest.fixture
async def there(rabbitmq: RabbitMQ) -> AsyncIterator[BusHost]:
    async with joined(rabbitmq.url("host-a"), heartbeat_s=1) as made:
        yield made


@pytest.fixture
async def here(rabbitmq: RabbitMQ, there: BusHost) -> AsyncIterator[Console]:
    async with console(rabbitmq.url("engine"), there.name) as made:
        yield made


# ---- found -----------------------------------------------------------------------------------------------------------


async def test_heartbeats_say_who_it_is(there: BusHost, here: Console) -> None:
    beat = await until(lambda: here.heartbeats and here.heartbeats[-1])
    said = beat.attributes
    assert (said.name, said.vendor, said.product, said.instance) == (
        there.name, "vdsm.org", "vdsmd", there.options.instance,
    )  # fmt: skip
    assert abs(said.timestamp_ns - time.time_ns()) < 60e9
    assert (said.interval_s, said.epoch, said.capability) == (1, 1, 1)
    assert said.schema_updated_ns
    assert {"hostName", "version", "state", "lastEvent"} <= said.others.keys()
    await until(lambda: len(here.heartbeats) > 2)


async def test_it_answers_who_looks_for_it_and_tells_all_it_has(there: BusHost, here: Console) -> None:
    made = await there.host.create("a")
    await here.locate(Predicate(equal("_vendor", "nobody")))
    await here.locate(Predicate(equal("_name", there.name)))
    answer = await until(lambda: here.answers.get("2"))
    assert isinstance(answer[0], Heartbeat)
    assert answer[0].located
    assert "1" not in here.answers
    await until(lambda: {"Host", f"VM:{made.vm_id}"} <= {o.id.name for o in here.objects if o.id})
    here.heard.clear()
    await here.locate()  # nothing has changed, and it is told all the same
    await until(lambda: {"Host", f"VM:{made.vm_id}"} <= {o.id.name for o in here.objects if o.id})


# ---- described -------------------------------------------------------------------------------------------------------


async def test_its_schema_is_found_by_any_part_of_its_id(here: Console) -> None:
    ids = await here.query(everything(What.SCHEMA_ID))
    assert {i.name for i in ids} >= {"Host", "VM", "Task", "VM_status", "Gap"}
    (machine,) = await here.query(Query(what=What.SCHEMA, schema=SchemaFilter(name="VM")))
    assert machine.id in ids
    assert {"vmName", "status", "cpuUser"} <= {p.name for p in machine.properties}
    assert "pause" in {m.name for m in machine.methods}
    assert await here.query(Query(what=What.SCHEMA, schema=SchemaFilter(name="VM", hash=uuid.uuid4()))) == []
    whole = await here.query(everything(What.SCHEMA))
    assert [s.id for s in whole] == ids


async def test_consoles_of_the_first_version_get_it_in_their_form(here: Console) -> None:
    ids = await here.query(everything(What.SCHEMA_ID))
    for number, wanted in enumerate(i for i in ids if i.name in ("VM", "VM_status")):
        asked = OldSchemaRequest(number, wanted)
        (answer,) = await here.ask(
            altered(writing.old_schema_request(asked, here.reply_to), correlation_id=f"o{number}")
        )
        assert isinstance(answer, OldSchemaAnswer)
        assert (answer.agent, answer.sequence) == (here.agent, number)
        assert answer.schema is not None
        assert answer.schema.id == wanted
    stranger = OldSchemaRequest(9, SchemaId("org.vdsm", "VM"))
    (answer,) = await here.ask(altered(writing.old_schema_request(stranger, here.reply_to), correlation_id="o9"))
    assert answer.schema is None


async def test_objects_are_found_by_class_id_and_value(there: BusHost, here: Console) -> None:
    a, b = await there.host.create("a"), await there.host.create("b")
    machines = Query(what=What.OBJECT, schema=SchemaFilter(name="VM"))
    found = {o.values["vmName"]: o for o in await here.query(machines)}
    assert set(found) == {"a", "b"}
    assert found["a"].id == ObjectId(f"VM:{a.vm_id}", there.name)
    assert found["a"].values["memSize"] == 64
    assert "exitCode" not in found["a"].values  # null is nothing
    assert found["a"].created_ns <= found["a"].updated_ns
    assert found["a"].deleted_ns == 0
    (one,) = await here.query(Query(what=What.OBJECT, object_id=ObjectId(f"VM:{b.vm_id}")))
    assert one.values["vmName"] == "b"
    where = Predicate(["and", equal("vmName", "b"), ["ge", "memSize", ["quote", 64]]])
    ids = await here.query(Query(what=What.OBJECT_ID, schema=SchemaFilter(name="VM"), where=where))
    assert ids == [ObjectId(f"VM:{b.vm_id}", there.name)]
    nothing = Query(what=What.OBJECT, object_id=ObjectId("VM:nobody"))
    assert await here.query(nothing) == []
    assert await here.query(Query(what=What.OBJECT, schema=SchemaFilter(name="Nothing"))) == []


async def test_many_objects_come_in_parts(there: BusHost, here: Console) -> None:
    for number in range(60):
        await there.host.create(f"m{number}")
    parts = await here.ask(writing.query(Query(what=What.OBJECT, schema=SchemaFilter(name="VM")), here.reply_to, "p"))
    assert len(parts) > 1
    assert {o.values["vmName"] for part in parts for o in part.found} == {f"m{n}" for n in range(60)}


# ---- called ----------------------------------------------------------------------------------------------------------


async def test_a_verb_on_its_object_and_by_its_whole_name(there: BusHost, here: Console) -> None:
    answer = await here.call("VM.create", vmParams={"name": "a", "memory": 64})
    assert answer["result"]["vmName"] == "a"
    assert answer["task"]["state"] == "done"
    vm_id = answer["result"]["vmId"]
    paused = await here.call("pause", on=f"VM:{vm_id}")
    assert paused == {"result": paused["result"]}
    assert paused["result"]["status"] == "Paused"
    assert (await here.call("VM.cont", on="Host", vmID=vm_id))["result"]["vmId"] == vm_id
    assert await here.call("ping2") == {"result": None}
    assert await here.call("echo", on="Host", message="grüß dich") == {"result": "grüß dich"}
    assert (await here.call("Host.getJobs", job_type=None))["result"]  # null for what has a default


async def test_what_is_wrong_is_a_problem_with_a_remedy(there: BusHost, here: Console) -> None:
    nobody = str(uuid.uuid4())
    for method, on, arguments, slug, code, path in (
        ("pause", f"VM:{nobody}", {}, "no-such-vm", 1, ""),
        ("pause", f"VM:{nobody}", {"vmID": str(uuid.uuid4())}, "invalid-params", -32602, "$.vmID"),
        ("echo", "", {}, "invalid-params", -32602, "$"),
        ("echo", "", {"message": "a", "massage": "b"}, "invalid-params", -32602, "$"),
        ("echo", "", {"message": 5}, "invalid-params", -32602, "$.message"),
        ("echo", "", {"message": "a", "_wait": "soon"}, "invalid-params", -32602, "$._wait"),
        ("echo", "", {"message": "a", "_flow_id": "a\nb"}, "invalid-params", -32602, "$._flow_id"),
        ("pause", "Host", {}, "method-not-found", -32601, ""),
        ("pause", "Nothing:1", {}, "method-not-found", -32601, ""),
        ("VM.fly", "Host", {}, "method-not-found", -32601, ""),
        ("VM.console", "Host", {"vmID": nobody}, "stream-not-carried", None, ""),
    ):
        with pytest.raises(Refused) as caught:
            await here.call(method, on, **arguments)
        fault = caught.value.fault
        assert caught.value.slug == slug, (method, fault)
        assert code is None or fault.others["code"] == code
        assert fault.code == fault.others["code"] or (fault.code > 0 and code and code < 0)
        assert str(fault.others["detail"]) in fault.text
        assert fault.others["hint"]
        assert str(fault.others["hint"]) in fault.text
        assert fault.others.get("path", "") == path or slug != "invalid-params"


async def test_an_object_of_another_agent_is_not_taken_for_ours(there: BusHost, here: Console) -> None:
    message = here.calling("ping2", on="Host")
    assert isinstance(message.body, dict)
    message.body["_object_id"]["_agent_name"] = "vdsm.org:vdsmd:other"
    with pytest.raises(Refused) as caught:
        await here.ask(message)
    assert caught.value.fault.others["path"] == "$._object_id"


async def test_reserved_arguments(there: BusHost, here: Console) -> None:
    shape = {"name": "a", "memory": 64}
    planned = await here.call("VM.create", vmParams=shape, _plan=True)
    assert [step["title"] for step in planned["plan"]["steps"]]
    assert await there.host.call(vm.list_) == []
    first = await here.call("VM.create", vmParams=shape, _idempotency_key="k1", _flow_id="flow-1")
    again = await here.call("VM.create", vmParams=shape, _idempotency_key="k1")
    assert first["task"]["flowId"] == "flow-1"
    assert "replayed" not in first
    assert again["replayed"] is True
    assert again["result"]["vmId"] == first["result"]["vmId"]
    begun = await here.call("shutdown", on=f"VM:{first['result']['vmId']}", _wait=0, delay=60.0)
    assert begun.keys() == {"task"}
    assert begun["task"]["state"] in ("pending", "running")
    await here.call("stop", on=f"Task:{begun['task']['id']}")


async def test_every_correlation_id_comes_back_as_it_was(here: Console) -> None:
    for given in ("text", 7, uuid.uuid4(), b"\x00\xff"):
        await here.ask(altered(here.calling("ping2"), correlation_id=given))


async def test_large_text_travels_as_binary_and_back(here: Console) -> None:
    text = "a" * 4096
    assert (await here.call("echo", message=text))["result"] == text
    with pytest.raises(Refused) as caught:
        await here.call("echo", message="b" * 70_000)
    assert caught.value.slug == "invalid-params"


# ---- heard -----------------------------------------------------------------------------------------------------------


def _last(here: Console, name: str) -> DataObject | None:
    return next((o for o in reversed(here.objects) if o.id and o.id.name == name), None)


async def test_events_come_with_class_and_severity(there: BusHost, here: Console) -> None:
    made = await there.host.create("a")
    event = await until(lambda: next((e for e in here.events if e.values.get("status") == "Up"), None))
    assert event.schema is not None
    assert event.schema.name == "VM_status"
    assert event.severity is Severity.INFO
    assert event.values["vmId"] == event.values["subject"] == made.vm_id
    assert event.values["severity"] == "info"
    assert event.timestamp_ns == pytest.approx(float(str(event.values["time"])) * 1e9, rel=1e-9)
    kept = [r.id for r in await there.host.events()]
    await until(lambda: len(here.events) >= len(kept))
    assert [e.values["eventId"] for e in here.events] == kept
    beat = await until(lambda: here.heartbeats and here.heartbeats[-1].attributes.others["lastEvent"] == kept[-1])
    assert beat


async def test_what_the_journal_no_longer_has_is_said(rabbitmq: RabbitMQ) -> None:
    name = f"vdsmtest-{uuid.uuid4()}"
    async with (
        console(rabbitmq.url("engine"), f"vdsm.org:vdsmd:{name}") as here,
        joined(rabbitmq.url("host-a"), instance=name, since=1) as there,
    ):
        await there.host.create("a")
        gap, first, *_ = await until(lambda: len(here.events) > 1 and here.events)
        assert gap.schema is not None
        assert gap.schema.name == "Gap"
        assert gap.severity is Severity.WARNING
        assert (gap.values["since"], gap.values["until"]) == (1, gap.values["eventId"])
        assert first.values["eventId"] == int(str(gap.values["until"])) + 1


async def test_objects_are_told_when_they_change_and_when_they_go(there: BusHost, here: Console) -> None:
    made = await there.host.create("a")
    name = f"VM:{made.vm_id}"
    known = await until(lambda: _last(here, name))
    assert known.values["vmName"] == "a"
    await there.host.call(vm.pause, vmID=made.vm_id)
    await until(lambda: (found := _last(here, name)) and found.values.get("status") == "Paused")
    await there.host.call(vm.destroy, vmID=made.vm_id)
    gone = await until(lambda: (found := _last(here, name)) and found.deleted_ns and found)
    assert isinstance(gone, DataObject)
    assert gone.schema is not None
    assert gone.schema.name == "VM"


def properties_of(name: str) -> set[str]:
    """Those that are no statistics."""
    return {one.name for one in Schemata().classes[name].schema.properties if not one.statistic}


async def test_statistics_are_told_by_themselves(rabbitmq: RabbitMQ) -> None:
    async with (
        joined(rabbitmq.url("host-a"), publish_s=0.5) as there,
        console(rabbitmq.url("engine"), there.name) as here,
    ):
        whole = await until(lambda: _last(here, "Host"))
        brief = await until(lambda: next((o for o in here.objects if "cpuModel" not in o.values), None))
        assert "cpuModel" in whole.values or whole is brief
        assert "cpuLoad" in brief.values
        # The Python console puts the properties of an update in the place of all it had.
        assert not brief.values.keys() & properties_of("Host")


async def test_no_secret_is_ever_told(there: BusHost, here: Console) -> None:
    made = await there.host.create("a")
    await here.call("setTicket", on=f"VM:{made.vm_id}", password="hush-hus", ttl=60, _flow_id="f")
    new = await here.call("Token.create", name="t", role="viewer")
    await here.locate()
    await until(lambda: here.objects)
    await until(lambda: any(o.id and o.id.name == "Host" for o in here.objects))
    told = repr(here.heard)
    assert "hush-hus" not in told
    assert new["result"]["token"] not in told
    assert "Token:" not in told
    (shown,) = await here.query(Query(what=What.OBJECT, schema=SchemaFilter(name="Token")))
    assert shown.values["name"] == "t"
    assert new["result"]["token"] not in repr(shown)
    assert await there.host.call(token.list_)
