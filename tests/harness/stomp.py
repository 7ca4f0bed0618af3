# SPDX-License-Identifier: Apache-2.0
"""STOMP clients on raw sockets, written from what the published clients are known to send and to expect."""

from __future__ import annotations

import itertools
import json
import re
import socket
import ssl
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from vdsm.daemon.pki import Authority

from .daemon import Daemon
from .until import BUSY, until

REQUESTS = "jms.topic.vdsm_requests"
RESPONSES = "jms.topic.vdsm_responses"
EVENTS = "jms.queue.events"


class Frame(NamedTuple):
    command: str
    headers: dict[str, str]
    body: bytes


class Failed(Exception):
    """The error member of an answer."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.error = error
        self.code = error["code"]
        assert self.code == error["data"]["code"]


class Closed(Exception):
    """The server closed the connection."""


class StompClient:
    """Sends what it is told, byte by byte if need be; reads one frame after the other."""

    def __init__(
        self,
        port: int,
        context: ssl.SSLContext | None = None,
        timeout: float = 20 * BUSY,
        window: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.sock.settimeout(timeout)
        if window:  # bytes that the kernel takes in for a client that does not read
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        try:
            self.sock.connect((host, port))
        except OSError:
            self.sock.close()
            raise
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            self.sock = context.wrap_socket(self.sock)  # without a name: the Java client checks none, and sends none
        self.reads: list[bytes] = []
        self.beats = 0
        self.events: list[dict[str, Any]] = []
        self.destinations: set[str] = set()  # subscribed to
        self.replies = RESPONSES
        self._buffer = b""
        self._numbers = itertools.count(1)

    def __enter__(self) -> StompClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.sock.close()

    # ---- frames ----------------------------------------------------------------------------------------------------

    def send(self, command: str, body: str | bytes = b"", **headers: str) -> None:
        body = body.encode() if isinstance(body, str) else body
        lines = [command, *(f"{name.replace('_', '-')}:{value}" for name, value in headers.items())]
        if body:
            lines.append(f"content-length:{len(body)}")
        self.sock.sendall("\n".join(lines).encode() + b"\n\n" + body + b"\0")

    def read(self) -> Frame:
        """The next frame; heart-beats before it are counted. Raises Closed, TimeoutError."""
        while True:
            while self._buffer.startswith(b"\n"):
                self._buffer = self._buffer[1:]
                self.beats += 1
            if (frame := self._cut()) is not None:
                return frame
            self._fill()

    def _fill(self) -> None:
        try:
            data = self.sock.recv(1 << 20)
        except (ConnectionError, ssl.SSLEOFError) as error:
            raise Closed(str(error)) from None
        if not data:
            raise Closed("the end of the stream")
        self.reads.append(data)
        self._buffer += data

    def _cut(self) -> Frame | None:
        head, blank, rest = self._buffer.partition(b"\n\n")
        if not blank:
            return None
        command, *lines = head.decode().split("\n")
        headers = dict(line.split(":", 1) for line in lines)
        length = int(headers["content-length"]) if "content-length" in headers else rest.find(b"\0")
        if length < 0 or len(rest) <= length:
            return None
        assert rest[length] == 0
        self._buffer = rest[length + 1 :]
        return Frame(command, headers, rest[:length])

    def closed(self) -> bool:
        """Read to the end; whether there is one in time."""
        try:
            while True:
                self.read()
        except Closed:
            return True
        except TimeoutError:
            return False

    def error(self) -> str:
        """The text of the ERROR frame that must come next."""
        frame = self.read()
        assert frame.command == "ERROR", frame
        assert frame.headers["message"].replace("\\c", ":") == frame.body.decode()
        return frame.body.decode()

    # ---- JSON-RPC --------------------------------------------------------------------------------------------------

    def connect(self, heart_beat: str = "0,0", **headers: str) -> Frame:
        self.send("CONNECT", **{"accept-version": "1.2", "heart-beat": heart_beat, **headers})
        frame = self.read()
        assert frame.command == "CONNECTED", frame
        return frame

    def subscribe(self, destination: str, key: str = "") -> str:
        key = key or f"{uuid.uuid4()}"
        self.send("SUBSCRIBE", destination=destination, ack="auto", id=key)
        self.destinations.add(destination)
        return key

    def open(self, replies: str = "") -> StompClient:
        """Connect and subscribe to answers, by default in a queue of its own."""
        self.replies = replies or f"jms.topic.{uuid.uuid4()}"
        self.connect()
        self.subscribe(self.replies)
        return self

    def post(self, method: str, params: Any = None, *, reply_to: str = "", key: Any = None, **headers: str) -> Any:
        """Send a call and do not wait; its id."""
        key = f"{uuid.uuid4()}" if key is None else key
        call = {"jsonrpc": "2.0", "method": method, "params": {} if params is None else params, "id": key}
        self.send("SEND", json.dumps(call), destination=REQUESTS, reply_to=reply_to or self.replies, **headers)
        return key

    def message(self) -> Any:
        """The next JSON that is no event; events are kept."""
        while True:
            frame = self.read()
            assert frame.command == "MESSAGE", frame
            assert frame.headers["content-type"] == "application/json"
            assert len(frame.body) == int(frame.headers["content-length"])
            value = json.loads(frame.body)
            if frame.headers["destination"] != EVENTS:
                return value
            assert "id" not in value
            self.events.append(value)

    def call(self, method: str, params: Any = None, **headers: str) -> Any:
        """The result. Raises Failed. Other answers may not come in between."""
        key = self.post(method, params, **headers)
        return result_of(self.message(), key)

    def wait_event(self, wanted: Any) -> dict[str, Any]:
        """The first event, kept or new, that `wanted` takes."""
        while True:
            for event in self.events:
                if wanted(event):
                    return event
            frame = self.read()
            if frame.headers.get("destination") == EVENTS:
                self.events.append(json.loads(frame.body))


def result_of(answer: dict[str, Any], key: Any) -> Any:
    assert answer["jsonrpc"] == "2.0"
    assert answer["id"] == key, answer
    if "error" in answer:
        raise Failed(answer["error"])
    assert answer.keys() == {"jsonrpc", "id", "result"}
    return answer["result"]


class JavaClient(StompClient):
    """Talks as ovirt-engine's client does: plain TCP lets it subscribe before it connects."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        super().__init__(port, context)
        connect = {"accept-version": "1.2", "heart-beat": "0,15000", "host": "null"}
        if context is not None:
            self.send("CONNECT", **connect)
        self.subscribe(EVENTS)
        self.subscribe(RESPONSES)
        if context is None:
            self.send("CONNECT", **connect)
        frame = self.read()
        assert frame.command == "CONNECTED"
        assert frame.headers["heart-beat"] == "15000,0"


