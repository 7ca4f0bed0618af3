# SPDX-License-Identifier: Apache-2.0
"""What verbs on one storage domain take while another one hangs, and is asked all the while."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.daemon import Daemon
from harness.faulty_mount import HANG, FaultyMount
from harness.until import until
from vdsm.client import Host
from vdsm.contract.errors import Problem
from vdsm.contract.storage import StorageSummary

from .measure import Clock, Row, percentile
from .storage import new_volume

VOLUMES = 50
CALLS = 100
ROUNDS = 3


def rows(home: Path, uri: str) -> Iterator[Row]:
    daemon = Daemon(home, "vdsmbench", uri=uri)
    daemon.configure(storage="monitor_interval_s = 1")
    directory, below = daemon.storage / "bad", home / "below"
    for path in (directory, below):
        path.mkdir(parents=True)
    mount = FaultyMount(directory, below)
    try:
        daemon.start()
        with daemon.connect() as host:
            good, bad = host.storage.init(f"{daemon.storage}/good"), host.storage.init(str(directory))
            still = host.storage.init(f"{daemon.storage}/still")
            for _ in range(VOLUMES):
                new_volume(host, still)
            calls = _calls(host, still, good)
            well, sick = dict.fromkeys(calls, 1e9), dict.fromkeys(calls, 1e9)
            for _ in range(ROUNDS):
                _note(well, calls)
                with mount.failing(HANG), _pressed(daemon, bad):
                    until("it is known to hang", lambda: _state(host, bad) == "unusable")
                    _note(sick, calls)
                until("it is used again", lambda: _state(host, bad) == "active")
        for name in calls:
            what = f"{name} beside a domain that hangs: p99"
            yield Row(what, sick[name] * 1000, "ms", well[name] * 1000, "the same without that", limit=4)
    finally:
        daemon.end()
        mount.mend()


def _calls(host: Host, still: StorageSummary, good: StorageSummary) -> dict[str, Callable[[], object]]:
    """What reads, reads a domain that stays as it is: one with more volumes takes longer."""
    return {
        "StorageDomain.getInfo": lambda: host.storage_domain.get_info(still.id),
        "StorageDomain.getVolumes": lambda: host.storage_domain.get_volumes(still.id),
        "Storage.list": host.storage.list,
        "a new volume": lambda: new_volume(host, good),
    }


def _state(host: Host, domain: StorageSummary) -> str:
    (row,) = [row for row in host.storage.list() if row.id == domain.id]
    return row.state


def _note(best: dict[str, float], calls: dict[str, Callable[[], object]]) -> None:
    """The p99 of each, if it is better: what another process does to the processors is not ours."""
    for name, call in calls.items():
        seconds = []
        for _ in range(CALLS):
            with Clock() as clock:
                call()
            seconds.append(clock.seconds)
        best[name] = min(best[name], percentile(seconds, 99))


@contextlib.contextmanager
def _pressed(daemon: Daemon, bad: StorageSummary) -> Iterator[None]:
    """Three callers who ask for the hanging domain, each again as soon as it was refused."""
    over = threading.Event()

    def press() -> None:
        with daemon.connect() as host:
            quick = host.options(deadline=0.5)
            while not over.wait(0.02):
                with contextlib.suppress(Problem):
                    quick.storage_domain.dump(bad.id)

    with ThreadPoolExecutor(3) as pool:
        pressing = [pool.submit(press) for _ in range(3)]
        try:
            yield
        finally:
            over.set()
    for one in pressing:
        one.result()
