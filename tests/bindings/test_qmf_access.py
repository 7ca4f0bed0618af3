# SPDX-License-Identifier: Apache-2.0
"""Who may do what over the bus, and what strangers, liars and busy consoles come to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from harness.bus_console import Console, Refused, altered, console, everything, until
from harness.bus_host import USERS, BusHost, joined
from harness.rabbitmq import RabbitMQ
from vdsm.bindings.qmf.users import Users
from vdsm.contract import audit, event, task, vm
from vdsm.contract.access import Role
from vdsm.drivers.simulated.faults import Fault
from vdsm.protocols.amqp import Message
from vdsm.protocols.qmf2 import writing
from vdsm.protocols.qmf2.model import MethodAnswer, Query, SchemaFilter, What


@pytest.fixture
async def there(rabbitmq: RabbitMQ) -> AsyncIterator[BusHost]:
    async with joined(rabbitmq.url("host-a")) as made:
        yield made


@pytest.fixture
async def here(rabbitmq: RabbitMQ, there: BusHost) -> AsyncIterator[Console]:
    async with console(rabbitmq.url("engine"), there.name) as made:
        yield made


async def refusal(here: Console, method: str, on: str = "", **arguments: Any) -> str:
    with pytest.raises(Refused) as caught:
        await here.call(method, on, **arguments)
    return caught.value.slug


# ---- roles -----------------------------------------------------------------------------------------------------------


async def test_a_role_belongs_to_the_brokers_user(rabbitmq: RabbitMQ, there: BusHost, here: Console) -> None:
    made = await there.host.create("a")
    async with console(rabbitmq.url("viewer"), there.name) as viewer:
        assert (await viewer.call("VM.list"))["result"][0]["vmName"] == "a"
        assert await refusal(viewer, "destroy", on=f"VM:{made.vm_id}") == "access-denied"
        kinds = {o.schema.name for o in await viewer.query(everything()) if o.schema}
        assert kinds == {"Host", "Task", "VM"}  # what a viewer may not see is left out
        with pytest.raises(Refused) as caught:
            await viewer.query(Query(what=What.OBJECT, schema=SchemaFilter(name="Token")))
        assert caught.value.slug == "access-denied"
    records = await there.host.call(audit.list_)
    refused = [r for r in records if (r.method, r.verdict) == ("VM.destroy", "access-denied")]
    assert [(r.caller, r.channel) for r in refused] == [("bus:viewer", "qmf")]
    assert (await here.call("destroy", on=f"VM:{made.vm_id}"))["result"] is None
    records = await there.host.call(audit.list_)
    assert any((r.method, r.caller, r.verdict) == ("VM.destroy", "bus:engine", "ok") for r in records)


async def test_a_user_without_a_role_sees_the_schema_and_nothing_else(rabbitmq: RabbitMQ, there: BusHost) -> None:
    async with console(rabbitmq.url("stranger"), there.name) as stranger:
        assert await stranger.query(everything(What.SCHEMA_ID))
        assert await refusal(stranger, "ping2") == "unauthenticated"
        with pytest.raises(Refused) as caught:
            await stranger.query(everything())
        assert caught.value.slug == "unauthenticated"
        assert "[bus]" in caught.value.fault.text


@pytest.mark.parametrize("role", [None, Role.VIEWER])
async def test_a_message_without_a_user_has_the_role_for_such(rabbitmq: RabbitMQ, role: Role | None) -> None:
    users = Users(roles=USERS.roles, anonymous=role)
    async with (
        joined(rabbitmq.url("host-a"), users=users) as there,
        console(rabbitmq.url(), there.name) as nobody,
    ):
        if role is None:
            assert await refusal(nobody, "ping2") == "unauthenticated"
        else:
            assert (await nobody.call("ping2")) == {"result": None}
            assert await refusal(nobody, "Token.list") == "access-denied"


async def test_nothing_in_a_body_is_a_user(rabbitmq: RabbitMQ, there: BusHost) -> None:
    async with console(rabbitmq.url("stranger"), there.name) as stranger:
        message = stranger.calling("ping2")
        assert isinstance(message.body, dict)
        message.body["_user_id"] = message.body["user_id"] = "engine"
        message.properties["user_id"] = "engine"
        with pytest.raises(Refused) as caught:
            await stranger.ask(message)
        assert caught.value.slug == "unauthenticated"


async def test_without_an_audience_only_heartbeats_are_told(rabbitmq: RabbitMQ) -> None:
    async with (
        joined(rabbitmq.url("host-a"), audience=None, heartbeat_s=1, after_locate_s=0.0) as there,
        console(rabbitmq.url("engine"), there.name) as here,
    ):
        await there.host.create("a")
        await here.locate()
        await until(lambda: len(here.heartbeats) > 2)
        assert (here.objects, here.events) == ([], [])
        assert len(await here.query(Query(what=What.OBJECT, schema=SchemaFilter(name="VM")))) == 1


# ---- twice -----------------------------------------------------------------------------------------------------------


async def test_a_request_that_comes_twice_is_done_once(there: BusHost, here: Console) -> None:
    message = here.calling("VM.create", vmParams={"name": "a", "memory": 64})
    here.send(message)
    here.send(message)
    answers = await until(lambda: len(found := here.answers.get(message.correlation_id, [])) == 2 and found)
    assert answers[0] == answers[1]
    assert isinstance(answers[0], MethodAnswer)
    here.send(message)
    await until(lambda: len(here.answers[message.correlation_id]) == 3)
    assert len(await there.host.call(task.list_)) == 1
    other = altered(message, correlation_id="another")
    with pytest.raises(Refused) as caught:
        await here.ask(other)
    assert caught.value.slug == "vm-exists"


# ---- busy ------------------------------------------------------------------------------------------------------------


async def test_one_that_hangs_delays_no_other(there: BusHost, here: Console) -> None:
    made = await there.host.create("a")
    there.host.hypervisor.faults.set("reset", Fault(hang=True))
    stuck = asyncio.create_task(here.call("reset", on=f"VM:{made.vm_id}", _deadline=5.0))
    for _ in range(20):
        await here.call("ping2")
    assert not stuck.done()
    there.host.hypervisor.faults.clear()
    await stuck


async def test_too_many_at_once_are_refused(rabbitmq: RabbitMQ) -> None:
    async with (
        joined(rabbitmq.url("host-a"), max_calls=2) as there,
        console(rabbitmq.url("engine"), there.name) as here,
        console(rabbitmq.url("viewer"), there.name) as viewer,
    ):
        made = [await there.host.create("a"), await there.host.create("b")]
        there.host.hypervisor.faults.set("reset", Fault(hang=True))
        hung = [asyncio.create_task(here.call("reset", on=f"VM:{one.vm_id}", _deadline=20.0)) for one in made]
        await until(lambda: there.agent.under_way == 2)
        await _try_until(here, "too-busy")
        assert await viewer.call("ping2") == {"result": None}  # another user's calls are not in its way
        there.host.hypervisor.faults.clear()
        await asyncio.gather(*hung, return_exceptions=True)
        await _try_until(here, "")


async def _try_until(here: Console, wanted: str) -> None:
    """Call until it comes to this problem, or to none."""
    async with asyncio.timeout(60):
        slug = None
        while slug != wanted:
            try:
                await here.call("ping2")
                slug = ""
            except Refused as refused:
                slug = refused.slug


# ---- nonsense --------------------------------------------------------------------------------------------------------


def _deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


ANSWER = {"qmf.opcode": "_method_response", "qmf.agent": "x"}
NONSENSE: dict[str, tuple[dict[str, Any], bool]] = {
    "no opcode": ({"properties": {}, "body": {"a": 1}}, False),
    "an unknown opcode": ({"properties": {"qmf.opcode": "_fly_request"}, "body": {}}, True),
    "an answer": ({"properties": ANSWER, "body": {"_arguments": {}}}, False),
    "no body": ({"body": None}, True),
    "a list for a map": ({"body": [{"_method_name": "ping2"}]}, True),
    "no method": ({"body": {"_arguments": {}}}, True),
    "a method that is none": ({"body": {"_method_name": 7, "_arguments": {}}}, True),
    "arguments that are none": ({"body": {"_method_name": "ping2", "_arguments": "all"}}, True),
    "depth": ({"body": {"_method_name": "echo", "_arguments": {"message": _deep(40)}}}, True),
    "a megabyte": ({"body": {"_method_name": "echo", "_arguments": {"message": "x" * 1_048_576}}}, True),
    "bytes": ({"body": b"\x00\x01\x02"}, True),
    "a wrong object": ({"body": {"_method_name": "ping2", "_object_id": {"_object_name": 5}, "_arguments": {}}}, True),
    "no reply-to": ({"reply_to": None}, False),
}  # fmt: skip


@pytest.mark.parametrize("what", NONSENSE)
async def test_nonsense_is_refused_or_ignored_and_the_host_goes_on(there: BusHost, here: Console, what: str) -> None:
    changes, answered = NONSENSE[what]
    message: Message = altered(here.calling("VM.create", vmParams={"name": "a", "memory": 64}), **changes)
    here.send(message)
    if answered:
        (answer,) = await until(lambda: here.answers.get(message.correlation_id))
        assert answer.code
        assert answer.text
    assert await here.call("ping2") == {"result": None}
    assert answered or message.correlation_id not in here.answers
    assert await there.host.call(vm.list_) == []
    assert (await there.host.call(event.list_)).events == []


async def test_a_predicate_that_is_none_is_refused(here: Console) -> None:
    message = writing.query(everything(), here.reply_to, "w")
    assert isinstance(message.body, dict)
    message.body["_where"] = ["resembles", "a", "b"]
    with pytest.raises(Refused):
        await here.ask(message)
