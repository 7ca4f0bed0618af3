# SPDX-License-Identifier: Apache-2.0
"""Clients that send too much, too slowly, or nonsense: each gets its problem, and nobody else notices."""

from __future__ import annotations

import http.client
import resource
import socket
import time
from pathlib import Path

import pytest

from harness.rest_server import Reply, Server, exchange
from harness.until import BUSY, until

from .conftest import Serve

POST = b"POST /api/v1/vms HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def answer(sock: socket.socket) -> Reply:
    """The answer to what a bare connection has sent."""
    response = http.client.HTTPResponse(sock)
    response.begin()
    reply = Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    response.close()
    return reply


def is_closed(sock: socket.socket) -> bool:
    """Whether the other end has gone; reads and drops what it said before."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def is_cut_off(sock: socket.socket, data: bytes, *, seconds: float, pause: float) -> bool:
    """Whether, sent the same again and again, the other end goes."""
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            sock.sendall(data)
            time.sleep(pause)
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


def alive(server: Server) -> None:
    assert server.get("/api/v1/host/ping2").status == 204


# ---- too much --------------------------------------------------------------------------------------------------------


def test_ten_megabytes_get_their_problem(server: Server) -> None:
    body = b'{"vmParams": "' + b"x" * 10_000_000 + b'"}'
    reply = server.request("POST", "/api/v1/vms", body, Content_Type="application/json")
    assert reply.status == 413
    assert reply.problem("request-too-large")["facts"]["limit"] == "2097152"
    alive(server)


def test_so_do_ten_megabytes_in_pieces(server: Server) -> None:
    connection = server.connection()
    pieces = (b"x" * 100_000 for _ in range(100))
    connection.request("POST", "/api/v1/vms", pieces, {"Content-Type": "application/json"}, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_after_a_refused_body_the_connection_goes_on(server: Server) -> None:
    connection = server.connection()
    body = b'"' + b"x" * 3_000_000 + b'"'
    for _ in range(3):
        assert exchange(connection, "POST", "/api/v1/vms", body, Content_Type="application/json").status == 413
        assert exchange(connection, "GET", "/api/v1/host/ping2").status == 204
    connection.close()


def test_a_body_without_end_is_cut_off(serve: Serve) -> None:
    server = serve(max_body=1000, max_discarded=1_000_000)
    sock = server.raw(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    chunk = b"%x\r\n%s\r\n" % (100_000, b"x" * 100_000)
    assert is_cut_off(sock, chunk, seconds=30, pause=0)
    sock.close()
    alive(server)


def test_bodies_together_have_a_limit(serve: Serve) -> None:
    server = serve(max_bodies=1_000_000, max_body=600_000)
    holding = [server.raw(POST + b"Content-Length: 500000\r\n\r\n" + b" " * 450_000) for _ in range(2)]
    blank = b" " * 300_000

    def refused() -> bool:
        reply = server.request("POST", "/api/v1/vms", blank, Content_Type="application/json")
        if reply.status == 503:
            assert reply.problem("too-busy")["retryable"] is True
            assert reply.headers["retry-after"]
        return reply.status == 503

    until("there is no room for more", refused)
    for sock in holding:
        sock.close()
    until("there is room again", lambda: not refused())


@pytest.mark.parametrize(
    "head",
    [
        b"GET /api/v1/host/ping2 HTTP/1.1\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
        b"GET /api/v1/host/ping2 HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"\r\n",
        b"GET /api/v1/host/ping2 HTTP/1.1\r\nX: " + b"y" * 40_000 + b"\r\n\r\n",
        b"GET /api/v1/host/ping2 HTTP/1.1\r\nX: " + b"y" * 1_000_000,
        b"GET /api/v1/host/ping2 HTTP/1.1\r\n" + b"y" * 1_000_000,
        b"GET /" + b"y" * 1_000_000,
        b"GET /" + b"y" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["1e5 headers", "101 headers", "long value", "endless value", "endless name", "endless path", "long path"],
)
def test_a_large_head_gets_its_problem(server: Server, head: bytes) -> None:
    sock = server.raw()
    try:
        sock.sendall(head)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it was refused before it was all sent
    try:
        reply = answer(sock)
    except ConnectionResetError:
        reply = None  # we were still sending: the answer is lost with the connection
    if reply is not None:
        assert reply.status == 431
        reply.problem("headers-too-large")
    assert is_closed(sock)
    sock.close()
    alive(server)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,  # TLS to a port without it
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nNul: a\x00b\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT example.org:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        POST + b"Content-Length: -5\r\n\r\n",
        POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}   ",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_nonsense_is_refused(server: Server, nonsense: bytes) -> None:
    sock = server.raw(nonsense)
    reply = answer(sock)
    assert reply.status == 400
    reply.problem("invalid-request")
    assert is_closed(sock)
    sock.close()
    alive(server)


def test_too_many_requests_at_once_end_the_connection(serve: Serve) -> None:
    server = serve(max_pipelined=4)
    sock = server.raw(b"GET /api/v1/host/ping2 HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
    assert is_closed(sock)
    sock.close()
    alive(server)


def test_a_few_requests_at_once_are_answered_in_order(server: Server) -> None:
    sock = server.raw(b"".join(b"GET /api/v1/host/echo?message=%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(10)))
    text = b""
    while text.count(b"HTTP/1.1 200") < 10 or not text.endswith(b'"9"'):
        text += sock.recv(65536)
    sock.close()
    places = [text.index(b'\r\n\r\n"%d"' % n) for n in range(10)]
    assert places == sorted(places)


def test_many_connections_leave_room_for_others(serve: Serve) -> None:
    server = serve(max_connections_per_peer=20, head_timeout=300)
    crowd = [server.raw() for _ in range(20)]
    until("they are all in", lambda: guests(server) == 20)
    refused = server.raw()
    reply = answer(refused)
    assert reply.status == 503
    reply.problem("too-busy")
    refused.close()
    for sock in crowd:
        sock.close()
    until("they are all gone", lambda: guests(server) == 0)
    alive(server)


def guests(server: Server) -> int:
    async def count() -> int:
        return server.door.guests

    return server.run(count)


# ---- too slow --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", None),
        (b"\r\n", None),
        (b"GET /api/v1/host/ping2 HTTP/1.1\r\nX-Slow:", 408),
        (POST + b"Content-Length: 100\r\n\r\n{", 408),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{", 408),
    ],
    ids=["nothing", "empty lines", "head", "body", "chunks"],
)
def test_a_slow_client_is_dropped(serve: Serve, sent: bytes, said: int | None) -> None:
    server = serve(head_timeout=1.0, body_timeout=1.0)
    sock = server.raw(sent)
    if said is not None:
        reply = answer(sock)
        assert reply.status == said
        reply.problem("request-timeout")
    assert is_closed(sock)
    sock.close()


def test_drop_by_drop_is_too_slow(serve: Serve) -> None:
    server = serve(head_timeout=0.5)
    sock = server.raw(b"GET /api/v1/host/ping2 HTTP/1.1\r\n")
    assert is_cut_off(sock, b"X: y\r\n", seconds=30, pause=0.05)
    sock.close()
    alive(server)


def test_slow_clients_do_not_slow_others(serve: Serve) -> None:
    server = serve()
    crowd = [server.raw(b"GET /api/v1/host/ping2 HTTP/1.1\r\nX-Slow:") for _ in range(200)]
    begun = time.monotonic()
    for _ in range(20):
        alive(server)
    assert time.monotonic() - begun < 10 * BUSY
    for sock in crowd:
        sock.close()


def test_an_idle_connection_is_closed(serve: Serve) -> None:
    server = serve(keep_alive=1)
    connection = server.connection()
    assert exchange(connection, "GET", "/api/v1/host/ping2").status == 204
    assert connection.sock is not None
    assert is_closed(connection.sock)
    connection.close()


def test_a_client_that_does_not_read_its_answers_is_dropped(serve: Serve) -> None:
    server = serve(stall_timeout=0.5)
    sock = server.raw(timeout=5.0)
    request = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    sock.sendall(request * 10)
    until("it is gone", lambda: guests(server) == 0)
    sock.close()


def test_memory_stays(server: Server) -> None:
    """Everything at once, many times over, leaves nothing behind."""

    def attack() -> None:
        deep = b'{"vmParams": ' + b"[" * 100_000
        for body in (deep, b'{"a":' + b"[{}," * 200_000, b"[" + b"9" * 1_000_000):
            server.request("POST", "/api/v1/vms", body, Content_Type="application/json")
        sockets = [server.raw(POST + b"Content-Length: 1000000\r\n\r\n" + b"x" * 500_000) for _ in range(10)]
        for sock in sockets:
            sock.close()

    attack()
    before = _resident()
    for _ in range(5):
        attack()
    assert _resident() - before < 50 * 1024**2


def _resident() -> int:
    """Bytes of this process, which the server is in."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
