# SPDX-License-Identifier: Apache-2.0
"""The parts put together: restarts on the same state, gauges, simulated machines, a contract that is kept."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from harness.until import soon
from vdsm.contract import events as ev
from vdsm.contract import storage, vm
from vdsm.contract.access import Role
from vdsm.contract.errors import HypervisorUnavailable, RecoveryInProgress, StateUnavailable
from vdsm.contract.events import EventFilter, EventRecord
from vdsm.core.caller import Caller
from vdsm.daemon import drivers, wiring
from vdsm.daemon.config import Config, ConfigError, Daemon, Events, Simulate, Storage
from vdsm.daemon.wiring import House

ADMIN = Caller(identity="uid:0", channel="rest+unix", role=Role.ADMIN)


@contextlib.asynccontextmanager
async def opened(state: Path | None, config: Config | None = None, machines: int = 0) -> AsyncIterator[House]:
    config = config or Config()
    house = House(config, await drivers.simulated(config, machines), state)
    await house.open()
    try:
        yield house
    finally:
        await house.close()


async def story(house: House) -> list[EventRecord]:
    await house.journal.flush()
    records, gap = await house.journal.read(0, 1000)
    assert gap is None
    return records


async def test_the_journal_tells_of_every_start(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        (first,) = await story(house)
    async with opened(tmp_path) as house:
        both = await story(house)
    assert both[0] == first
    assert isinstance(first.data, ev.HostStarted)
    assert isinstance(both[1].data, ev.HostStarted)
    assert both[1].data.clean
    assert both[1].id == first.id + 1


async def test_nothing_is_served_before_it_is_open(tmp_path: Path) -> None:
    house = House(Config(), await drivers.simulated(Config(), 1), tmp_path)
    with pytest.raises(RecoveryInProgress):
        await house.bridge.call(vm.list_, {}, ADMIN)
    await house.open()
    await house.bridge.call(vm.list_, {}, ADMIN)
    await house.close()


async def test_a_second_house_on_the_same_state_is_refused_and_leaves_nothing_open(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        second = House(Config(), await drivers.simulated(Config(), 0), tmp_path)
        with pytest.raises(StateUnavailable, match="another vdsmd"):
            await second.open()
        await house.bridge.call(vm.list_, {}, ADMIN)
    await second.open()
    await second.close()


async def test_simulated_machines_run_and_are_ours() -> None:
    config = Config(daemon=Daemon(owner="someone"))
    async with opened(None, config, machines=20) as house:
        listed = (await house.bridge.call(vm.list_, {}, ADMIN)).result
        assert isinstance(listed, list)
        assert sorted(m.vm_name for m in listed) == sorted(f"sim{n}" for n in range(1, 21))
        assert not any(m.foreign for m in listed)
        page = house.metrics.page().decode()
        assert 'vdsm_vms{state="Up"} 20.0' in page
        (last,) = (line.split()[1] for line in page.splitlines() if line.startswith("vdsm_events_last_id "))
        assert int(float(last)) == house.journal.last
        assert "vdsm_tasks_running 0.0" in page
    async with opened(None, config, machines=2) as house:
        again = (await house.bridge.call(vm.list_, {}, ADMIN)).result
        assert isinstance(again, list)
        assert {m.vm_id for m in again} < {m.vm_id for m in listed}, "a simulated machine keeps its id"


async def test_storage_that_fails_is_seen_in_the_metrics() -> None:
    config = Config(storage=Storage(directories=["/s"], repository="/r", prepared="/p", monitor_interval_s=0.01))
    async with opened(None, config) as house:
        await house.bridge.call(storage.init, {"path": "/s/a"}, ADMIN)
        await soon("it is well", lambda: 'vdsm_storage_domains{state="active"} 1.0' in house.metrics.page().decode())
    config = replace(config, simulate=Simulate(faults="probe:error=boom"))
    async with opened(None, config) as house:
        await house.bridge.call(storage.init, {"path": "/s/a"}, ADMIN)
        await soon("it is not", lambda: 'vdsm_storage_domains{state="unusable"} 1.0' in house.metrics.page().decode())


async def test_faults_come_from_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "FIRST_LOOK", 0.05)
    config = Config(simulate=Simulate(faults="connection:lost"))
    async with opened(None, config, machines=1) as house:
        with pytest.raises(HypervisorUnavailable):
            await house.bridge.call(vm.create, {"vmParams": {"name": "a", "memory": 64}}, ADMIN)
    with pytest.raises(ConfigError, match=r"\[simulate\] faults: .*nonsense"):
        await drivers.simulated(Config(simulate=Simulate(faults="start:nonsense")), 0)


async def test_retention_comes_from_the_configuration(tmp_path: Path) -> None:
    config = Config(events=Events(keep=3))
    async with opened(tmp_path, config) as house:
        for _ in range(6):
            house.journal.publish(ev.HypervisorBack())
            await house.journal.flush()
    async with opened(tmp_path, config) as house:
        await house.journal.flush()
        follow = house.journal.follow(EventFilter(), 1)
        gap = await anext(follow)
        assert isinstance(gap, ev.Gap)
        assert len((await house.journal.read(gap.until, 100))[0]) == 3
