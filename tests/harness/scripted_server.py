# SPDX-License-Identifier: Apache-2.0
"""An HTTP server on a unix socket that answers as a script says, rudely where a test wants it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Got:
    """A request that came."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What to do with a request. Without bytes nothing is answered; `close` ends the connection after it."""

    data: bytes = b""
    close: bool = False
    wait: threading.Event | None = None


HANG_UP = Answer(close=True)


def said(value: object, status: str = "200 OK", *headers: str, close: bool = False) -> Answer:
    """A JSON answer."""
    body = json.dumps(value).encode()
    head = "\r\n".join(
        [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    )
    return Answer(f"{head}\r\n\r\n".encode() + body, close=close)


@dataclass
class Scripted:
    path: Path
    script: list[Answer]
    requests: list[Got] = field(default_factory=list)
    connections: int = 0

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                wire, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(wire,), daemon=True).start()

    def _talk(self, wire: socket.socket) -> None:
        with wire, wire.makefile("rb") as source:
            while line := source.readline():
                headers = dict(iter(lambda: _header(source.readline()), ("", "")))
                body = source.read(int(headers.get("content-length", 0)))
                self.requests.append(Got(line.decode().strip(), headers, body))
                answer = self.script.pop(0)
                if answer.wait is not None:
                    answer.wait.wait(30)
                with contextlib.suppress(OSError):
                    wire.sendall(answer.data)
                if answer.close:
                    return


def _header(line: bytes) -> tuple[str, str]:
    name, _, value = line.decode().strip().partition(":")
    return name.lower(), value.strip()


@contextlib.contextmanager
def scripted(path: Path, *script: Answer) -> Iterator[Scripted]:
    """Serve at `path` until left; each request takes the next answer."""
    server = Scripted(path, list(script))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        threading.Thread(target=server.serve, args=(listener,), daemon=True).start()
        try:
            yield server
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def lines(requests: Sequence[Got]) -> list[str]:
    """`METHOD TARGET` of each."""
    return [got.line.rpartition(" ")[0] for got in requests]
