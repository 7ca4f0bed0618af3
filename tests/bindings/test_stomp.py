# SPDX-License-Identifier: Apache-2.0
"""JSON-RPC over STOMP as the published clients speak it, on raw sockets, against a daemon."""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.stomp import (
    EVENTS,
    REQUESTS,
    RESPONSES,
    Failed,
    JavaClient,
    PythonClient,
    StompClient,
    Wired,
    result_of,
)
from harness.story import live, status_of
from harness.until import BUSY, until

SLOW = 1.0  # seconds a reset takes here


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    made = Wired(
        tmp_path_factory.mktemp("wired"),
        f"vdsmtest-{secrets.token_hex(4)}",
        f'[simulate]\nfaults = "reset:delay={SLOW}"\n',
    )
    yield made.serve(machines=1)
    made.end()


Open = Callable[[Wired], StompClient]

CLIENTS: dict[str, Open] = {
    "java": lambda wired: JavaClient(wired.port()),
    "java, TLS 1.2": lambda wired: JavaClient(
        wired.port("https"), wired.context("engine", version=ssl.TLSVersion.TLSv1_2)
    ),
    "java, TLS 1.3": lambda wired: JavaClient(
        wired.port("https"), wired.context("engine", version=ssl.TLSVersion.TLSv1_3)
    ),
    "python": lambda wired: PythonClient(wired.port()),
    "python, TLS": lambda wired: PythonClient(wired.port("https"), wired.context("engine")),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_machine_from_its_making_to_its_end(wired: Wired, name: str) -> None:
    with CLIENTS[name](wired) as client:
        live(client, f"a-{secrets.token_hex(4)}", "/images/a.raw")


# ---- calls -----------------------------------------------------------------------------------------------------------


def test_params_by_position(wired: Wired) -> None:
    with wired.plain().open() as client:
        assert client.call("Host.echo", ["grüß"]) == "grüß"
        with pytest.raises(Failed) as failed:
            client.call("Host.echo", ["a", "b"])
        assert failed.value.code == -32602


@pytest.mark.parametrize("key", ["x", 0, -5, 2**60, 1.5, True, "ü" * 1000])
def test_an_id_comes_back_as_it_was(wired: Wired, key: Any) -> None:
    with wired.plain().open() as client:
        client.post("Host.ping", key=key)
        answer = client.message()
        assert answer == {"jsonrpc": "2.0", "id": key, "result": True}
        assert type(answer["id"]) is type(key)


def test_an_error_is_an_integer_code_with_our_problem_beside_it(wired: Wired) -> None:
    with wired.plain().open() as client, pytest.raises(Failed) as failed:
        client.call("VM.getStats", {"vmID": f"{uuid.UUID(int=7)}"}, ovirtCorrelationId="flow-7")
    error = failed.value.error
    assert set(error) == {"code", "message", "data"}
    assert error["code"] == 1
    assert error["data"]["type"] == "urn:vdsm:problem:no-such-vm"
    assert error["data"]["hint"]
    assert error["data"]["flowId"] == "flow-7"


def test_an_unknown_verb_is_told_and_logged_with_its_parameters(wired: Wired) -> None:
    name = f"Host.no{secrets.token_hex(4)}"
    with wired.plain().open() as client, pytest.raises(Failed) as failed:
        client.call(name, {"first\n": 1, "second": 2})
    assert failed.value.code == -32601
    line = next(line for line in wired.said().splitlines() if name in line)
    assert r"'first\n', 'second'" in line


def test_the_flow_id_is_in_the_audit(wired: Wired) -> None:
    with wired.plain().open() as client:
        client.call("Host.setLogLevel", {"level": "INFO", "name": "vdsm.core"}, ovirtCorrelationId="corr-1")
        records = client.call("Audit.list", {"limit": 10_000})
        (record,) = [r for r in records if r["flowId"] == "corr-1"]
        assert record["method"] == "Host.setLogLevel"
        assert record["channel"] == "stomp+tcp"
        assert record["caller"] == "tcp:127.0.0.1"


def test_a_batch_is_answered_in_its_order(wired: Wired) -> None:
    batch = [
        {"jsonrpc": "2.0", "method": "Host.ping", "id": 1},
        {"jsonrpc": "2.0", "method": "Host.ping"},
        {"jsonrpc": "2.0", "method": "No.such", "id": 2},
        7,
        {"jsonrpc": "2.0", "method": "Host.echo", "params": ["a"], "id": "three"},
    ]
    with wired.plain().open() as client:
        client.send("SEND", json.dumps(batch), destination=REQUESTS, reply_to=client.replies)
        one, two, bad, three = client.message()
    assert (one["id"], one["result"]) == (1, True)
    assert (two["id"], two["error"]["code"]) == (2, -32601)
    assert (bad["id"], bad["error"]["code"]) == (None, -32600)
    assert (three["id"], three["result"]) == ("three", "a")


def test_notifications_are_done_and_never_answered(wired: Wired) -> None:
    quiet = {"jsonrpc": "2.0", "method": "Host.setLogLevel", "params": {"level": "INFO", "name": "vdsm.state"}}
    with wired.plain().open() as client:
        for body in (quiet, [quiet, quiet], {**quiet, "method": "No.such"}, {**quiet, "params": {"level": 5}}):
            client.send(
                "SEND", json.dumps(body), destination=REQUESTS, reply_to=client.replies, ovirtCorrelationId="quiet"
            )
        client.call("Host.ping")
        until("all are done", lambda: sum(r["flowId"] == "quiet" for r in client.call("Audit.list")) == 4)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (b'{"jsonrpc":"2.0","method":"Host.ping","id":1,"id":2}', -32700),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, -32700),
        (b"[" * 10_000, -32700),
        (b"[]", -32600),
        (b"[" + b",".join([b'{"jsonrpc":"2.0","method":"Host.ping","id":1}'] * 1000) + b"]", -32600),
        (b'{"jsonrpc":"1.0","method":"Host.ping","id":null}', -32600),
        (b'{"jsonrpc":"2.0","method":"Host.ping","params":5,"id":null}', -32600),
        (b'{"method":"Host.ping"}', -32600),
    ],
)
@pytest.mark.parametrize("reply_to", [{"reply_to": "private"}, {}], ids=["reply-to", "no reply-to"])
def test_what_is_no_call_gets_an_error(wired: Wired, body: bytes, code: int, reply_to: dict[str, str]) -> None:
    with wired.plain().open(reply_to.get("reply_to", RESPONSES)) as client:
        client.send("SEND", body, destination=REQUESTS, **reply_to)
        answer = client.message()
        assert answer["id"] is None
        assert answer["error"]["code"] == code
        assert client.call("Host.ping") is True


