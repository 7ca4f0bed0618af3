# SPDX-License-Identifier: Apache-2.0
"""kill -9 at any instant while many machines are made at once: tasks, the list and libvirt agree afterwards."""

from __future__ import annotations

import contextlib
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.daemon import Daemon
from harness.machines import halting_rom, idle_xml
from harness.private_libvirt import machines
from harness.until import until
from vdsm.client import Unreachable
from vdsm.contract.errors import Problem
from vdsm.contract.task import State
from vdsm.contract.vm_params import VmParams

AT_ONCE = 4


@pytest.mark.parametrize("seed", range(3))
def test_tasks_and_libvirt_agree(daemon: Daemon, seed: int) -> None:
    rom = halting_rom(daemon.images)
    daemon.start()

    def create(number: int) -> None:
        with daemon.connect() as host, contextlib.suppress(Unreachable, Problem):
            host.options(idempotency_key=f"k{number}").vm.create(VmParams(xml=idle_xml(daemon.name(f"m{number}"), rom)))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        calls = [pool.submit(create, number) for number in range(AT_ONCE)]
        with daemon.connect() as host:
            until("work is under way", lambda: any(not task.state.ended for task in host.task.list()))
        time.sleep(random.Random(seed).uniform(0, 1.0))  # the instant of the blow is what varies
        daemon.kill()
        for call in calls:
            call.result()

    daemon.start()
    with daemon.connect() as host:
        tasks = until(
            "every task has ended",
            lambda: (found := host.task.list()) and all(task.state.ended for task in found) and found,
        )
        assert {task.state for task in tasks} <= {State.DONE, State.FAILED}, tasks
        made = {task.object_id for task in tasks if task.state is State.DONE}
        real = {domain.UUIDString() for domain in daemon.domains().values()}
        assert real == made
        assert {vm.vm_id for vm in host.vm.list() if not vm.foreign} == made
        assert len(machines(daemon.prefix)) == len(made)
        ids = [event.id for event in host.event.list(since=0, limit=1000).events]
        assert ids == list(range(ids[0], ids[0] + len(ids)))

        for number in range(AT_ONCE):  # whoever tries again with the same key gets there
            create(number)
        assert set(daemon.domains()) == {daemon.name(f"m{number}") for number in range(AT_ONCE)}
