# SPDX-License-Identifier: Apache-2.0
"""What broken, slow and greedy clients get on the TCP ports, and that nobody else notices."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import ssl
import time
from collections.abc import Iterator

import pytest

from harness.crowd import flood
from harness.stomp import REQUESTS, Closed, StompClient, Wired
from harness.until import BUSY, until

PATIENCE = 2.0  # seconds that this daemon gives a client for anything
MANY = 800
SLOW = 1.0
AT_ONCE = 3.0 * BUSY  # seconds; what stalls takes PATIENCE at least, mostly for ever


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    made = Wired(
        tmp_path_factory.mktemp("limits"),
        f"vdsmtest-{secrets.token_hex(4)}",
        f"[limits]\nconnections = {MANY}\nconnections_per_peer = {MANY}\ncalls_per_connection = 4\n"
        f"handshake_seconds = {PATIENCE}\nhead_seconds = {PATIENCE}\nbody_seconds = {PATIENCE}\n"
        f"stall_seconds = {PATIENCE}\n"
        f'[simulate]\nfaults = "reset:delay={SLOW}"\n',
    )
    yield made.serve(machines=30)
    made.end()


@pytest.fixture(autouse=True)
def unharmed(wired: Wired) -> Iterator[None]:
    """After each test the daemon serves a newcomer at once and has not grown."""
    before = wired.resident_kib()
    yield
    with wired.plain().open() as client:
        begun = time.monotonic()
        assert client.call("Host.ping") is True
        assert time.monotonic() - begun < AT_ONCE
    assert wired.resident_kib() - before < 80 * 1024


# ---- broken ----------------------------------------------------------------------------------------------------------

BROKEN = {
    "no command": b"SEND\n\n\0NOSUCH\n\n\0",
    "in lower case": b"SEND\n\n\0send\n\n\0",
    "two raw colons": b"SEND\ndestination:a:b\n\n\0",
    "no colon": b"SEND\ndestination\n\n\0",
    "no name": b"SEND\n:a\n\n\0",
    "an unknown escape": b"SEND\ndestination:a\\tb\n\n\0",
    "no blank line": b"SEND\ndestination:a\0",
    "not UTF-8": b"SEND\ndestination:\xff\xfe\n\n\0",
    "a negative length": b"SEND\ndestination:a\ncontent-length:-1\n\n\0",
    "a length of words": b"SEND\ndestination:a\ncontent-length:ten\n\n\0",
    "a huge length": b"SEND\ndestination:a\ncontent-length:99999999999\n\n",
    "a short length": b"SEND\ndestination:a\ncontent-length:2\n\nabcdef\0",
    "a million headers": b"SEND\n" + b"a:b\n" * 1_000_000,
    "a header of megabytes": b"SEND\na:" + b"b" * 3_000_000,
    "a body without an end": b"SEND\ndestination:a\n\n" + b"b" * 3_000_000,
    "a transaction": b"BEGIN\ntransaction:1\n\n\0",
    "a second CONNECT": b"CONNECT\naccept-version:1.2\n\n\0",
    "a frame of the server's": b"MESSAGE\ndestination:a\n\n\0",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_is_no_stomp_is_told_and_ends(wired: Wired, data: bytes) -> None:
    with wired.plain() as client:
        client.connect()
        with contextlib.suppress(ConnectionError):
            client.sock.sendall(data)
        try:
            while client.read().command != "ERROR":
                pass
        except Closed:  # a client that goes on sending meets a reset, which can take the ERROR with it
            assert len(data) > 1_000_000
        assert client.closed()


def test_a_send_before_connect(wired: Wired) -> None:
    with wired.plain() as client:
        client.send("SEND", "{}", destination=REQUESTS)
        assert client.error() == "A SEND came before CONNECT"
        assert client.closed()


def test_a_send_whose_connect_never_comes(wired: Wired) -> None:
    with wired.plain() as client:
        client.subscribe("a")
        client.send("SEND", "{}", destination=REQUESTS)
        assert client.error() == "A SEND came before CONNECT"
        assert client.closed()


@pytest.mark.parametrize(
    "data",
    [b"SUBSCRIBE\nid:1\ndestination:a\n\n\0", b"CONNECT\naccept-version:1.2\n", b"SEND\ndestination:a\n\nno end"],
)
def test_what_never_ends_is_not_waited_for(wired: Wired, data: bytes) -> None:
    with wired.plain() as client:
        client.sock.sendall(data)
        begun = time.monotonic()
        assert client.closed()
        assert time.monotonic() - begun < PATIENCE + 2 * BUSY


def test_a_byte_now_and_then_is_not_waited_for(wired: Wired) -> None:
    with wired.plain() as client:
        client.connect()
        client.sock.settimeout(0.3)
        begun = time.monotonic()
        with contextlib.suppress(Closed, ConnectionError):
            client.sock.sendall(b"SEND\n")
            while time.monotonic() - begun < 30 * BUSY:
                client.sock.sendall(b"a")
                with contextlib.suppress(TimeoutError):
                    client.read()
        assert time.monotonic() - begun < PATIENCE + 3 * BUSY


# ---- slow and greedy -------------------------------------------------------------------------------------------------


def test_calls_beyond_the_limit_wait_and_are_all_answered(wired: Wired) -> None:
    with wired.plain().open() as busy, wired.plain().open() as other:
        rows = other.call("Host.getVMList")
        keys = [busy.post("VM.reset", {"vmID": row["vmId"]}) for row in rows[:8]]
        begun = time.monotonic()
        assert other.call("Host.ping") is True
        assert time.monotonic() - begun < 2 * SLOW, "it did not wait for all of them"
        answers = [busy.message() for _ in keys]
        assert {answer["id"] for answer in answers} == set(keys)
        assert all(answer["result"] is True for answer in answers)
        assert time.monotonic() - begun > 2 * SLOW - 0.2, "four at a time"


def test_a_large_batch_is_one_calls_worth(wired: Wired) -> None:
    with wired.plain().open() as client:
        batch = [{"jsonrpc": "2.0", "method": "Host.ping", "id": i} for i in range(100)]
        client.send("SEND", json.dumps(batch), destination=REQUESTS, reply_to=client.replies)
        assert [answer["id"] for answer in client.message()] == list(range(100))


def test_a_client_that_reads_nothing_is_dropped(wired: Wired) -> None:
    before = wired.resident_kib()
    with contextlib.ExitStack() as held:
        deaf = [held.enter_context(flood(StompClient(wired.port(), window=4096))) for _ in range(20)]
        begun = time.monotonic()
        until("the server gives up on them", lambda: all(_dead(sock) for sock in deaf), 30)
        assert time.monotonic() - begun > PATIENCE - 1
        assert wired.resident_kib() - before < 100 * 1024


def _dead(sock: socket.socket) -> bool:
    """Whether writing to it fails; reading would be what it must not do."""
    try:
        sock.send(b"\n")
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


def test_more_than_it_takes_at_once_is_turned_away(wired: Wired) -> None:
    with contextlib.ExitStack() as crowd:
        clients = []
        with contextlib.suppress(Closed, OSError):
            for _ in range(MANY + 50):
                clients.append(crowd.enter_context(wired.plain()))
                clients[-1].connect()
        assert MANY - 100 < len(clients) < MANY + 50


# ---- TLS -------------------------------------------------------------------------------------------------------------


def test_half_a_handshake_is_not_waited_for(wired: Wired) -> None:
    with socket.create_connection(("127.0.0.1", wired.port("https")), timeout=20 * BUSY) as sock:
        sock.sendall(b"\x16\x03\x01\x02\x00\x01")
        begun = time.monotonic()
        with contextlib.suppress(ConnectionError):
            assert sock.recv(100) == b""
        assert time.monotonic() - begun < PATIENCE + 3 * BUSY


def test_plain_words_on_the_tls_port(wired: Wired) -> None:
    with StompClient(wired.port("https")) as client:
        client.send("CONNECT", **{"accept-version": "1.2"})
        assert client.closed()


def test_tls_on_the_plain_port(wired: Wired) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        StompClient(wired.port("http"), wired.context())