def test_slow_calls_do_not_block_others(wired: Wired) -> None:
    """And answers come as they are ready, not in the order of the calls."""
    with wired.plain().open() as client:
        vm_id = client.call("Host.getVMList")[0]["vmId"]
        begun = time.monotonic()
        slow = client.post("VM.reset", {"vmID": vm_id})
        for _ in range(20):
            assert client.call("Host.ping") is True
        assert time.monotonic() - begun < SLOW
        assert result_of(client.message(), slow) is True
        assert time.monotonic() - begun >= SLOW


def test_many_calls_at_once(wired: Wired) -> None:
    with wired.plain().open() as client:
        keys = {client.post("Host.ping") for _ in range(2000)}
        assert {client.message()["id"] for _ in range(2000)} == keys


# ---- destinations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("queue", [REQUESTS, "jms.topic.vdsm_irs_requests", f"{REQUESTS}.host1", f"{REQUESTS}.a.b"])
def test_request_queues_and_what_is_below_them(wired: Wired, queue: str) -> None:
    with wired.plain().open() as client:
        client.send(
            "SEND", '{"jsonrpc":"2.0","method":"Host.ping","id":5}', destination=queue, reply_to=client.replies
        )  # fmt: skip
        assert client.message()["id"] == 5


def test_an_answer_reaches_every_subscription_of_its_caller(wired: Wired) -> None:
    shared = f"jms.topic.{uuid.uuid4()}"
    with (
        wired.plain().open(shared) as one,
        wired.plain().open(shared) as two,
        wired.tls("watcher").open(shared) as other,
    ):
        other.call("Host.ping", reply_to=shared)
        key = one.post("Host.ping", reply_to=shared)
        assert one.message()["id"] == two.message()["id"] == key
        assert one.call("Host.ping", reply_to=shared) is True
        assert other.call("Host.echo", ["mine"], reply_to=shared) == "mine", "nobody reads another's answers"


def test_a_managers_two_connections(wired: Wired) -> None:
    """It opens a second one for storage, with queues of its own; each hears its own answers."""
    with JavaClient(wired.port()) as first, wired.plain() as second:
        second.connect("0,15000")
        second.subscribe("jms.topic.vdsm_irs_responses")
        call = {"jsonrpc": "2.0", "method": "Host.echo", "params": {"message": "irs"}, "id": "storage"}
        queues = {"destination": "jms.topic.vdsm_irs_requests", "reply_to": "jms.topic.vdsm_irs_responses"}
        second.send("SEND", json.dumps(call), **queues)
        assert first.call("Host.echo", {"message": "vds"}) == "vds"
        assert result_of(second.message(), "storage") == "irs"
        assert first.call("Host.ping") is True


