# SPDX-License-Identifier: Apache-2.0
"""What broken, slow and greedy clients get on the TCP ports, and that nobody else notices."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import ssl
import statistics
import time
from collections.abc import Iterator

import pytest

from harness.stomp import REQUESTS, Closed, StompClient, Wired
from harness.until import BUSY, until

PATIENCE = 2.0  # seconds that this daemon gives a client for anything
MANY = 800
SLOW = 1.0


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
        assert time.monotonic() - begun < 0.5 * BUSY
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
        assert time.monotonic() - begun < SLOW / 2
        answers = [busy.message() for _ in keys]
        assert {answer["id"] for answer in answers} == set(keys)
        assert all(answer["result"] is True for answer in answers)
        assert time.monotonic() - begun > 2 * SLOW - 0.2, "four at a time"


def test_a_large_batch_is_one_calls_worth(wired: Wired) -> None:
    with wired.plain().open() as client:
        batch = [{"jsonrpc": "2.0", "method": "Host.ping", "id": i} for i in range(100)]
        client.send("SEND", json.dumps(batch), destination=REQUESTS, reply_to=client.replies)
        assert [answer["id"] for answer in client.message()] == list(range(100))


def flood(wired: Wired) -> StompClient:
    """A client that asks for as much as it can and reads nothing."""
    client = StompClient(wired.port(), window=4096).open()
    call = json.dumps({"jsonrpc": "2.0", "method": "Host.getAllVmStats", "id": 1})
    frame = f"SEND\ndestination:{REQUESTS}\nreply-to:{client.replies}\n\n{call}\0".encode()
    client.sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        client.sock.sendall(frame * 100)
    return client


def test_a_client_that_reads_nothing_is_dropped(wired: Wired) -> None:
    before = wired.resident_kib()
    clients = [flood(wired) for _ in range(20)]
    begun = time.monotonic()
    try:
        for client in clients:
            until("the server gives up on it", lambda sock=client.sock: _dead(sock), 30)
        assert time.monotonic() - begun > PATIENCE - 1
        assert wired.resident_kib() - before < 100 * 1024
    finally:
        for client in clients:
            client.sock.close()


def _dead(sock: socket.socket) -> bool:
    """Whether writing to it fails; reading would be what it must not do."""
    try:
        sock.send(b"\n")
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


def ping_seconds(client: StompClient) -> tuple[float, float]:
    """Median and 99th percentile; of several rounds the best, as other processes of this machine disturb some."""
    rounds = []
    for _ in range(6):
        seconds = []
        for _ in range(300):
            begun = time.perf_counter()
            assert client.call("Host.ping") is True
            seconds.append(time.perf_counter() - begun)
        quantiles = statistics.quantiles(seconds, n=100)
        rounds.append((quantiles[49], quantiles[98]))
    return min(median for median, _ in rounds), min(worst for _, worst in rounds)


def test_a_crowd_of_bad_clients_does_not_slow_a_good_one(wired: Wired) -> None:
    """500 that say nothing, half of them before TLS, and 100 that ask and do not read."""
    with wired.plain().open() as good:
        ping_seconds(good)
        idle_median, idle_worst = ping_seconds(good)
        with contextlib.ExitStack() as crowd:
            for i in range(500):
                port = wired.port("https" if i % 2 else "http")
                crowd.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            for _ in range(100):
                crowd.enter_context(flood(wired))
            median, worst = ping_seconds(good)
        assert median < 2 * idle_median + 0.0005
        assert worst < 2 * idle_worst + 0.002


def test_more_than_it_takes_at_once_is_turned_away(wired: Wired) -> None:
    with contextlib.ExitStack() as crowd:
        clients = []
        with contextlib.suppress(Closed, OSError):
            for _ in range(MANY + 50):
                clients.append(crowd.enter_context(wired.plain(timeout=2)))
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
