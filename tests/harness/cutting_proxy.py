# SPDX-License-Identifier: Apache-2.0
"""Between a client and a daemon's unix socket: passes bytes on, and cuts connections when told or by chance."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path


class CuttingProxy:
    """`allowance` draws how many bytes from the daemon one connection passes before it is cut; None: all."""

    def __init__(self, path: Path, daemon: Path, chance: random.Random | None, most: int) -> None:
        self.path = path
        self._daemon = daemon
        self._chance = chance
        self._most = most
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self.cuts = 0

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            far.connect(str(self._daemon))
            pair = (near, far)
            with self._lock:
                self._pairs.add(pair)
            allowance = self._chance.randrange(self._most) if self._chance else None
            threading.Thread(target=self._pass_on, args=(near, far, pair, None), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(far, near, pair, allowance), daemon=True).start()

    def cut_all(self) -> None:
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._cut(pair)

    def _pass_on(
        self, source: socket.socket, target: socket.socket, pair: tuple[socket.socket, socket.socket], left: int | None
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                target.sendall(data if left is None else data[:left])
                if left is not None:
                    left -= len(data)
                    if left <= 0:
                        break
        self._cut(pair)

    def _cut(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            if pair not in self._pairs:
                return
            self._pairs.discard(pair)
            self.cuts += 1
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextlib.contextmanager
def cutting(
    path: Path, daemon: Path, *, chance: random.Random | None = None, most: int = 4000
) -> Iterator[CuttingProxy]:
    """Serve at `path` until left."""
    proxy = CuttingProxy(path, daemon, chance, most)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        threading.Thread(target=proxy.serve, args=(listener,), daemon=True).start()
        try:
            yield proxy
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            proxy.cut_all()
