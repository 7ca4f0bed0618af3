# SPDX-License-Identifier: Apache-2.0
"""The sheet through the published wires gives what their dialect makes of it in the daemon itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import xmlrpc.client
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from harness.conformance import Door, Told, run
from harness.memory_host import ADMIN, MemoryHost
from harness.stomp import EVENTS, Failed, Wired
from harness.verdicts import Verdicts
from vdsm.bindings.published import PublishedCalls
from vdsm.contract import VERBS, Kind
from vdsm.contract.codec import to_plain
from vdsm.contract.task import State
from vdsm.protocols.dialect import JSONRPC, XMLRPC, Dialect, table
from vdsm.protocols.xmlrpc import parse_answer, write_answer

Opened = tuple[Door, Callable[[int], Awaitable[list[Any]]]]
"""A door, and what gives the events that came through it, at least so many."""


CARRIED: dict[Dialect, Callable[[Any], Any]] = {
    JSONRPC: lambda result: json.loads(json.dumps(result)),
    XMLRPC: lambda result: None if result is None else parse_answer(write_answer(result)),
}
"""What becomes of an answer on its way: XML-RPC's large integers are text."""


@pytest.fixture
def wired(tmp_path: Path, prefix: str) -> Any:
    made = Wired(tmp_path, prefix).serve()
    yield made
    made.end()


@contextlib.asynccontextmanager
async def in_dialect(dialect: Dialect, owner: str) -> AsyncIterator[Opened]:
    """The bridge itself, with nothing but the dialect in between."""
    host = MemoryHost(None, owner=owner)
    await host.open()
    calls = PublishedCalls(host.bridge, dialect, VERBS)

    async def call(method: str, params: dict[str, Any]) -> Any:
        result = await calls.call(VERBS[method], params, ADMIN, "")
        while host.tasks.running():
            await asyncio.sleep(0.01)
        return CARRIED[dialect](result)

    async def events(count: int) -> list[Any]:
        found = [dialect.event(to_plain(record)) for record in await host.events()]
        return [event for event in found if event is not None]

    yield call, events
    await host.close()


@contextlib.asynccontextmanager
async def json_rpc(wired: Wired) -> AsyncIterator[Opened]:
    client = await asyncio.to_thread(wired.plain)

    def ask(method: str, params: dict[str, Any]) -> Any:
        try:
            result = client.call(method, params)
        except Failed as failed:
            raise Told(failed.error["data"]) from None
        if VERBS[method].kind is Kind.TASK:
            while any(not State(task["state"]).ended for task in client.call("Task.list")):
                pass
        return result

    async def call(method: str, params: dict[str, Any]) -> Any:
        return await asyncio.to_thread(ask, method, params)

    async def events(count: int) -> list[Any]:
        await asyncio.to_thread(client.wait_event, lambda event: len(client.events) >= count)
        return [(event["method"], event["params"]) for event in client.events]

    with client:
        client.open()
        client.subscribe(EVENTS)
        yield call, events


@contextlib.asynccontextmanager
async def xml_rpc(wired: Wired) -> AsyncIterator[Opened]:
    proxy = xmlrpc.client.ServerProxy(f"http://127.0.0.1:{wired.port()}/RPC2")

    def ask(method: str, params: dict[str, Any]) -> Any:
        answer: Any = getattr(proxy, method)(params)
        if "problem" in answer:
            raise Told(answer["problem"])
        if VERBS[method].kind is Kind.TASK:
            while any(not State(task["state"]).ended for task in ask("Task.list", {})):
                pass
        assert answer.pop("status") == {"code": 0, "message": "Done"}
        verb = table().verbs.get(method)
        if verb is not None and verb.member == "*":
            return answer
        return answer.popitem()[1] if answer else None

    async def call(method: str, params: dict[str, Any]) -> Any:
        return await asyncio.to_thread(ask, method, params)

    async def events(count: int) -> list[Any]:
        """There are none on this wire; but the journal can be read."""
        found = [XMLRPC.event(record) for record in (await call("Event.list", {}))["events"]]
        return [event for event in found if event is not None]

    with proxy:
        yield call, events


def story(events: list[Any]) -> list[tuple[str, Any]]:
    """The events without what moves: whose they are by the order of their coming, and the states."""
    known: dict[str, str] = {}
    told = []
    for name, params in events:
        _, component, operation, subject = name.split("|")
        known.setdefault(subject, f"id{len(known)}")
        state = params.get(subject, {}).get("status") or params.get("status")
        told.append((f"{component} {operation} {known[subject]}", state))
    return told


@pytest.mark.parametrize(("dialect", "door"), [(JSONRPC, json_rpc), (XMLRPC, xml_rpc)], ids=["jsonrpc", "xmlrpc"])
async def test_a_published_wire_gives_what_its_dialect_makes(
    wired: Wired,
    prefix: str,
    dialect: Dialect,
    door: Callable[[Wired], contextlib.AbstractAsyncContextManager[Opened]],
    verdicts: Verdicts,
    door_name: str,
) -> None:
    async with in_dialect(dialect, prefix) as (call, events):
        here, told_here = await run(call), story(await events(0))
    async with door(wired) as (call, events):
        there, told_there = await run(call), story(await events(len(told_here)))
    verdicts.compare(door_name, here, there)
    verdicts.compare_events(door_name, told_here, told_there)
