# SPDX-License-Identifier: Apache-2.0
"""SIGTERM: what is under way comes to its end, machines run on, and everybody is told."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from harness.daemon import Daemon
from harness.machines import halting_rom, idle_xml
from harness.until import until
from vdsm.client import Unreachable
from vdsm.contract.errors import Problem
from vdsm.contract.events import HostStarted, HostStopping
from vdsm.contract.task import State
from vdsm.contract.vm_params import VmParams

COUNT = 4


def test_work_under_way_is_drained_and_machines_run_on(daemon: Daemon) -> None:
    rom = halting_rom(daemon.images)
    daemon.start()
    heard: list[str] = []
    follower = threading.Thread(target=_follow, args=(daemon, heard))
    follower.start()

    def create(number: int) -> bool:
        try:
            with daemon.connect() as host:
                host.vm.create(VmParams(xml=idle_xml(daemon.name(f"m{number}"), rom)))
        except (Unreachable, Problem):
            return False
        return True

    with ThreadPoolExecutor(COUNT) as pool:
        calls = [pool.submit(create, number) for number in range(COUNT)]
        with daemon.connect() as host:
            until("tasks are under way", lambda: any(not task.state.ended for task in host.task.list()))
        assert daemon.terminate() == 0, daemon.said()
        answered = sum(call.result() for call in calls)
    follower.join(30)
    assert not follower.is_alive(), "an event stream outlived the daemon"
    assert heard[-1] == "Host_stopping"
    assert not daemon.socket.exists()
    assert not (daemon.home / "run/vdsmd.pid").exists()
    assert answered >= 1, "no call that was under way got its answer"
    running = {name for name, domain in daemon.domains().items() if domain.isActive()}

    daemon.start()
    with daemon.connect() as host:
        tasks = until("every task has ended", lambda: (t := host.task.list()) and all(x.state.ended for x in t) and t)
        done = sum(task.state is State.DONE for task in tasks)
        assert done >= answered
        now = {name for name, domain in daemon.domains().items() if domain.isActive()}
        assert running <= now
        assert len(now) == done
        said = [event.data for event in host.event.list(since=0, limit=1000).events]
    starts = [event for event in said if isinstance(event, HostStarted)]
    assert starts[-1].clean
    assert sum(isinstance(event, HostStopping) for event in said) == 1


def _follow(daemon: Daemon, heard: list[str]) -> None:
    try:
        with daemon.connect() as host, host.events(since=0) as events:
            for event in events:
                heard.append(getattr(event, "data", event).__class__.__struct_config__.tag)
                if heard[-1] == "Host_stopping":
                    return
    except Unreachable:
        return
