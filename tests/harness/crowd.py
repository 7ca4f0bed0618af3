# SPDX-License-Identifier: Apache-2.0
"""Bad clients by the hundred, and a good one among them: on every wire, plain and over TLS, from IPv4 and IPv6."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import socket
import ssl
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .stomp import REQUESTS, StompClient, Wired
from .until import BUSY

TIMEOUT = 20 * BUSY  # seconds
STAY = 300  # seconds that the host below waits for anything, so that the crowd stays
HALF_OPEN, DEAF = 500, 100

_PLAIN, _TLS, _RAW = "plain", "TLS", "the TLS port without TLS"
_FROM = ((_PLAIN, "127.0.0.1"), (_TLS, "127.0.0.1"), (_TLS, "::1"))
_BEGINNINGS = (
    b"",
    b"GET /api/v1/host/ping2 HTTP/1.1\r\nHost: localhost\r\nX-Slow:",
    b"POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\nContent-Length: 100\r\n\r\n<?",
    b"CONNECT\naccept-version:1.2\n",
)
_HANDSHAKES = (b"", b"\x16\x03\x01\x02\x00\x01")  # none, and the first bytes of one
_AT_ONCE = 16  # requests on one HTTP connection


def _post(call: str) -> bytes:
    body = xmlrpc.client.dumps((), call).encode()
    head = f"POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


_GREEDY = (
    b"GET /api/v1/host/vm-stats HTTP/1.1\r\nHost: localhost\r\n\r\n" * _AT_ONCE,
    _post("getAllVmStats") * _AT_ONCE,
)


class Crowd:
    """Makes bad clients of one host; each call gives another connection."""

    def __init__(self, wired: Wired) -> None:
        self._ports = {_PLAIN: wired.port("http"), _TLS: wired.port("https"), _RAW: wired.port("https")}
        self._context = wired.context()

    def half_open(self) -> Iterator[Callable[[], socket.socket]]:
        """Who never says, or never to its end, what it wants."""
        for data, (way, host) in itertools.product(_BEGINNINGS, _FROM):
            yield lambda data=data, way=way, host=host: self._said(data, way, host)
        for data, host in itertools.product(_HANDSHAKES, ("127.0.0.1", "::1")):
            yield lambda data=data, host=host: self._said(data, _RAW, host)

    def deaf(self) -> Iterator[Callable[[], socket.socket]]:
        """Who asks for a lot and reads nothing."""
        for data, (way, host) in itertools.product(_GREEDY, _FROM):
            yield lambda data=data, way=way, host=host: self._said(data, way, host)
        yield lambda: flood(StompClient(self._ports[_PLAIN], window=4096))
        yield lambda: flood(StompClient(self._ports[_TLS], self._context, window=4096))

    def _said(self, data: bytes, way: str, host: str) -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # what the kernel takes in for who does not read
        sock.settimeout(TIMEOUT)
        sock.connect((host, self._ports[way]))
        if way == _TLS:
            sock = self._context.wrap_socket(sock)
        sock.sendall(data)
        return sock


def patient(home: Path, prefix: str, machines: int) -> Wired:
    """A host that takes a thousand connections and waits long for each, on IPv4 and IPv6."""
    names = ("handshake", "head", "body", "stall", "idle")
    limits = [
        "[limits]",
        "connections = 1000",
        "connections_per_peer = 1000",
        *(f"{n}_seconds = {STAY}" for n in names),
    ]
    return Wired(home, prefix, "\n".join(limits) + "\n", listen="::").serve(machines)


def flood(client: StompClient) -> socket.socket:
    """Asks for as much as it can over JSON-RPC."""
    client.open()
    call = json.dumps({"jsonrpc": "2.0", "method": "Host.getAllVmStats", "id": 1})
    frame = f"SEND\ndestination:{REQUESTS}\nreply-to:{client.replies}\n\n{call}\0".encode()
    client.sock.setblocking(False)
    with contextlib.suppress(BlockingIOError, ssl.SSLWantWriteError):
        client.sock.sendall(frame * 100)
    return client.sock


@contextmanager
def crowded(wired: Wired, half_open: int = HALF_OPEN, deaf: int = DEAF) -> Iterator[None]:
    """The host with so many of each."""
    crowd = Crowd(wired)
    with contextlib.ExitStack() as held:
        for begin in itertools.islice(itertools.cycle(crowd.half_open()), half_open):
            held.enter_context(begin())
        for ask in itertools.islice(itertools.cycle(crowd.deaf()), deaf):
            held.enter_context(ask())
        yield


# ---- good ones -------------------------------------------------------------------------------------------------------

WIRES = ("REST", "JSON-RPC", "XML-RPC")
Ping = Callable[[], object]


@contextmanager
def pinger(wired: Wired, wire: str, context: ssl.SSLContext | None) -> Iterator[Ping]:
    """A client with a connection of its own: each call is one ping, answered."""
    port = wired.port("http" if context is None else "https")
    if wire == "JSON-RPC":
        with StompClient(port, context).open() as client:
            yield lambda: client.call("Host.ping")
        return
    connection = (
        http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        if context is None
        else http.client.HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT, context=context)
    )
    with contextlib.closing(connection):
        yield {"REST": lambda: _rest_ping(connection), "XML-RPC": lambda: _xml_ping(connection)}[wire]


def _rest_ping(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/api/v1/host/ping2")
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 204


_PING = xmlrpc.client.dumps((), "ping").encode()


def _xml_ping(connection: http.client.HTTPConnection) -> None:
    connection.request("POST", "/RPC2", _PING, {"Content-Type": "text/xml"})
    answer = connection.getresponse()
    ((struct,), _) = xmlrpc.client.loads(answer.read())
    assert struct == {"status": {"code": 0, "message": "Done"}}, struct
