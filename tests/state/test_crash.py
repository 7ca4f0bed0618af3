# SPDX-License-Identifier: Apache-2.0
"""kill -9 at any moment: what was acknowledged is there, and no id is given out twice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from vdsm.state import Store

# Appends from several coroutines, some in batches, and prints the ids of each write once it has returned.
WRITER = """
import asyncio, os, pathlib, sys
from vdsm.contract.events import HostStarted, Severity
from vdsm.core.ports.store import EventDraft, StoredTask
from vdsm.state import Store

async def write(store, n):
    i = 0
    while True:
        data = HostStarted(version=f"{n}-{i}", clean=True)
        draft = EventDraft(time=1.0, notify_time=1, severity=Severity.INFO, subject="", flow_id="", data=data)
        records = await store.events.append([draft] * (1 + i % 4))
        os.write(1, "".join(f"{r.id} {r.data.version}\\n" for r in records).encode())
        i += 1

async def main():
    store = Store(pathlib.Path(sys.argv[1]))
    await store.open()
    await asyncio.gather(*(write(store, n) for n in range(4)))

asyncio.run(main())
"""


async def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    chance = random.Random(7)
    acknowledged: dict[int, str] = {}
    for _ in range(12):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "db")], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]  # it is under way
        time.sleep(chance.uniform(0, 0.15))  # the moment of the blow is what varies
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()
        writer.stdout.close()
        assert writer.wait() == -signal.SIGKILL
        for line in lines:
            if line.endswith(b"\n"):
                id_, _, version = line.decode().strip().partition(" ")
                assert int(id_) not in acknowledged, "an id was given out twice"
                acknowledged[int(id_)] = version
    store = Store(tmp_path / "db")
    await store.open()
    try:
        assert not store.clean
        kept = {r.id: getattr(r.data, "version", "") for r in await store.events.read(0, 10**6)}
        assert {id_: kept.get(id_) for id_ in acknowledged} == acknowledged
        assert sorted(kept) == list(range(min(kept), max(kept) + 1)), "the journal has a hole"
        assert len(acknowledged) > 100
    finally:
        await store.close()
