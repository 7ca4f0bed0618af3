# SPDX-License-Identifier: Apache-2.0
"""Samples are taken when somebody asks, and only then."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from vdsm.core.host.sampler import Sampler
from vdsm.core.ports.links import Link, LinkKind, LinkSample, Network
from vdsm.core.ports.machine import MachineSample
from vdsm.drivers.simulated.computer import SimulatedMachine
from vdsm.drivers.simulated.links import NETWORK, SimulatedLinks


class CountingMachine(SimulatedMachine):
    samples = 0

    async def sample(self) -> MachineSample:
        self.samples += 1
        return await super().sample()


class CountingLinks(SimulatedLinks):
    reads = 0
    samples = 0

    async def read(self) -> Network:
        self.reads += 1
        return await super().read()

    async def sample(self, watched: Collection[str]) -> LinkSample:
        self.samples += 1
        return await super().sample(watched)


class Setting:
    def __init__(self) -> None:
        self.now = 100.0
        self.machine = CountingMachine()
        self.links = CountingLinks()
        self.sampler = Sampler(self.machine, self.links, lambda: self.now)


async def test_the_first_interval_begins_at_boot() -> None:
    setting = Setting()
    await setting.sampler.start()
    interval = await setting.sampler.interval()
    assert interval.older.taken == 0
    assert interval.seconds == interval.newer.taken > 0
    assert setting.machine.samples == 1


async def test_the_next_one_begins_where_the_last_ended() -> None:
    setting = Setting()
    await setting.sampler.start()
    first = await setting.sampler.interval()
    setting.now += 5
    second = await setting.sampler.interval()
    assert second.older is first.newer
    assert second.newer.taken > first.newer.taken


async def test_within_a_second_nothing_is_sampled_again() -> None:
    setting = Setting()
    first = await setting.sampler.interval(), await setting.sampler.counters()
    setting.now += 0.9
    assert (await setting.sampler.interval(), await setting.sampler.counters()) == first
    assert (setting.machine.samples, setting.links.samples) == (1, 1)


async def test_counters_do_not_read_the_whole_network_each_time() -> None:
    setting = Setting()
    for _ in range(5):
        await setting.sampler.counters()
        setting.now += 5
    assert (setting.links.samples, setting.links.reads) == (5, 1)


async def test_a_new_link_is_in_the_very_next_counters() -> None:
    setting = Setting()
    await setting.sampler.counters()
    new = Link(name="eth9", kind=LinkKind.PHYSICAL)
    setting.links.network = msgspec.structs.replace(NETWORK, links=[*NETWORK.links, new])
    setting.now += 5
    picture, sample = await setting.sampler.counters()
    assert "eth9" in picture.nics
    assert "eth9" in sample.states


async def test_a_link_that_went_is_gone_from_the_very_next_counters() -> None:
    setting = Setting()
    await setting.sampler.counters()
    setting.links.network = msgspec.structs.replace(NETWORK, links=NETWORK.links[-1:])
    setting.now += 5
    picture, sample = await setting.sampler.counters()
    assert picture.names() == set(sample.counters) == {NETWORK.links[-1].name}
