# SPDX-License-Identifier: Apache-2.0
"""kill -9 of vdsmd at every moment of create, define and shutdown: afterwards no task is lost and nothing is half."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import blows
from harness.daemon import Daemon
from harness.machines import halting_rom, idle_xml, summary
from harness.private_libvirt import machines
from harness.until import until
from vdsm.client import Host, Unreachable
from vdsm.contract.errors import Problem
from vdsm.contract.events import EventRecord
from vdsm.contract.task import State, TaskRecord
from vdsm.contract.vm_params import VmParams

Act = Callable[[Host, str], object]


class Victim:
    """A daemon that can be told at which moment to die."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self._file = daemon.home / "blow"
        self.rom = halting_rom(daemon.images)
        self.live()

    def live(self) -> None:
        self._file.write_text("0")

    def die_at(self, moment: int) -> None:
        self._file.write_text(str(moment))

    def passed(self) -> list[str]:
        return Path(f"{self._file}.passed").read_text().splitlines()

    def start(self) -> None:
        self.daemon.start(program=(blows.__file__, str(self._file)))

    def params(self, name: str) -> VmParams:
        return VmParams(xml=idle_xml(name, self.rom))

    def strike(self, act: Act, name: str, moment: int) -> None:
        """Let it die at that moment of `act`, and start it again."""
        self.die_at(moment)
        with self.daemon.connect() as host, contextlib.suppress(Unreachable, Problem):
            act(host, name)
        until("it died", lambda: self.daemon.process.poll() is not None)
        assert self.daemon.process.returncode == -9, self.daemon.said()
        self.live()
        self.start()


@pytest.fixture
def victim(daemon: Daemon) -> Victim:
    made = Victim(daemon)
    made.start()
    return made


def settled(host: Host) -> list[TaskRecord]:
    """Every task, once none runs any more."""
    return until(
        "every task has ended", lambda: (found := host.task.list()) and all(t.state.ended for t in found) and found
    )


def unbroken(before: list[EventRecord], host: Host) -> list[EventRecord]:
    """All events; what a reader knew before the blow is there, and nothing was put in between or left out."""
    now = host.event.list(since=0, limit=10_000)
    assert not now.gap
    ids = [event.id for event in now.events]
    assert ids == list(range(ids[0], ids[0] + len(ids))), "ids rise by one over crashes"
    assert now.events[: len(before)] == before
    return now.events


def moments_of(victim: Victim, act: Act, name: str) -> int:
    """How many there are when nothing happens."""
    victim.live()
    with victim.daemon.connect() as host:
        act(host, name)
    passed = victim.passed()
    assert "after put" in passed
    return len(passed)


def check_truth(victim: Victim, host: Host, name: str, task: TaskRecord) -> None:
    """vdsm, libvirt and the processes of the host agree on whether there is such a machine."""
    listed, real = summary(host, name), victim.daemon.domains().get(name)
    assert (listed is not None) == (real is not None), f"{task.verb} is {task.state}: vdsm {listed}, libvirt {real}"
    assert len(machines(name)) == (1 if real is not None and real.isActive() else 0)


def rounds(victim: Victim, act: Act, setup: Act | None = None) -> Iterator[tuple[str, int]]:
    """One machine for each moment of `act`: made by `setup`, struck there."""
    name = victim.daemon.name("m0")
    with victim.daemon.connect() as host:
        if setup is not None:
            setup(host, name)
    count = moments_of(victim, act, name)
    for moment in range(1, count + 1):
        name = victim.daemon.name(f"m{moment}")
        with victim.daemon.connect() as host:
            if setup is not None:
                setup(host, name)
        yield name, moment


