# SPDX-License-Identifier: Apache-2.0
"""The same sheet through every door gives equal results, problems and events."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from harness.daemon import Daemon
from harness.memory_host import ADMIN, MemoryHost
from harness.sheet import SHEET, Line
from vdsm.client import RemoteBridge, address
from vdsm.client.transport import Transport
from vdsm.contract import VERBS, Kind
from vdsm.contract.codec import to_plain
from vdsm.contract.errors import PROBLEMS, Problem, StreamNotCarried

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# What two runs cannot have in common: clocks, counters that move with them, names of the run itself.
MOVING = {
    "time", "statusTime", "notifyTime", "created", "ended", "started", "sampled", "expires", "lastUsed", "token",
    "duration", "elapsedTime", "cpuUser", "cpuSys", "cpuUsage", "id", "flowId", "flow_id", "caller", "channel", "last",
    "dateTime", "bootTime", "sampleTime", "rx", "tx", "readRate", "writeRate", "readOps", "writeOps", "readBytes",
    "writtenBytes", "cpuIdle", "cpuLoad", "memFree", "memUsed", "hash", "memUsage",
    "port", "elapsed", "rxRate", "txRate",
}  # fmt: skip

# Refusals that a door may make by itself, before it asks the daemon.
OWN_WORDS = {
    "stream": ("stream-not-carried", "upgrade-required"),
    "usage": ("invalid-params", "usage"),
    "name": ("invalid-params", "no-such-object"),  # the shell looks names up
}

ONLY_SHAPES = ("Host.getStats",)  # its numbers are loads, of a host that is busy with this test

Door = Callable[[str, dict[str, Any]], Awaitable[Any]]


@pytest.fixture
async def in_process(prefix: str) -> AsyncIterator[Door]:
    host = MemoryHost(None, owner=prefix)
    await host.open()

    async def call(method: str, params: dict[str, Any]) -> Any:
        outcome = await host.bridge.call(VERBS[method], params, ADMIN)
        return to_plain(outcome.result)

    yield call
    await host.close()


@pytest.fixture
def daemon(tmp_path: Path, prefix: str) -> Any:
    made = Daemon(tmp_path, prefix, uri="test:///default")
    made.file.write_text(made.file.read_text().replace(f'["{made.images}"]', '["/images"]'))
    made.start("--simulate", "0")
    yield made
    made.end()


@contextlib.asynccontextmanager
async def rest(daemon: Daemon) -> AsyncIterator[Door]:
    bridge = RemoteBridge(Transport(address.find(f"unix:{daemon.socket}")))

    async def call(method: str, params: dict[str, Any]) -> Any:
        outcome = await bridge.call(VERBS[method], params, ADMIN)
        return to_plain(outcome.result)

    yield call
    await bridge.close()


@contextlib.asynccontextmanager
async def shell(daemon: Daemon) -> AsyncIterator[Door]:
    async def call(method: str, params: dict[str, Any]) -> Any:
        if VERBS[method].kind is Kind.STREAM:  # the shell would open it, and stay; tests/shell does
            raise _Told(to_plain(StreamNotCarried(method=method).body()))
        words = [f"{name}:={json.dumps(value)}" for name, value in params.items()]
        done = daemon.shell("--output", "json", "call", method, *words, ok=False)
        if done.returncode:
            raise _Told(json.loads(done.stderr))
        return json.loads(done.stdout) if done.stdout.strip() else None

    yield call


class _Told(Exception):
    """A problem as the shell prints it."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(body)
        self.body = body


async def _run(door: Door) -> list[Any]:
    """Every line's outcome, made comparable."""
    kept: dict[str, str] = {}
    known: dict[str, str] = {}
    outcomes = []
    for line in SHEET:
        params = json.loads(_fill(json.dumps(line.params), kept))
        outcome = await _outcome(door, line, params)
        if line.keep:
            kept[line.keep] = _id_of(outcome["result"])
        outcomes.append((line.method, _steady(outcome, known, numbers=line.method not in ONLY_SHAPES)))
    return outcomes


def _fill(text: str, kept: dict[str, str]) -> str:
    for name, value in kept.items():
        text = text.replace(f'"{{{name}}}"', f'"{value}"')
    return text


async def _outcome(door: Door, line: Line, params: dict[str, Any]) -> dict[str, Any]:
    try:
        result = await door(line.method, params)
    except (Problem, _Told) as problem:
        body = problem.body if isinstance(problem, _Told) else to_plain(problem.body())
        slug = body["type"].rpartition(":")[2]
        if line.problem in OWN_WORDS:
            assert slug in OWN_WORDS[line.problem], slug
            return {"problem": line.problem}
        assert slug == line.problem, f"{line}: {body}"
        return {"problem": slug, "code": body["code"], "path": body.get("path", ""), "detail": body["detail"]}
    assert not line.problem, f"{line} was to be refused"
    return {"result": result}


def _id_of(result: Any) -> str:
    first = result[0] if isinstance(result, list) else result
    return str(first.get("vmId") or first["id"])


def _steady(value: Any, known: dict[str, str], *, numbers: bool = True) -> Any:
    """The value without what moves: ids by order of appearance, clocks by their type."""
    match value:
        case dict():
            return {
                UUID.sub(lambda m: known.setdefault(m[0], f"id{len(known)}"), k): (
                    type(v).__name__
                    if k in MOVING and not isinstance(v, dict | list)
                    else _steady(v, known, numbers=numbers)
                )
                for k, v in value.items()
            }
        case list():
            return [_steady(v, known, numbers=numbers) for v in value]
        case str():
            return UUID.sub(lambda m: known.setdefault(m[0], f"id{len(known)}"), value)
        case bool() | None:
            return value
        case _:
            return value if numbers else type(value).__name__


@pytest.mark.parametrize("door", [rest, shell])
async def test_every_door_gives_the_same(
    in_process: Door, daemon: Daemon, door: Callable[[Daemon], contextlib.AbstractAsyncContextManager[Door]]
) -> None:
    async with door(daemon) as opened:
        here, there = await _run(in_process), await _run(opened)
    for line, one, two in zip(SHEET, here, there, strict=True):
        assert json.dumps(one) == json.dumps(two), line  # as text, of which pytest shows the place that differs


def test_every_verb_is_on_the_sheet() -> None:
    assert VERBS.keys() == {line.method for line in SHEET}


def test_every_problem_a_sheet_expects_is_declared_by_its_verb() -> None:
    general = {"invalid-params", *OWN_WORDS}
    for line in SHEET:
        if line.problem and line.problem not in general:
            assert PROBLEMS[line.problem] in VERBS[line.method].raises, line
