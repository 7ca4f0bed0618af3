# SPDX-License-Identifier: Apache-2.0
"""A vdsmd whose broker comes late, dies and comes back: REST is never disturbed, and no event is lost."""

from __future__ import annotations

import asyncio
import http.client
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.bus_console import Console, console, until
from harness.bus_host import joined
from harness.daemon import Daemon
from harness.rabbitmq import RabbitMQ
from harness.rest_server import UnixHttp
from harness.simulated import simulated
from harness.until import until as wait_until
from vdsm.contract import vm
from vdsm.protocols.qmf2.model import Event

NAME = "vdsmtest-outage"
AGENT = f"vdsm.org:vdsmd:{NAME}"


def joining(address: str, tmp_path: Path, more: str = "") -> str:
    """The daemon's configuration, with the password where it belongs."""
    file = tmp_path / "password"
    file.write_text("host-a\n")
    file.chmod(0o600)
    return (
        f'[bus]\naddress = "{address}"\npassword_file = "{file}"\nname = "{NAME}"\nheartbeat_seconds = 1\n'
        f'users = {{ engine = "admin" }}\n{more}'
    )


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RabbitMQ]:
    """Of this test's own, not started yet."""
    home = tmp_path / "broker"
    home.mkdir()
    made = RabbitMQ(home)
    yield made
    made.stop()


def metric(daemon: Daemon, name: str) -> float:
    connection: http.client.HTTPConnection = UnixHttp(daemon.socket)
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    connection.close()
    (line,) = [line for line in page.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


def define(daemon: Daemon, name: str) -> None:
    with daemon.connect() as there:
        there.vm.define({"name": name, "memory": 64})


def numbers(here: Console) -> list[int]:
    return [number(event) for event in here.events]


def number(event: Event) -> int:
    return int(str(event.values["eventId"]))


def kept(daemon: Daemon) -> list[int]:
    with daemon.connect() as there:
        return [record.id for record in there.event.list().events]


async def test_from_no_broker_to_one_that_dies(broker: RabbitMQ, tmp_path: Path) -> None:
    address = broker.url("host-a").replace("host-a:host-a@", "host-a@")
    with simulated(tmp_path / "host", 1, joining(address, tmp_path)) as daemon:
        assert metric(daemon, "vdsm_bus_up") == 0
        define(daemon, "early")
        broker.start()
        async with console(broker.url("engine"), AGENT) as here:
            beat = await until(lambda: here.heartbeats and here.heartbeats[-1], seconds=30)
            assert metric(daemon, "vdsm_bus_up") == 1
            define(daemon, "before")
            await until(lambda: numbers(here)[-1:] == kept(daemon)[-1:])
            broker.kill()
            wait_until("the bus is down", lambda: metric(daemon, "vdsm_bus_up") == 0)
            define(daemon, "meanwhile")
            broker.start()
            # The console may be back later than the host: then it finds out what it has missed, and asks.
            last = kept(daemon)[-1]
            await until(lambda: here.heartbeats[-1].attributes.others["lastEvent"] == last, seconds=30)
            page = (await here.call("Event.list", since=min(numbers(here)) - 1))["result"]
            assert [e["id"] for e in page["events"]] == kept(daemon)[-len(page["events"]) :]
            assert set(numbers(here)) <= {e["id"] for e in page["events"]}
            define(daemon, "after")
            await until(lambda: numbers(here)[-1:] == kept(daemon)[-1:])
            assert daemon.terminate() == 0
            await until(lambda: here.heartbeats[-1].attributes.others["state"] == "stopping")
            daemon.start("--simulate", "1")
            again = await until(lambda: (last := here.heartbeats[-1]).attributes.others["state"] == "ok" and last)
            assert again.attributes.epoch > beat.attributes.epoch
    assert f"on the bus as {AGENT}" in daemon.said()
    assert "off the bus" in daemon.said()


class Line:
    """The host's way to the broker, which can be cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ends: list[asyncio.StreamWriter] = []
        self.cuts = 0

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._pass_both, "127.0.0.1", 0)

    def cut(self) -> None:
        self.cuts += bool(self._ends)
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()

    async def _pass_both(self, near_in: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        far_in, far_out = await asyncio.open_connection("127.0.0.1", self._port)
        self._ends += [near_out, far_out]
        await asyncio.gather(self._pass(near_in, far_out), self._pass(far_in, near_out), return_exceptions=True)
        for end in (near_out, far_out):
            end.close()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
        target.write_eof()


async def test_no_event_is_lost_while_the_hosts_line_is_cut_again_and_again(rabbitmq: RabbitMQ) -> None:
    line = Line(rabbitmq.port)
    chance = random.Random(7)
    async with await line.serve() as server:
        port = server.sockets[0].getsockname()[1]
        async with (
            joined(f"amqp://host-a:host-a@127.0.0.1:{port}") as there,
            console(rabbitmq.url("engine"), there.name) as here,
        ):
            made = await there.host.create("a")
            async with asyncio.timeout(120):
                while line.cuts < 4:
                    await there.host.call(vm.pause, vmID=made.vm_id)
                    if there.bus.up and chance.random() < 0.2:
                        line.cut()
                    await there.host.call(vm.cont, vmID=made.vm_id)
                    await asyncio.sleep(chance.random() * 0.1)
            told = [record.id for record in await there.host.events()]
            await until(lambda: told[-1] in numbers(here), seconds=60)
            assert list(dict.fromkeys(numbers(here))) == told  # all, in order; some perhaps twice


async def test_the_bus_may_be_the_only_door(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    address = rabbitmq.url("host-a").replace("host-a:host-a@", "host-a@")
    daemon = Daemon(tmp_path, "vdsmtest-only", uri="", config=joining(address, tmp_path, "[rest]\nenabled = false\n"))
    try:
        daemon.launch("--simulate", "1")
        async with console(rabbitmq.url("engine"), AGENT) as here:
            await until(lambda: here.heartbeats)
            answer: Any = await here.call("VM.list")
            assert answer["result"][0]["vmName"] == "sim1"
            assert not daemon.socket.exists()
    finally:
        daemon.end()


def test_a_password_in_the_clear_is_told(tmp_path: Path) -> None:
    """To an address that nobody has (RFC 5737): the daemon serves all the same."""
    with simulated(tmp_path / "host", 1, joining("amqp://host-a@192.0.2.1", tmp_path)) as daemon:
        assert "the password crosses the network" in daemon.said()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("[rest]\nenabled = false", "[rest] enabled: every door is closed"),
        ('[bus]\naddress = "http://a"', "[bus] address: the bus has the scheme 'http'"),
        ('[bus]\naddress = "amqp://a:b@c"', "[bus] address: a password in it could be seen"),
        ('[bus]\naddress = "amqp://a"\nprofile = "other"', "[bus] profile: Invalid enum value 'other'"),
        ('[bus]\naddress = "amqp://u@a"\npassword_file = "/nowhere"', "[bus] password_file: /nowhere cannot be read"),
        ('[bus]\naddress = "amqp://u@a"\npassword_file = "/etc/hostname"', "others may read /etc/hostname"),
    ],
)
def test_a_wrong_configuration_is_told_before_anything_else(tmp_path: Path, config: str, said: str) -> None:
    daemon = Daemon(tmp_path, "vdsmtest-wrong", uri="", config=config)
    process = daemon.launch("--simulate", "1")
    assert process.wait(60) in (1, 2)
    assert said in daemon.said()
