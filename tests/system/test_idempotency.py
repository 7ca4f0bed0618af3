# SPDX-License-Identifier: Apache-2.0
"""One idempotency key makes one machine: twice in a row, at the same time, and over the daemon's death."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.daemon import Daemon
from harness.machines import halting_rom, idle_xml
from vdsm.contract import errors
from vdsm.contract.vm_params import VmParams


def test_the_same_key_makes_one_machine(daemon: Daemon) -> None:
    params = VmParams(xml=idle_xml(daemon.name("one"), halting_rom(daemon.images)))
    daemon.start()

    def create() -> str:
        with daemon.connect() as host:
            return host.options(idempotency_key="k1").vm.create(params).vm_id

    with ThreadPoolExecutor(4) as pool:
        made = {answer.result() for answer in [pool.submit(create) for _ in range(4)]}
    assert len(made) == 1
    assert create() in made
    daemon.kill()
    daemon.start()
    assert create() in made, "the key is kept over a crash"
    assert list(daemon.domains()) == [daemon.name("one")]


def test_the_same_key_for_something_else_is_refused(daemon: Daemon) -> None:
    rom = halting_rom(daemon.images)
    daemon.start()
    with daemon.connect() as host:
        keyed = host.options(idempotency_key="k2")
        keyed.vm.define(VmParams(xml=idle_xml(daemon.name("a"), rom)))
        with pytest.raises(errors.IdempotencyConflict):
            keyed.vm.define(VmParams(xml=idle_xml(daemon.name("b"), rom)))
    assert list(daemon.domains()) == [daemon.name("a")]


def test_a_plan_lists_the_steps_and_changes_nothing(daemon: Daemon) -> None:
    params = VmParams(xml=idle_xml(daemon.name("planned"), halting_rom(daemon.images)))
    daemon.start()
    with daemon.connect() as host:
        plan = host.options(plan=True).vm.create(params)
        assert len(plan.steps) >= 2
        assert all(step.title for step in plan.steps)
        assert host.task.list() == []
        assert not [
            e for e in host.event.list(since=0).events if getattr(e.data, "vm_name", "") == daemon.name("planned")
        ]
    assert daemon.domains() == {}
