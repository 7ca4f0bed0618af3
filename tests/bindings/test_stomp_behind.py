# SPDX-License-Identifier: Apache-2.0
"""A reader of events over STOMP that fell behind what the journal keeps: it is told, and nothing comes twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness.rest_server import OWN_ROLES, Server
from harness.stomp import EVENTS, StompClient
from vdsm.bindings.identity import Identity, Roles
from vdsm.bindings.listener import Door
from vdsm.bindings.options import RestOptions
from vdsm.bindings.sockets import listen_tcp
from vdsm.bindings.stomp import StompWire
from vdsm.contract.access import Role
from vdsm.contract.events import VMStatus
from vdsm.core.journal import RING
from vdsm.state.store import Retention

VM_ID = "6e7e9f0c-33f5-4e2c-9d0b-3f5f4f7d2a11"
KEPT = 100
LONG = "x" * 2000  # what the two kernels and the door buffer for a client, some megabytes, is soon full
SAID = 3 * RING


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with closing(Server(tmp_path, RestOptions(), OWN_ROLES, Retention(events=KEPT))) as made:
        yield made


@pytest.fixture
def port(server: Server) -> Iterator[int]:
    """A plain port that speaks STOMP."""
    host = server.host
    identity = Identity(Roles(plain=Role.ADMIN), host.refusals, binding="stomp")

    async def listen() -> tuple[Door, int]:
        door = Door(server.app, host.refusals, server.options, [StompWire(host.bridge, identity)])
        (sock,) = listen_tcp("127.0.0.1", 0)
        door.open(sock)
        return door, sock.getsockname()[1]

    door, number = server.run(listen)
    yield number
    server.run(door.close)


def say(server: Server, first: int, count: int) -> None:
    """Put events with rising numbers into the journal."""

    async def publish() -> None:
        for number in range(first, first + count):
            event = VMStatus(vm_id=VM_ID, vm_name="a", status="Up", time_offset=number, hash=LONG)
            server.host.journal.publish(event)
        await server.host.journal.flush()

    server.run(publish)


def number_of(body: bytes) -> int:
    return int(json.loads(body)["params"][VM_ID]["timeOffset"])


def test_who_fell_behind_is_told_that_events_were_lost(server: Server, port: int) -> None:
    with StompClient(port, window=4096).open() as slow:
        slow.subscribe(EVENTS)
        slow.call("Host.ping")
        say(server, 0, SAID)
        heard = []
        while (frame := slow.read()).command == "MESSAGE":
            heard.append(number_of(frame.body))
        assert frame.command == "ERROR"
        assert frame.body == b"Events were lost: connect again and read the objects anew"
        assert slow.closed()
        assert heard == list(range(len(heard))), "in order, without a hole before it is told"
        assert 0 < len(heard) < SAID - RING

    with StompClient(port).open() as again:
        again.subscribe(EVENTS)
        again.call("Host.ping")
        say(server, SAID, 1)
        event = again.wait_event(lambda event: True)
        assert int(event["params"][VM_ID]["timeOffset"]) == SAID, "from now on"


def test_who_keeps_up_misses_nothing(server: Server, port: int) -> None:
    with StompClient(port).open() as client:
        client.subscribe(EVENTS)
        client.call("Host.ping")
        for first in range(0, 10 * KEPT, KEPT):
            say(server, first, KEPT)
            client.wait_event(lambda event, last=first + KEPT - 1: int(event["params"][VM_ID]["timeOffset"]) == last)
        assert [int(event["params"][VM_ID]["timeOffset"]) for event in client.events] == list(range(10 * KEPT))
