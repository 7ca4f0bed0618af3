# SPDX-License-Identifier: Apache-2.0
"""A broker that is killed and restarted 20 times under load: the host is back within 5 s each time, REST notices
nothing, and a console that follows the events has every one of them once."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.daemon import Daemon
from harness.on_bus import bus_table, connect
from harness.rabbitmq import RabbitMQ
from harness.rest_server import UnixHttp
from harness.simulated import simulated
from harness.until import until
from vdsm.client.qmf.fleet import Fleet
from vdsm.contract import errors
from vdsm.contract.events import EventFilter, EventRecord

RESTARTS = 20
BACK_S = 5.0
MACHINES = 8
HOST = "vdsmtest-restarts"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RabbitMQ]:
    """Of this test's own."""
    home = tmp_path / "broker"
    home.mkdir()
    made = RabbitMQ(home)
    made.start()
    yield made
    made.stop()


class RestLoad(threading.Thread):
    """Pauses and resumes machines over REST, one after the other, and keeps how long each call took."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(daemon=True)
        self._daemon = daemon
        self._done = threading.Event()
        self.seconds: list[float] = []
        self.problems: list[Exception] = []

    def run(self) -> None:
        with self._daemon.connect() as host:
            ids = [vm.vm_id for vm in host.vm.list()]
            number = 0
            while not self._done.is_set():
                change = host.vm.pause if number // MACHINES % 2 == 0 else host.vm.cont
                began = time.perf_counter()
                try:
                    change(ids[number % MACHINES])
                except errors.ObjectBusy:
                    pass  # the bus changes it just now
                except Exception as problem:  # whatever it is: it is what this test is about
                    self.problems.append(problem)
                self.seconds.append(time.perf_counter() - began)
                number += 1
                time.sleep(0.02)

    def end(self) -> None:
        self._done.set()
        self.join()


class BusLoad(threading.Thread):
    """Calls over the bus, as often as they go through."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(daemon=True)
        self._fleet = fleet
        self._done = threading.Event()
        self.answered = 0
        self.failed = 0

    def run(self) -> None:
        while not self._done.is_set():
            try:
                host = self._fleet.host(HOST).options(deadline=10)
                assert len(host.vm.list()) == MACHINES
                self.answered += 1
            except errors.Problem:
                self.failed += 1
                time.sleep(0.1)

    def end(self) -> None:
        self._done.set()
        self.join()


class Follower(threading.Thread):
    """What a console hears of the host's events, from an id on."""

    def __init__(self, fleet: Fleet, since: int) -> None:
        super().__init__(daemon=True)
        self._feed = fleet.events(EventFilter(), since)
        self.heard: list[int] = []
        self.gaps = 0

    def run(self) -> None:
        for _, item in self._feed:
            if isinstance(item, EventRecord):
                self.heard.append(item.id)
            else:
                self.gaps += 1

    def end(self) -> None:
        self._feed.close()
        self.join()


class Metrics:
    """One connection, asked again and again."""

    def __init__(self, daemon: Daemon) -> None:
        self._connection: http.client.HTTPConnection = UnixHttp(daemon.socket)

    def bus_is_up(self) -> bool:
        self._connection.request("GET", "/metrics")
        return "\nvdsm_bus_up 1.0" in self._connection.getresponse().read().decode()

    def close(self) -> None:
        self._connection.close()


def test_twenty_restarts_under_load(broker: RabbitMQ, tmp_path: Path) -> None:
    config = bus_table(tmp_path, broker, HOST)
    with simulated(tmp_path / "host", MACHINES, config) as daemon, connect(broker) as fleet:
        until("the host is found", lambda: [host.name for host in fleet.hosts(1) if host.name == HOST])
        with daemon.connect() as host:
            first = host.event.list(since=0, limit=10_000).events[-1].id
        follower, over_bus, over_rest = Follower(fleet, first), BusLoad(fleet), RestLoad(daemon)
        loads = (follower, over_bus, over_rest)
        metrics = Metrics(daemon)
        for load in loads:
            load.start()
        try:
            until("all is at work", lambda: follower.heard and over_bus.answered)
            back = [_restart(broker, metrics, over_bus) for _ in range(RESTARTS)]
        finally:
            over_rest.end()
            happened = _happened(daemon, first)
            try:
                until("the console has all", lambda: follower.heard[-1:] == happened[-1:])
            finally:
                over_bus.end()
                follower.end()
                metrics.close()
    assert max(back) <= BACK_S, f"back after {back}"
    assert over_rest.problems == []
    ordered = sorted(over_rest.seconds)
    assert ordered[len(ordered) * 99 // 100] < 0.5, f"REST, slowest: {ordered[-10:]}"
    assert follower.gaps == 0, "everything is kept, so there is nothing to leave out"
    assert follower.heard == happened
    assert len(happened) > RESTARTS * 50, "too few events to prove anything"


def _restart(broker: RabbitMQ, metrics: Metrics, over_bus: BusLoad) -> float:
    """Seconds from when the broker takes connections to when the host is back."""
    broker.kill()
    until("the host has noticed", lambda: not metrics.bus_is_up())
    broker.start()
    began = time.monotonic()
    until("the host is back", metrics.bus_is_up)
    took = time.monotonic() - began
    answered = over_bus.answered
    until("the bus answers again", lambda: over_bus.answered > answered)
    return took


def _happened(daemon: Daemon, since: int) -> list[int]:
    """The ids in the host's journal."""
    found: list[int] = []
    with daemon.connect() as host:
        while page := host.event.list(since=found[-1] if found else since, limit=10_000).events:
            found += [event.id for event in page]
    return found
