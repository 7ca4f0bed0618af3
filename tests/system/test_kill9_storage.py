# SPDX-License-Identifier: Apache-2.0
"""kill -9 at random moments while disks are made, copied, merged, moved, uploaded and removed at once.

Afterwards every task has ended, the check finds nothing, no file is left over, and each disk holds what it must.
VDSM_TEST_BLOWS=200 deals so many blows instead of a few, VDSM_TEST_SEED other ones.
"""

from __future__ import annotations

import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.daemon import Daemon
from harness.ports import free_port
from harness.storage_work import MASTER, Copying, Making, Merging, Moving, Site, Uploading, Work
from harness.until import until
from vdsm.client import Unreachable
from vdsm.contract.task import State

BLOWS = int(os.environ.get("VDSM_TEST_BLOWS", "4"))
SEED = int(os.environ.get("VDSM_TEST_SEED", "1"))


@pytest.mark.timeout(600 + 20 * BLOWS)
def test_every_disk_is_whole_or_not_there(daemon: Daemon) -> None:
    chance = random.Random(SEED)
    daemon.configure(f"[transfers]\nport = {free_port()}\n")
    daemon.start()
    site = Site(daemon)
    works = [kind(site, number) for number, kind in enumerate((Making, Copying, Merging, Moving, Uploading))]
    with daemon.connect() as host:
        site.build(host)
        MASTER.build(site, host)
        for work in works:
            work.build(host)
    for number in range(BLOWS):
        print(f"blow {number}; before: {daemon.said()}")  # shown if it fails
        _under_load(daemon, works, chance.uniform(0.0, 1.2))
        daemon.start()
        with daemon.connect() as host:
            tasks = until(
                "every task has ended",
                lambda host=host: (found := host.task.list()) and all(row.state.ended for row in found) and found,
            )
            said = f"blow {number}: {[(row.verb, row.state, row.problem) for row in tasks[:8]]}"
            assert {row.state for row in tasks} <= {State.DONE, State.FAILED}, said
            assert site.strays() == [], said
            for work in works:
                work.settle(host)
            for domain in site.domains:
                assert host.storage.check(domain) == [], said
            assert site.strays() == [], said


def _under_load(daemon: Daemon, works: list[Work], seconds: float) -> None:
    """Everything at once, until it dies."""
    dead = threading.Event()

    def go_on(work: Work) -> None:
        with daemon.connect() as host:
            while not dead.is_set():
                try:
                    work.step(host)
                except Unreachable:
                    return

    with ThreadPoolExecutor(len(works)) as pool:
        going = [pool.submit(go_on, work) for work in works]
        time.sleep(seconds)  # the instant of the blow is what varies
        dead.set()
        daemon.kill()
        for one in going:
            one.result()
