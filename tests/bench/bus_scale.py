# SPDX-License-Identifier: Apache-2.0
"""Hundreds of simulated hosts on one RabbitMQ: memory and idle CPU of their agents, and what a console hears."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from harness.on_bus import connect
from harness.rabbitmq import RabbitMQ, running
from harness.until import until
from vdsm.client.qmf.fleet import Fleet
from vdsm.contract.events import EventFilter

from .measure import Row, cpu_seconds, resident_mib

HOSTS, MACHINES, PROCESSES = 500, 20, 4
EVENT_ROUNDS = 20
IDLE_S = 60.0  # two heartbeats, and two looks at statistics
QUIET_CPU = 0.5  # of one processor, for all processes: what was asked for is done


def rows(home: Path, hosts: int = HOSTS) -> Iterator[Row]:
    (home / "broker").mkdir()
    with running(home / "broker") as broker, _Crowd(broker, hosts) as crowd:
        yield from _scale(broker, crowd, hosts)


class _Crowd:
    """The processes with the hosts."""

    def __init__(self, broker: RabbitMQ, hosts: int) -> None:
        each = hosts // PROCESSES
        command = [sys.executable, "-m", "bench.bus_hosts", broker.url("host-a")]
        self._processes = [
            subprocess.Popen(
                [*command, str(number * each), str(each), str(MACHINES)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent,
            )
            for number in range(PROCESSES)
        ]  # fmt: skip
        self.count = each * PROCESSES

    def __enter__(self) -> _Crowd:
        self.wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for process in self._processes:
            assert process.stdin
            assert process.stdout
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()

    def tell(self, word: str) -> None:
        for process in self._processes:
            assert process.stdin
            process.stdin.write(f"{word}\n")
            process.stdin.flush()

    def wait(self) -> int:
        """The sum of what they answer."""
        found = 0
        for process in self._processes:
            assert process.stdout
            done, *number = process.stdout.readline().split()
            assert done == "done"
            found += int(number[0]) if number else 0
        return found

    def memory_mib(self) -> float:
        return sum(resident_mib(process.pid) for process in self._processes)

    def cpu_seconds(self) -> float:
        return sum(cpu_seconds(process.pid) for process in self._processes)

    def settle(self) -> None:
        """Until what there is to tell has been told."""

        def is_quiet() -> bool:
            before = self.cpu_seconds()
            time.sleep(2)
            return self.cpu_seconds() - before < 2 * QUIET_CPU

        until("the hosts have become quiet", is_quiet, seconds=120)


def _scale(broker: RabbitMQ, crowd: _Crowd, hosts: int) -> Iterator[Row]:
    what = f"bus, {hosts} hosts of {MACHINES} machines"
    before = crowd.memory_mib()
    crowd.tell("join")
    crowd.wait()
    crowd.settle()
    memory = (crowd.memory_mib() - before) / crowd.count
    yield Row(f"{what}: memory of an agent", memory, "MiB", limit=1)
    used, began = crowd.cpu_seconds(), time.monotonic()
    time.sleep(IDLE_S)
    idle = (crowd.cpu_seconds() - used) / (time.monotonic() - began) / crowd.count
    yield Row(f"{what}: CPU of an idle agent", idle * 1000, "ms/s", limit=1)
    began = time.monotonic()
    with connect(broker) as fleet:
        found: set[str] = set()
        fleet.watch(lambda change, host: found.add(host.agent))
        found.update(host.agent for host in fleet.hosts(0))  # who was found before the watch began
        until("the console has seen all", lambda: len(found) >= crowd.count, seconds=60, every=0.01)
        yield Row(f"{what}: a new console knows all", time.monotonic() - began, "s", limit=10)
        crowd.settle()
        rate = _events(fleet, crowd)
        yield Row(f"{what}: events/s to one console", rate, "")
        yield Row(f"{what}: one of them", 1000 / rate, "ms", limit=4)


def _events(fleet: Fleet, crowd: _Crowd) -> float:
    """Every one of them, in the order of its host."""
    heard: dict[str, list[int]] = {}
    feed = fleet.events(EventFilter())

    def hear() -> None:
        for host, item in feed:
            heard.setdefault(host.agent, []).append(getattr(item, "id", 0))

    listener = threading.Thread(target=hear, daemon=True)
    listener.start()

    def are_followed() -> bool:
        crowd.tell("events 1")
        crowd.wait()
        return len(heard) == crowd.count

    until("all are followed", are_followed, seconds=60, every=1)
    crowd.settle()
    before = sum(map(len, list(heard.values())))
    began = time.monotonic()
    crowd.tell(f"events {EVENT_ROUNDS}")
    wanted = crowd.wait()
    until("all have come", lambda: sum(map(len, list(heard.values()))) >= before + wanted, seconds=120, every=0.01)
    took = time.monotonic() - began
    feed.close()
    listener.join()
    assert all(ids == list(range(ids[0], ids[0] + len(ids))) for ids in heard.values()), "lost, twice or out of order"
    return wanted / took
