# SPDX-License-Identifier: Apache-2.0
"""A vdsmd whose broker comes late, dies and comes back: REST is never disturbed, and no event is lost."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.bus_console import Console, console, until
from harness.daemon import Daemon
from harness.rabbitmq import RabbitMQ
from harness.rest_server import UnixHttp
from harness.simulated import simulated
from harness.until import until as wait_until
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
            seen = set(numbers(here))
            broker.kill()
            wait_until("the bus is down", lambda: metric(daemon, "vdsm_bus_up") == 0)
            define(daemon, "meanwhile")
            broker.start()
            await until(lambda: numbers(here)[-1:] == kept(daemon)[-1:], seconds=30)
            wanted = [n for n in kept(daemon) if n >= min(seen)]
            assert sorted(set(numbers(here))) == wanted  # each of them, the one of the outage too
            assert daemon.terminate() == 0
            await until(lambda: here.heartbeats[-1].attributes.others["state"] == "stopping")
            daemon.start("--simulate", "1")
            again = await until(lambda: (last := here.heartbeats[-1]).attributes.others["state"] == "ok" and last)
            assert again.attributes.epoch > beat.attributes.epoch
    assert f"on the bus as {AGENT}" in daemon.said()
    assert "off the bus" in daemon.said()


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
