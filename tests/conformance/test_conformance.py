# SPDX-License-Identifier: Apache-2.0
"""The same sheet through every door gives equal results, problems and events."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from harness.conformance import OWN_WORDS, Door, Told, machines_events, run
from harness.daemon import Daemon
from harness.memory_host import ADMIN, MemoryHost
from harness.on_bus import Gateway, bus_table
from harness.rabbitmq import RabbitMQ
from harness.sheet import SHEET
from harness.verdicts import Verdicts
from vdsm.amqp.address import BusAddress
from vdsm.amqp.bus import Bus
from vdsm.client import RemoteBridge, address, qmf
from vdsm.client.transport import Transport
from vdsm.contract import VERBS, Kind
from vdsm.contract.codec import to_plain
from vdsm.contract.errors import PROBLEMS, StreamNotCarried
from vdsm.core.bridge import Bridge


def through(bridge: Bridge) -> Door:
    async def call(method: str, params: dict[str, Any]) -> Any:
        outcome = await bridge.call(VERBS[method], params, ADMIN)
        return to_plain(outcome.result)

    return call


@pytest.fixture
async def in_process(prefix: str) -> AsyncIterator[Door]:
    host = MemoryHost(None, owner=prefix)
    await host.open()
    yield through(host.bridge)
    await host.close()


@pytest.fixture
def daemon(tmp_path: Path, prefix: str, rabbitmq: RabbitMQ) -> Any:
    made = Daemon(tmp_path, prefix, uri="test:///default", config=bus_table(tmp_path, rabbitmq, prefix))
    config = made.file.read_text().replace(f'["{made.images}"]', '["/images"]')
    config += '[transfers]\nremote_servers = ["images.test"]\n'
    made.file.write_text(config.replace(f'["{made.storage}"]', '["/storage"]\nprepared = "/run/vdsm/storage"'))
    made.start("--simulate", "0")
    yield made
    made.end()


@contextlib.asynccontextmanager
async def rest(daemon: Daemon, broker: RabbitMQ) -> AsyncIterator[Door]:
    bridge = RemoteBridge(Transport(address.find(f"unix:{daemon.socket}")))
    yield through(bridge)
    await bridge.close()


@contextlib.asynccontextmanager
async def bus(daemon: Daemon, broker: RabbitMQ) -> AsyncIterator[Door]:
    async with qmf.Console(Bus(BusAddress.parse(broker.url("engine")))) as console:
        yield through(qmf.RemoteBridge(console, daemon.prefix))


@contextlib.asynccontextmanager
async def gateway(daemon: Daemon, broker: RabbitMQ) -> AsyncIterator[Door]:
    made = Gateway(daemon.home / "gateway", daemon.prefix, broker, daemon.prefix)
    try:
        made.serve()
        async with rest(made, broker) as door:
            yield door
    finally:
        made.end()


@contextlib.asynccontextmanager
async def shell(daemon: Daemon, broker: RabbitMQ) -> AsyncIterator[Door]:
    async def call(method: str, params: dict[str, Any]) -> Any:
        if VERBS[method].kind is Kind.STREAM:  # the shell would open it, and stay; tests/shell does
            raise Told(to_plain(StreamNotCarried(method=method).body()))
        words = [f"{name}:={json.dumps(value)}" for name, value in params.items()]
        done = daemon.shell("--output", "json", "call", method, *words, ok=False)
        if done.returncode:
            raise Told(json.loads(done.stderr))
        return json.loads(done.stdout) if done.stdout.strip() else None

    yield call


@pytest.mark.parametrize("door", [rest, shell, bus, gateway])
async def test_every_door_gives_the_same(
    in_process: Door,
    daemon: Daemon,
    rabbitmq: RabbitMQ,
    door: Callable[[Daemon, RabbitMQ], contextlib.AbstractAsyncContextManager[Door]],
    verdicts: Verdicts,
    door_name: str,
) -> None:
    async with door(daemon, rabbitmq) as opened:
        here, there = await run(in_process), await run(opened)
        told_here, told_there = await machines_events(in_process), await machines_events(opened)
    verdicts.compare(door_name, here, there)
    verdicts.compare_events(door_name, told_here, told_there)


def test_every_verb_is_on_the_sheet() -> None:
    assert VERBS.keys() == {line.method for line in SHEET}


def test_every_problem_a_sheet_expects_is_declared_by_its_verb() -> None:
    general = {"invalid-params", *OWN_WORDS}
    for line in SHEET:
        if line.problem and line.problem not in general:
            assert PROBLEMS[line.problem] in VERBS[line.method].raises, line
