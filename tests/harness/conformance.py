# SPDX-License-Identifier: Apache-2.0
"""Runs the call sheet through a door, and makes what came of it comparable with another run."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from vdsm.contract.codec import to_plain
from vdsm.contract.errors import Problem

from .sheet import SHEET, Line

NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# What two runs cannot have in common: clocks, counters that move with them, names of the run itself.
MOVING = {
    "time", "statusTime", "notifyTime", "created", "ended", "started", "sampled", "expires", "lastUsed", "token",
    "duration", "elapsedTime", "cpuUser", "cpuSys", "cpuUsage", "id", "flowId", "flow_id", "caller", "channel", "last",
    "dateTime", "bootTime", "sampleTime", "rx", "tx", "readRate", "writeRate", "readOps", "writeOps", "readBytes",
    "writtenBytes", "cpuIdle", "cpuLoad", "memFree", "memUsed", "hash", "memUsage",
    "port", "elapsed", "rxRate", "txRate", "mem_free", "mem_unused", "mem_available", "ctime", "peer",
}  # fmt: skip

# Refusals that a door may make by itself, before it asks the daemon.
OWN_WORDS = {
    "stream": ("stream-not-carried", "upgrade-required"),
    "usage": ("invalid-params", "usage"),
    "name": ("invalid-params", "no-such-object"),  # the shell looks names up
}

HOME = re.compile(r"^/\S*(?=/data-center/)")  # of one run
ONLY_SHAPES = ("Host.getStats", "VM.getStats", "Host.getAllVmStats")  # their numbers move by themselves

Door = Callable[[str, dict[str, Any]], Awaitable[Any]]


class Told(Exception):
    """A problem as the shell prints it."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(body)
        self.body = body


async def run(door: Door) -> list[Any]:
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


async def machines_events(door: Door) -> list[Any]:
    """What the journal has of machines, made comparable."""
    known: dict[str, str] = {}
    events = (await door("Event.list", {}))["events"]
    return [_steady(e["data"], known) for e in events if e["data"]["type"].startswith("VM_")]


def _fill(text: str, kept: dict[str, str]) -> str:
    for name, value in kept.items():
        text = text.replace(f'"{{{name}}}"', f'"{value}"')
    return text


async def _outcome(door: Door, line: Line, params: dict[str, Any]) -> dict[str, Any]:
    try:
        result = await door(line.method, params)
    except (Problem, Told) as problem:
        body = problem.body if isinstance(problem, Told) else to_plain(problem.body())
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
        case str() if not numbers and NUMBER.fullmatch(value):
            return "a number as text"
        case str():
            return UUID.sub(lambda m: known.setdefault(m[0], f"id{len(known)}"), HOME.sub("", value))
        case bool() | None:
            return value
        case _:
            return value if numbers else type(value).__name__