class PythonClient(StompClient):
    """Talks as vdsm-client does: a reply queue of its own, and every call in a list of one."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        super().__init__(port, context)
        self.connect("0,24000")
        self.replies = f"{uuid.uuid4()}"
        self.subscribe(self.replies)

    def call(self, method: str, params: Any = None, **headers: str) -> Any:
        key = f"{uuid.uuid4()}"
        call = [{"jsonrpc": "2.0", "method": method, "params": params or {}, "id": key}]
        more = {"content-type": "application/json", "reply-to": self.replies, **headers}
        self.send("SEND", json.dumps(call), destination=REQUESTS, **more)
        return result_of(self.message(), key)


# ---- the daemon ------------------------------------------------------------------------------------------------------


class Wired(Daemon):
    """A host, simulated without a `uri`, with a plain port of 127.0.0.1 and a TLS port of `listen`, both free ones."""

    def __init__(self, home: Path, prefix: str, more: str = "", *, listen: str = "127.0.0.1", uri: str = "") -> None:
        self.state = home / "state"
        super().__init__(home, prefix, uri=uri or "test:///default")
        config = self.file.read_text()
        simulated = config.replace(f'["{self.images}"]', '["/images"]').replace(
            f'["{self.storage}"]', '["/storage"]\nprepared = "/run/vdsm/storage"'
        )
        self.file.write_text(
            (config if uri else simulated)
            + f'[rest]\nlisten = "{listen}"\nport = 0\n'
            + '[plain]\nlisten = "127.0.0.1"\nport = 0\nrole = "admin"\n'
            + '[transfers]\nremote_servers = ["images.test"]\n'
            + '[access]\ncertificates = { engine = "admin", watcher = "viewer" }\n'
            + more
        )
        self.authority = Authority(self.state / "pki")
        self.authority.init()

    def serve(self, machines: int = 0) -> Wired:
        self.start(*(["--simulate", f"{machines}"] if self.uri.startswith("test:") else []))
        until("it says where it serves", lambda: "serves" in self.said())
        return self

    def port(self, scheme: str = "http") -> int:
        found = re.findall(rf"{scheme}://[^/\s]+:(\d+)", self.log.read_text(errors="replace"))
        return int(found[-1])

    def context(self, client: str = "engine", version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """What a client with that certificate uses; it checks the host's chain but not its name."""
        pki = self.state / "pki"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(pki / "ca.pem")
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if client:
            if not (pki / f"clients/{client}.pem").exists():
                self.authority.client(client)
            context.load_cert_chain(pki / f"clients/{client}.pem", pki / f"clients/{client}.key")
        return context

    def plain(self, timeout: float = 20 * BUSY) -> StompClient:
        return StompClient(self.port("http"), timeout=timeout)

    def tls(self, client: str = "engine", version: ssl.TLSVersion | None = None) -> StompClient:
        return StompClient(self.port("https"), self.context(client, version))

    def resident_kib(self) -> int:
        """Memory of the process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0])
