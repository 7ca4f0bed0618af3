# SPDX-License-Identifier: Apache-2.0
"""The event stream over Server-Sent Events and WebSocket, and the serial console."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, unix_connect

from harness.rest_server import Reply, Server, UnixHttp
from harness.until import until
from vdsm.contract.events import HostStopping
from vdsm.protocols.sse import Message, Reader

from .conftest import Serve

NOBODY = "00000000-0000-4000-8000-000000000000"


class Stream:
    """An open GET /api/v1/events."""

    def __init__(self, server: Server, query: str = "", **headers: str) -> None:
        self._connection = UnixHttp(server.path)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request("GET", f"/api/v1/events{query}", headers=named)
        self.answer = self._connection.getresponse()
        self.reader = Reader()
        self.heard = b""

    def messages(self, count: int) -> list[Message]:
        """The next ones, at least so many."""
        found: list[Message] = []
        while len(found) < count:
            data = self.answer.read1(65536)
            assert data, "the stream ended"
            self.heard += data
            found += self.reader.feed(data)
        return found

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


@contextmanager
def stream(server: Server, query: str = "", **headers: str) -> Iterator[Stream]:
    opened = Stream(server, query, **headers)
    try:
        yield opened
    finally:
        opened.close()


def say(server: Server, count: int = 1) -> None:
    """Put events into the journal."""

    async def publish() -> None:
        for _ in range(count):
            server.host.journal.publish(HostStopping())
        await server.host.journal.flush()

    server.run(publish)


def last_id(server: Server) -> int:
    page: Any = server.get("/api/v1/events/history?limit=10000").json
    return int(page["last"])


def websocket(server: Server, path: str) -> ClientConnection:
    # With a bounded queue this client cannot close while more arrives than it has read.
    return unix_connect(str(server.path), f"ws://localhost{path}", max_queue=None)


# ---- Server-Sent Events ----------------------------------------------------------------------------------------------


def test_the_story_of_a_machine(server: Server) -> None:
    vm_id = server.create("a")
    history = server.get("/api/v1/events/history?limit=10000").json["events"]
    with stream(server, "?since=0") as events:
        assert events.answer.getheader("content-type") == "text/event-stream; charset=utf-8"
        assert events.answer.getheader("cache-control") == "no-store"
        heard = events.messages(len(history))
    names = [message.event for message in heard]
    assert "VM_defined" in names
    record = json.loads(heard[0].data)
    assert heard[0].id == str(record["id"])
    assert heard[0].event == record["data"]["type"]
    assert any(json.loads(m.data)["subject"] == vm_id for m in heard)
    assert [json.loads(m.data) for m in heard] == history


def test_it_goes_on_where_it_was(server: Server) -> None:
    begin = last_id(server)
    say(server, 5)
    with stream(server, f"?since={begin}") as events:
        ids = [int(m.id) for m in events.messages(5)]
    assert ids == sorted(set(ids))
    for events_after in (stream(server, "?since=0", Last_Event_ID=str(ids[2])), stream(server, f"?since={ids[2]}")):
        with events_after as events:
            assert [int(m.id) for m in events.messages(2)] == ids[3:]


def test_without_a_place_it_begins_now(server: Server) -> None:
    say(server)
    with stream(server) as events:
        while b": vdsm\n\n" not in events.heard:  # said as soon as it listens
            events.heard += events.answer.read1(1000)
        before = last_id(server)
        say(server)
        assert int(events.messages(1)[0].id) > before


def test_filters(server: Server) -> None:
    a, _ = server.create("a"), server.create("b")
    with stream(server, f"?since=0&types=VM_defined&types=VM_status&subjects={a}&severities=info") as events:
        heard = [json.loads(m.data) for m in events.messages(2)]
    assert {r["subject"] for r in heard} == {a}
    assert {r["data"]["type"] for r in heard} <= {"VM_defined", "VM_status"}


@pytest.mark.parametrize(
    ("query", "headers", "path"),
    [
        ("?since=-1", {}, "$.since"),
        ("?since=soon", {}, "$.since"),
        ("?since=" + "9" * 5000, {}, "$.since"),
        ("?since=9007199254740992", {}, "$.since"),
        ("", {"Last_Event_ID": "x"}, "$.Last-Event-ID"),
        ("?severities=loud", {}, "$.severities[0]"),
        ("?colour=red", {}, "$"),
    ],
)
def test_a_bad_subscription_is_refused(server: Server, query: str, headers: dict[str, str], path: str) -> None:
    reply = server.get(f"/api/v1/events{query}", **headers)
    assert reply.problem("invalid-params")["path"] == path


def test_json_is_somewhere_else(server: Server) -> None:
    body = server.get("/api/v1/events", Accept="application/json").problem("not-acceptable")
    assert "/events/history" in body["hint"]
    with stream(server, Accept="application/json, text/event-stream") as events:
        assert events.answer.status == 200


def test_head_tells_without_waiting(server: Server) -> None:
    reply = server.request("HEAD", "/api/v1/events")
    assert (reply.status, reply.body) == (200, b"")


def test_a_quiet_stream_lives(serve: Serve) -> None:
    server = serve(heartbeat=0.1)
    with stream(server) as events:
        while events.heard.count(b": still here\n\n") < 3:
            data = events.answer.read1(1000)
            assert data
            events.heard += data


def test_a_gap_is_said(server: Server) -> None:
    say(server)
    place = last_id(server) + 1_000_000
    with stream(server, f"?since={place}") as events:
        message = events.messages(1)[0]
    assert message.event == "gap"
    gap = json.loads(message.data)
    assert gap["since"] == place
    assert message.id == str(gap["until"])


def test_a_client_that_goes_is_forgotten(server: Server) -> None:
    for _ in range(20):
        with stream(server) as events:
            assert events.answer.status == 200
    until("nobody is left", lambda: guests(server) == 0)


def guests(server: Server) -> int:
    """How many connections the door holds."""

    async def count() -> int:
        return server.door.guests

    return server.run(count)


def test_a_client_that_does_not_read_is_dropped(serve: Serve) -> None:
    server = serve(stall_timeout=0.5)
    sock = server.raw(b"GET /api/v1/events?since=0 HTTP/1.1\r\nHost: x\r\n\r\n")
    with stream(server) as other:

        def dropped() -> bool:
            say(server, 500)
            other.messages(500)  # it has them all, whatever becomes of the other
            return guests(server) == 1

        until("the client that does not read is gone", dropped, every=0.2)
    sock.close()


def test_a_closing_door_ends_the_stream(serve: Serve) -> None:
    server = serve()
    with stream(server) as events:
        closing = threading.Thread(target=server.run, args=(server.door.close,))
        closing.start()
        while events.answer.read1(1000):
            pass
        closing.join(10)
        assert not closing.is_alive()


# ---- WebSocket -------------------------------------------------------------------------------------------------------


def test_events_over_websocket(server: Server) -> None:
    server.create("a")
    history = server.get("/api/v1/events/history?limit=10000").json["events"]
    with websocket(server, "/api/v1/events?since=0") as socket_:
        heard = [json.loads(socket_.recv(10)) for _ in history]
    assert heard == [{"event": record} for record in history]


def test_a_gap_over_websocket(server: Server) -> None:
    place = last_id(server) + 1_000_000
    with websocket(server, f"/api/v1/events?since={place}") as socket_:
        assert json.loads(socket_.recv(10))["gap"]["since"] == place


def test_websockets_cut_and_resumed(server: Server) -> None:
    """The same as for Server-Sent Events, which tests/system cuts a thousand times."""
    chance = random.Random(7)
    say(server)
    first = last = last_id(server)
    seen: list[int] = []
    wanted = 400

    def change() -> None:
        for _ in range(wanted):
            say(server)

    changer = threading.Thread(target=change)
    changer.start()
    while len(seen) < wanted:
        with websocket(server, f"/api/v1/events?since={last}") as socket_:
            for _ in range(min(chance.randrange(0, 6), wanted - len(seen))):
                last = json.loads(socket_.recv(10))["event"]["id"]
                seen.append(last)
    changer.join()
    assert seen == list(range(first + 1, first + 1 + wanted))


def test_a_websocket_that_is_refused_gets_the_problem(server: Server) -> None:
    for path, status, slug in (
        ("/api/v1/events?since=x", 400, "invalid-params"),
        ("/api/v1/vms", 404, "method-not-found"),
        (f"/api/v1/vms/{NOBODY}/console", 404, "no-such-vm"),
    ):
        with pytest.raises(InvalidStatus) as refused, websocket(server, path):
            pass
        response = refused.value.response
        assert response.status_code == status
        reply = Reply(status, {k.lower(): v for k, v in response.headers.raw_items()}, response.body or b"")
        reply.problem(slug)


def test_a_closing_door_says_so(serve: Serve) -> None:
    server = serve()
    with websocket(server, "/api/v1/events") as socket_:
        closing = threading.Thread(target=server.run, args=(server.door.close,))
        closing.start()
        with pytest.raises(ConnectionClosed) as closed:
            socket_.recv(10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code in (1001, 1012)
        closing.join(10)


# ---- console ---------------------------------------------------------------------------------------------------------


def test_a_console(server: Server) -> None:
    vm_id = server.create("a")
    with websocket(server, f"/api/v1/vms/{vm_id}/console") as console:
        console.send(b"hello\r")
        heard = b""
        while b"hello" not in heard:
            data = console.recv(10)
            assert isinstance(data, bytes)
            heard += data


def test_a_console_is_one_persons(server: Server) -> None:
    vm_id = server.create("a")
    with websocket(server, f"/api/v1/vms/{vm_id}/console") as first:
        first.send("text is taken too\r")
        first.recv(10)
        with pytest.raises(InvalidStatus) as refused, websocket(server, f"/api/v1/vms/{vm_id}/console"):
            pass
        assert refused.value.response.status_code == 409
        with websocket(server, f"/api/v1/vms/{vm_id}/console?force=true") as second:
            second.send(b"mine\r")
            second.recv(10)
            list(first)  # to its end, which has come


def test_a_console_ends_with_its_machine(server: Server) -> None:
    vm_id = server.create("a")
    with websocket(server, f"/api/v1/vms/{vm_id}/console") as console:
        assert server.request("POST", f"/api/v1/vms/{vm_id}/destroy").status == 204
        list(console)  # to its end, which has come
        assert console.close_code == 1000


def test_a_closed_console_is_free_again(server: Server) -> None:
    vm_id = server.create("a")
    for _ in range(5):

        def opened() -> bool:
            try:
                with websocket(server, f"/api/v1/vms/{vm_id}/console"):
                    return True
            except InvalidStatus:
                return False

        until("the console is free", opened)