@pytest.mark.parametrize("verb", ["create", "define"])
def test_a_machine_is_made_whole_or_not_at_all(victim: Victim, verb: str) -> None:
    known: list[EventRecord] = []

    def act(host: Host, name: str) -> object:
        return getattr(host.vm, verb)(victim.params(name))

    for name, moment in rounds(victim, act):
        with victim.daemon.connect() as host:
            tasks_before = {task.id for task in host.task.list()}
        victim.strike(act, name, moment)
        with victim.daemon.connect() as host:
            mine = [task for task in settled(host) if task.id not in tasks_before]
            known = unbroken(known, host)
            real = victim.daemon.domains().get(name)
            if not mine:  # it died before the task was kept: then nothing was done
                assert real is None
                continue
            (task,) = mine
            assert task.state in (State.DONE, State.FAILED), f"moment {moment}: {task}"
            check_truth(victim, host, name, task)
            assert (real is not None) == (task.state is State.DONE), f"moment {moment}: {task}"
            if real is not None and verb == "create":
                assert real.isActive(), f"moment {moment}: a created machine runs"
            if task.state is State.FAILED:
                act(host, name)  # the way is free for another try
            assert host.vm.get_info(_id(host, name)).vm_name == name
    survivors = len(victim.daemon.domains())
    assert survivors, "no moment left a machine behind: the test did not test"


def test_shutdown_goes_on_or_is_taken_back(victim: Victim) -> None:
    def setup(host: Host, name: str) -> object:
        return host.vm.create(victim.params(name))

    def act(host: Host, name: str) -> object:
        # This machine hears nobody: it is asked both ways and then cut off.
        return host.vm.shutdown(_id(host, name), timeout=0.3, force=True)

    for name, moment in rounds(victim, act, setup):
        with victim.daemon.connect() as host:
            tasks_before = {task.id for task in host.task.list()}
        others = {n for n, d in victim.daemon.domains().items() if d.isActive() and n != name}
        victim.strike(act, name, moment)
        with victim.daemon.connect() as host:
            mine = [task for task in settled(host) if task.id not in tasks_before]
            real = victim.daemon.domains().get(name)
            runs = real is not None and bool(real.isActive())
            if not mine:
                assert runs
            else:
                (task,) = mine
                assert task.state in (State.DONE, State.FAILED), f"moment {moment}: {task}"
                assert runs == (task.state is State.FAILED), f"moment {moment}: {task}"
            assert len(machines(name)) == int(runs)
            row = summary(host, name)
            assert row is not None, "it stays in the list until it is destroyed"
            host.vm.destroy(row.vm_id)
        assert others <= {n for n, d in victim.daemon.domains().items() if d.isActive()}, "others run on"


def test_a_second_blow_during_recovery(victim: Victim) -> None:
    """Dying again while the first death is being mended changes nothing."""

    def act(host: Host, name: str) -> object:
        return host.vm.create(victim.params(name))

    count = moments_of(victim, act, victim.daemon.name("whole"))
    middle = count // 2
    for second in range(1, 5):
        name = victim.daemon.name(f"twice{second}")
        victim.die_at(middle)
        with victim.daemon.connect() as host, contextlib.suppress(Unreachable, Problem):
            act(host, name)
        until("it died", lambda: victim.daemon.process.poll() is not None)
        victim.die_at(second)  # counted from the start of the next one: its recovery
        victim.daemon.launch(program=(blows.__file__, str(victim.daemon.home / "blow")))
        with contextlib.suppress(AssertionError):
            until("it died again", lambda: victim.daemon.process.poll() is not None, seconds=2)
        if victim.daemon.process.poll() is None:
            victim.daemon.kill()  # recovery had fewer moments than that
        victim.live()
        victim.start()
        with victim.daemon.connect() as host:
            (task,) = [t for t in settled(host) if t.id == host.task.list()[0].id]
            assert task.state in (State.DONE, State.FAILED)
            check_truth(victim, host, name, task)
            assert (name in victim.daemon.domains()) == (task.state is State.DONE)


def _id(host: Host, name: str) -> str:
    row = summary(host, name)
    assert row is not None, f"no {name}"
    return row.vm_id