def test_an_answer_goes_to_each_level_above(wired: Wired) -> None:
    queue = f"{uuid.uuid4()}"
    with wired.plain() as client:
        client.connect()
        keys = {client.subscribe(f"{queue}.a.b"), client.subscribe(f"{queue}.a"), client.subscribe(queue)}
        client.subscribe(f"{queue}.a.b.c")
        client.post("Host.ping", reply_to=f"{queue}.a.b")
        frames = [client.read() for _ in keys]
        assert {frame.headers["subscription"] for frame in frames} == keys
        assert {frame.headers["destination"] for frame in frames} == {f"{queue}.a.b"}


def test_after_unsubscribe_there_is_nothing(wired: Wired) -> None:
    with wired.plain().open() as client:
        key = client.subscribe("private")
        client.send("UNSUBSCRIBE", id=key)
        client.post("Host.ping", reply_to="private")
        client.call("Host.ping")


def test_clients_may_tell_each_other(wired: Wired) -> None:
    queue = f"{uuid.uuid4()}"
    with wired.plain().open(queue) as one, wired.plain().open() as two:
        two.send("SEND", '{"a":1}', destination=queue, **{"content-type": "application/json", "x-mine": "1"})
        frame = one.read()
        assert (frame.body, frame.headers["x-mine"], frame.headers["destination"]) == (b'{"a":1}', "1", queue)
        two.send("SEND", "x", destination="nobody.there", receipt="1")
        assert two.error() == "Subscription not available"
        assert two.read().command == "RECEIPT"
        two.send("SEND", "x" * 100_000, destination=queue)
        assert "at most 65536" in two.error()
        assert two.call("Host.ping") is True


def test_another_caller_cannot_forge_an_event(wired: Wired) -> None:
    with wired.plain().open() as engine, wired.tls("watcher").open() as forger:
        engine.subscribe(EVENTS)
        engine.call("Host.ping")
        forger.send("SEND", '{"jsonrpc":"2.0","method":"|virt|VM_status|x","params":{}}', destination=EVENTS)
        assert forger.error() == "Subscription not available"
        engine.call("Host.ping")
        assert engine.events == []


# ---- events ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("destination", [EVENTS, "jms.queue", "jms"])
def test_events_from_now_on_and_in_order(wired: Wired, destination: str) -> None:
    with wired.plain().open() as client, wired.plain().open("answers") as watcher:
        vm_id = client.call("Host.getVMList")[0]["vmId"]
        client.call("VM.pause", {"vmID": vm_id})
        since = client.call("Event.list")["last"]
        watcher.subscribe(destination)
        watcher.call("Host.ping")
        for _ in range(3):
            client.call("VM.cont", {"vmID": vm_id})
            client.call("VM.pause", {"vmID": vm_id})
        client.call("VM.cont", {"vmID": vm_id})
        journal = client.call("Event.list", {"since": since, "types": ["VM_status"]})["events"]
        wanted = [(record["notifyTime"], record["data"]["status"]) for record in journal]
        assert [status for _, status in wanted].count("Paused") == 3
        watcher.wait_event(lambda event: len(watcher.events) == len(wanted))
        found = [(event["params"]["notify_time"], status_of(event, vm_id)) for event in watcher.events]
        assert found == wanted


def test_a_viewer_may_watch_and_not_touch(wired: Wired) -> None:
    with wired.tls("watcher").open() as watcher, wired.plain().open() as client:
        watcher.subscribe(EVENTS)
        vm_id = watcher.call("Host.getVMList")[0]["vmId"]
        with pytest.raises(Failed) as failed:
            watcher.call("VM.pause", {"vmID": vm_id})
        assert failed.value.error["data"]["type"] == "urn:vdsm:problem:access-denied"
        client.call("VM.pause", {"vmID": vm_id})
        client.call("VM.cont", {"vmID": vm_id})
        watcher.wait_event(lambda event: status_of(event, vm_id) == "Paused")


# ---- the connection --------------------------------------------------------------------------------------------------


def test_one_frame_one_record(wired: Wired) -> None:
    """The Java client waits for more bytes when two frames come in one TLS record."""
    with JavaClient(wired.port("https"), wired.context(version=ssl.TLSVersion.TLSv1_2)) as client:
        call = '{"jsonrpc":"2.0","method":"Host.ping","params":{},"id":"x"}'
        frame = f"SEND\ndestination:{REQUESTS}\nreply-to:{RESPONSES}\ncontent-length:{len(call)}\n\n{call}\0"
        client.reads.clear()
        client.sock.sendall(frame.encode() * 50)
        for _ in range(50):
            assert client.message()["result"] is True
        assert len(client.reads) == 50
        for read in client.reads:
            assert read.startswith(b"MESSAGE\n")
            assert read.count(b"\0") == 1
            assert read.endswith(b"\0")


def test_the_headers_of_an_answer_fit_into_the_java_clients_first_read(wired: Wired) -> None:
    with JavaClient(wired.port()) as client:
        client.call("Host.getCapabilities")
        assert max(read.find(b"\n\n") for read in client.reads) < 512


