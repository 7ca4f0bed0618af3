# SPDX-License-Identifier: Apache-2.0
"""The same sheet through every door gives equal results, problems and events."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from harness.conformance import OWN_WORDS, Door, Told, run
from harness.daemon import Daemon
from harness.memory_host import ADMIN, MemoryHost
from harness.sheet import SHEET
from vdsm.client import RemoteBridge, address
from vdsm.client.transport import Transport
from vdsm.contract import VERBS, Kind
from vdsm.contract.codec import to_plain
from vdsm.contract.errors import PROBLEMS, StreamNotCarried


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
    made.file.write_text(
        made.file.read_text()
        .replace(f'["{made.images}"]', '["/images"]')
        .replace(f'["{made.storage}"]', '["/storage"]')
    )
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
            raise Told(to_plain(StreamNotCarried(method=method).body()))
        words = [f"{name}:={json.dumps(value)}" for name, value in params.items()]
        done = daemon.shell("--output", "json", "call", method, *words, ok=False)
        if done.returncode:
            raise Told(json.loads(done.stderr))
        return json.loads(done.stdout) if done.stdout.strip() else None

    yield call


@pytest.mark.parametrize("door", [rest, shell])
async def test_every_door_gives_the_same(
    in_process: Door, daemon: Daemon, door: Callable[[Daemon], contextlib.AbstractAsyncContextManager[Door]]
) -> None:
    async with door(daemon) as opened:
        here, there = await run(in_process), await run(opened)
    for line, one, two in zip(SHEET, here, there, strict=True):
        assert json.dumps(one) == json.dumps(two), line  # as text, of which pytest shows the place that differs


def test_every_verb_is_on_the_sheet() -> None:
    assert VERBS.keys() == {line.method for line in SHEET}


def test_every_problem_a_sheet_expects_is_declared_by_its_verb() -> None:
    general = {"invalid-params", *OWN_WORDS}
    for line in SHEET:
        if line.problem and line.problem not in general:
            assert PROBLEMS[line.problem] in VERBS[line.method].raises, line
