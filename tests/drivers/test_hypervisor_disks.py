# SPDX-License-Identifier: Apache-2.0
"""The `Hypervisor` port: disks of running machines, by the simulated driver and by libvirt with real QEMU."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.until import BUSY
from vdsm.contract import errors as e
from vdsm.core.ports.hypervisor import CommitJob
from vdsm.core.ports.hypervisor import DomainEventKind as Kind

from .conftest import Lab, scsi_disk


async def test_drives_go_on_in_other_files_all_at_once(lab: Lab) -> None:
    one, two = lab.image("one"), lab.image("two")
    vm_id = await lab.run(files=[one, two])
    layers = {"sda": str(lab.image("one1", one)), "sdb": str(lab.image("two1", two))}
    await lab.hypervisor.add_layers(vm_id, layers, quiesce=None)
    assert await lab.layers(vm_id) == ["one1.qcow2", "one"]
    assert await lab.layers(vm_id, "sdb") == ["two1.qcow2", "two"]
    with pytest.raises(e.HypervisorError):  # it is done already: not twice
        await lab.hypervisor.add_layers(vm_id, layers, quiesce=None)
    await lab.hypervisor.power_off(vm_id, graceful=False)
    assert (await lab.layers(vm_id))[0] == "one1.qcow2"  # the definition, too, goes on there
    await lab.hypervisor.start(vm_id, paused=False)
    assert await lab.layers(vm_id) == ["one1.qcow2", "one"]


async def test_one_file_is_missing_and_no_drive_goes_on(lab: Lab) -> None:
    one, two = lab.image("one"), lab.image("two")
    vm_id = await lab.run(files=[one, two])
    layers = {"sda": str(lab.image("one1", one)), "sdb": str(two.with_name("none.qcow2"))}
    with pytest.raises(e.HypervisorError):
        await lab.hypervisor.add_layers(vm_id, layers, quiesce=None)
    assert [await lab.layers(vm_id, drive) for drive in ("sda", "sdb")] == [["one"], ["two"]]


async def test_file_systems_are_frozen_by_an_agent_alone(lab: Lab) -> None:
    base = lab.image("base")
    vm_id, top = await lab.run(files=[base]), lab.image("top", base)
    for call in (
        lab.hypervisor.freeze(vm_id, patience=5),
        lab.hypervisor.thaw(vm_id, patience=5),
        lab.hypervisor.add_layers(vm_id, {"sda": str(top)}, quiesce=5),
    ):
        with pytest.raises(e.NonResponsiveGuestAgent):
            await call
    assert await lab.layers(vm_id) == ["base"]


async def until_job(lab: Lab, vm_id: str, holds: Callable[[CommitJob | None], bool]) -> None:
    end = time.monotonic() + 10 * BUSY
    while not holds(job := await lab.hypervisor.commit_job(vm_id, "sda")):
        assert time.monotonic() < end, job
        await asyncio.sleep(0.02)


async def layered(lab: Lab, count: int) -> tuple[str, list[Path]]:
    """A running machine whose disk has so many layers; they come with the one it writes to first."""
    files = [lab.image("base")]
    for number in range(1, count):
        files.insert(0, lab.image(f"layer{number}", files[0]))
    return await lab.run(files=files[:1]), files


async def test_the_layer_that_is_written_to_is_merged(lab: Lab) -> None:
    vm_id, (top, middle, base) = await layered(lab, 3)
    assert await lab.layers(vm_id) == ["layer2.qcow2", "layer1.qcow2", "base"]
    await lab.hypervisor.begin_commit(vm_id, "sda", top=str(top), base=str(middle), bandwidth=0)
    await until_job(lab, vm_id, lambda job: job is not None and job.active and job.ready and job.cur == job.end)
    await lab.until_said(vm_id, Kind.DISK_JOB, "ready")
    assert await lab.layers(vm_id) == ["layer2.qcow2", "layer1.qcow2", "base"]
    with pytest.raises(e.HypervisorError):
        await lab.hypervisor.begin_commit(vm_id, "sda", top=str(middle), base=str(base), bandwidth=0)
    with pytest.raises(e.HypervisorError):
        await lab.hypervisor.resize_disk(vm_id, "sda", 2 << 20)
    await lab.hypervisor.end_commit(vm_id, "sda", pivot=True)
    await until_job(lab, vm_id, lambda job: job is None)
    await lab.until_said(vm_id, Kind.DISK_JOB, "completed")
    assert await lab.layers(vm_id) == ["layer1.qcow2", "base"]
    await lab.hypervisor.end_commit(vm_id, "sda", pivot=True)
    await lab.hypervisor.power_off(vm_id, graceful=False)
    assert (await lab.layers(vm_id))[0] == "layer1.qcow2"


async def test_layers_below_are_merged_without_being_asked_to_end(lab: Lab) -> None:
    vm_id, (_, middle, base) = await layered(lab, 3)
    await lab.hypervisor.begin_commit(vm_id, "sda", top=str(middle), base=str(base), bandwidth=0)
    await until_job(lab, vm_id, lambda job: job is None)
    await lab.until_said(vm_id, Kind.DISK_JOB, "completed")
    assert await lab.layers(vm_id) == ["layer2.qcow2", "base"]


async def test_a_merge_is_called_off(lab: Lab) -> None:
    vm_id, (top, base) = await layered(lab, 2)
    with pytest.raises(e.HypervisorError):
        await lab.hypervisor.begin_commit(vm_id, "sda", top=str(base), base=str(top), bandwidth=0)
    await lab.hypervisor.begin_commit(vm_id, "sda", top=str(top), base=str(base), bandwidth=1)
    await lab.hypervisor.end_commit(vm_id, "sda", pivot=False)
    await until_job(lab, vm_id, lambda job: job is None)
    await lab.until_said(vm_id, Kind.DISK_JOB, "canceled")
    assert await lab.layers(vm_id) == ["layer1.qcow2", "base"]


async def test_a_machine_ends_before_its_merge(lab: Lab) -> None:
    vm_id, (top, base) = await layered(lab, 2)
    await lab.hypervisor.begin_commit(vm_id, "sda", top=str(top), base=str(base), bandwidth=0)
    await until_job(lab, vm_id, lambda job: job is not None and job.ready)
    await lab.hypervisor.power_off(vm_id, graceful=False)
    assert (await lab.layers(vm_id))[0] == "layer1.qcow2"
    await lab.hypervisor.start(vm_id, paused=False)
    assert await lab.layers(vm_id) == ["layer1.qcow2", "base"]
    assert await lab.hypervisor.commit_job(vm_id, "sda") is None


async def test_a_drive_grows(lab: Lab) -> None:
    vm_id, _ = await layered(lab, 2)
    await lab.hypervisor.resize_disk(vm_id, "sda", 2 << 20)
    await lab.hypervisor.settled(vm_id)
    with pytest.raises(e.HypervisorError):
        await lab.hypervisor.resize_disk(vm_id, "sdz", 2 << 20)


async def test_a_disk_comes_and_goes(lab: Lab) -> None:
    vm_id = await lab.run(files=[lab.image("first")])
    plugged = scsi_disk(lab.image("second"), "sdb")
    await lab.hypervisor.attach_disk(vm_id, plugged)
    await lab.until_said(vm_id, Kind.DEVICES, "added")
    assert await lab.layers(vm_id, "sdb") == ["second"]
    with pytest.raises(e.HypervisorError):
        await lab.hypervisor.attach_disk(vm_id, plugged)
    await lab.hypervisor.ask_detach(vm_id, "sdb")
    await lab.until_said(vm_id, Kind.DEVICES, "removed")
    assert await lab.layers(vm_id, "sdb") == []
    await lab.hypervisor.ask_detach(vm_id, "sdb")
    for _ in range(2):
        await lab.hypervisor.drop_disk(vm_id, "sdb")
    await lab.hypervisor.power_off(vm_id, graceful=False)
    assert [await lab.layers(vm_id, drive) for drive in ("sda", "sdb")] == [["first"], []]
