# SPDX-License-Identifier: Apache-2.0
"""Events reach the client once each, in order, however often it is cut off."""

from __future__ import annotations

import itertools
import random
import threading
from pathlib import Path

import pytest

from harness.cutting_proxy import cutting
from harness.daemon import Daemon
from harness.until import until
from vdsm.client import Host, Unreachable, connect
from vdsm.contract.events import EventRecord, Gap, Severity, VMStatus


def last_id(host: Host) -> int:
    page = host.event.list(since=2**53 - 1)
    assert page.gap is not None
    return page.gap.until


def change(host: Host, name: str, times: int) -> None:
    vm_id = next(row.vm_id for row in host.vm.list() if row.vm_name == name)
    for _ in range(times):
        host.vm.pause(vm_id)
        host.vm.cont(vm_id)


def test_from_a_place_in_the_journal(host: Host) -> None:
    start = last_id(host)
    change(host, "sim1", 2)
    with host.events(since=start, types=["VM_status"]) as events:
        got = list(itertools.islice(events, 4))
    statuses = [item.data.status for item in got if isinstance(item, EventRecord) and isinstance(item.data, VMStatus)]
    assert statuses == ["Paused", "Up", "Paused", "Up"]


def test_filters(host: Host) -> None:
    start = last_id(host)
    change(host, "sim1", 1)
    change(host, "sim2", 1)
    sim2 = next(row.vm_id for row in host.vm.list() if row.vm_name == "sim2")
    with host.events(since=start, subjects=[sim2], severities=[Severity.INFO]) as events:
        assert {item.subject for item in itertools.islice(events, 2) if isinstance(item, EventRecord)} == {sim2}


def test_a_place_the_journal_does_not_have_is_a_gap(host: Host) -> None:
    with host.events(since=2**53 - 1) as events:
        assert isinstance(next(events), Gap)


def test_closing_wakes_whoever_waits(host: Host) -> None:
    events = host.events()
    ended = threading.Event()

    def read() -> None:
        for _ in events:
            pass
        ended.set()

    reader = threading.Thread(target=read)
    reader.start()
    until("it follows", lambda: events._follower._chunks is not None)
    events.close()
    assert ended.wait(10)
    reader.join()


def test_nobody_there_at_first(tmp_path: Path) -> None:
    with connect(str(tmp_path / "nobody")) as host, host.events() as events, pytest.raises(Unreachable):
        next(events)


@pytest.mark.parametrize("seed", [1, 2])
def test_no_event_is_lost_or_doubled_through_cuts(host: Host, sim: Daemon, tmp_path: Path, seed: int) -> None:
    start = last_id(host)
    with cutting(tmp_path / "p", sim.socket, chance=random.Random(seed), most=3000) as proxy:
        worker = threading.Thread(target=change, args=(host, f"sim{seed}", 100))
        with connect(str(tmp_path / "p")) as cut_host, cut_host.events(since=start) as events:
            worker.start()
            got = [next(events) for _ in range(200)]
            worker.join()
        cuts = proxy.cuts
    expected = host.event.list(since=start).events[:200]
    assert [item.id for item in got if isinstance(item, EventRecord)] == [record.id for record in expected]
    assert cuts > 20


def test_from_now_on_begins_before_the_first_cut(host: Host, sim: Daemon, tmp_path: Path) -> None:
    """What happens while the very first connection is lost is not lost."""
    with cutting(tmp_path / "p", sim.socket) as proxy, connect(str(tmp_path / "p")) as cut_host:
        cuts: list[str] = []
        with cut_host.events() as events:
            events._follower._on_cut = lambda reason: (cuts.append(reason), change(host, "sim1", 1))[0]
            got: list[EventRecord | Gap] = []
            reader = threading.Thread(target=lambda: got.append(next(events)))
            reader.start()
            until("it follows", lambda: events._follower._chunks is not None)
            proxy.cut_all()
            reader.join(20)
    assert cuts
    assert isinstance(got[0], EventRecord)
