# SPDX-License-Identifier: Apache-2.0
"""An event stream that is cut a thousand times at random, and resumed by Last-Event-ID: nothing lost, nothing twice."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Iterator
from typing import Any

from harness.daemon import Daemon
from vdsm.contract import errors

CUTS = 1000


def stream(path: str, last: int, patience: float = 5.0) -> Iterator[tuple[socket.socket, bytes]]:
    """The bytes of GET /api/v1/events after the event `last`, as they come."""
    with socket.socket(socket.AF_UNIX) as wire:
        wire.settimeout(patience)
        wire.connect(path)
        wire.sendall(
            b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
            b"Last-Event-ID: %d\r\n\r\n" % last
        )
        while data := wire.recv(4096):
            yield wire, data


def whole_events(heard: bytes) -> list[Any]:
    """Those that came to their end before the cut; a client takes no other for read."""
    found = []
    text = heard.replace(b"\r\n", b"\n").decode(errors="ignore")
    for block in text.split("\n\n")[:-1]:
        lines = [line for line in block.split("\n") if line.startswith(("id:", "event:", "data:"))]
        if any(line.startswith("data:") for line in lines):
            fields = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
            found.append((fields.get("id"), fields.get("event"), json.loads(fields["data"])))
    return found


def test_a_thousand_cuts(daemon: Daemon) -> None:
    daemon.start("--simulate", "10")
    chance = random.Random(20)
    done = threading.Event()
    changer = threading.Thread(target=_change, args=(daemon, done))
    with daemon.connect() as host:
        first = host.event.list(since=0, limit=10_000).events[-1].id
    changer.start()
    try:
        last, seen = first, []
        for _ in range(CUTS):
            heard, wanted = b"", chance.randrange(1, 1500)
            for _wire, data in stream(str(daemon.socket), last):
                heard += data
                if len(heard) >= wanted:
                    break
            for id_, _event, body in whole_events(heard.partition(b"\r\n\r\n")[2]):
                assert "until" not in body, "a gap, although everything is kept"
                last = int(id_ or "0")
                seen.append(last)
    finally:
        done.set()
        changer.join()
    assert seen == list(range(first + 1, first + 1 + len(seen)))
    assert len(seen) > CUTS // 2, "too few events to prove anything"
    with daemon.connect() as host:
        kept = host.event.list(since=first, limit=10_000).events
    assert [event.id for event in kept][: len(seen)] == seen[: len(kept)]


def _change(daemon: Daemon, done: threading.Event) -> None:
    with daemon.connect() as host:
        ids = [vm.vm_id for vm in host.vm.list()]
        while not done.is_set():
            for vm_id in ids:
                try:
                    host.vm.pause(vm_id)
                    host.vm.cont(vm_id)
                except errors.ObjectBusy:
                    continue