@pytest.mark.parametrize("step", [1, 7])
def test_frames_in_small_pieces(wired: Wired, step: int) -> None:
    with wired.plain().open() as client:
        call = '{"jsonrpc":"2.0","method":"Host.echo","params":["ü"],"id":"x"}'.encode()
        head = f"SEND\r\nreply-to:{client.replies}\r\ncontent-length:{len(call)}\r\ndestination:{REQUESTS}\r\n\r\n"
        data = b"\n\r\n\n" + head.encode() + call + b"\0\n"
        for start in range(0, len(data), step):
            client.sock.sendall(data[start : start + step])
        assert client.message()["result"] == "ü"


@pytest.mark.parametrize("versions", ["1.0,1.1,1.2", "1.1", "1.0"])
def test_older_versions(wired: Wired, versions: str) -> None:
    with wired.plain() as client:
        assert client.connect(**{"accept-version": versions}).headers["version"] == versions[-3:]
        client.subscribe(RESPONSES)
        assert client.call("Host.ping") is True


def test_the_other_name_of_connect_after_empty_lines(wired: Wired) -> None:
    with wired.plain() as client:
        client.sock.sendall(b"\r\n\nSTOMP\naccept-version:1.2\nhost:x\n\n\0")
        assert client.read().command == "CONNECTED"


def test_an_unknown_version_is_told(wired: Wired) -> None:
    with wired.plain() as client:
        client.send("CONNECT", **{"accept-version": "3.0"})
        assert client.error() == "Version unsupported"
        assert client.closed()


def test_the_server_gives_signs_of_life(wired: Wired) -> None:
    with wired.plain() as client:
        client.connect("0,1000")
        client.sock.settimeout(3.5)
        times = [time.monotonic()]
        while len(times) < 4:
            assert client.sock.recv(1) == b"\n"
            times.append(time.monotonic())
        assert times[3] - times[0] < 3 * 1.0 + BUSY / 2
        client.sock.settimeout(20)
        client.subscribe(RESPONSES)
        assert client.call("Host.ping") is True


def test_a_client_that_gives_none_is_let_go(wired: Wired) -> None:
    with wired.plain() as silent, wired.plain() as lively:
        silent.connect("1000,0")
        lively.connect("1000,0")
        begun = time.monotonic()
        silent.sock.settimeout(0.2)
        while True:
            try:
                assert "heart-beat" in silent.error()
                break
            except TimeoutError:
                lively.sock.sendall(b"\n")
                assert time.monotonic() - begun < 10 * BUSY
        assert time.monotonic() - begun > 1.9
        lively.subscribe(RESPONSES)
        assert lively.call("Host.ping") is True


def test_disconnect_with_a_receipt(wired: Wired) -> None:
    with wired.plain().open() as client:
        client.send("DISCONNECT", receipt="77")
        assert client.read().headers == {"receipt-id": "77"}
        assert client.closed()


def test_disconnect_without_a_receipt(wired: Wired) -> None:
    with wired.plain().open() as client:
        client.send("DISCONNECT")
        assert client.closed()


def test_who_stops_sending_still_gets_answers(wired: Wired) -> None:
    with wired.plain().open() as client:
        vm_id = client.call("Host.getVMList")[0]["vmId"]
        key = client.post("VM.reset", {"vmID": vm_id})
        client.sock.shutdown(socket.SHUT_WR)
        assert result_of(client.message(), key) is True
        assert client.closed()


def test_an_abrupt_end_harms_nobody(wired: Wired) -> None:
    """The change that was asked for is made all the same."""
    with wired.plain().open() as other:
        other.subscribe(EVENTS)
        vm_id = other.call("Host.getVMList")[0]["vmId"]
        client = JavaClient(wired.port())
        client.post("VM.pause", {"vmID": vm_id})
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        time.sleep(0.05)  # a reset takes away what was sent and not yet read
        client.sock.close()
        other.wait_event(lambda event: status_of(event, vm_id) == "Paused")
        other.call("VM.cont", {"vmID": vm_id})


def test_a_stopping_daemon_answers_what_it_was_asked(tmp_path_factory: pytest.TempPathFactory, prefix: str) -> None:
    wired = Wired(tmp_path_factory.mktemp("stop"), prefix, f'[simulate]\nfaults = "reset:delay={SLOW}"\n')
    try:
        wired.serve(machines=1)
        with wired.plain().open() as client, wired.plain().open() as idle:
            vm_id = client.call("Host.getVMList")[0]["vmId"]
            key = client.post("VM.reset", {"vmID": vm_id})
            client.call("Host.ping")
            wired.process.terminate()
            assert idle.closed()
            assert result_of(client.message(), key) is True
            assert client.closed()
        assert wired.process.wait(20 * BUSY) == 0
    finally:
        wired.end()
