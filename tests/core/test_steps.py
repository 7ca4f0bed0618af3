# SPDX-License-Identifier: Apache-2.0
"""Steps: plan, progress, stop, undo, and what a crash leaves to the next daemon."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from harness.memory_host import ADMIN, MemoryHost
from vdsm.contract import task, vm
from vdsm.contract.errors import (
    InternalError,
    ObjectBusy,
    PlanNotOffered,
    TaskAborted,
    TaskFinished,
    TaskNotRevertible,
    UnknownTask,
)
from vdsm.contract.events import EventFilter, EventRecord, TaskStatus
from vdsm.contract.task import State, StepState, TaskRecord
from vdsm.contract.vm_info import VmInfo
from vdsm.core import task as core_task
from vdsm.core.run import TaskRow
from vdsm.core.steps import Op, Operations, Step, operation
from vdsm.core.task import Boundary
from vdsm.drivers.simulated.faults import Fault


async def test_a_plan_names_the_steps_and_changes_nothing(host: MemoryHost) -> None:
    outcome = await host.bridge.call(vm.create, {"vmParams": {"name": "a", "memory": 64}}, ADMIN, plan=True)
    assert outcome.plan is not None
    assert [(s.title, s.undo) for s in outcome.plan.steps] == [("define a", "vm.forget"), ("start a", "vm.cut")]
    assert not await host.hypervisor.domains()
    assert not await host.call(task.list_)
    await host.create("a")  # nor does a plan keep the name


async def test_what_changes_nothing_has_no_plan(host: MemoryHost) -> None:
    with pytest.raises(PlanNotOffered):
        await host.bridge.call(vm.list_, {}, ADMIN, plan=True)


async def test_an_action_has_a_plan_too(host: MemoryHost) -> None:
    made = await host.create()
    outcome = await host.bridge.call(vm.destroy, {"vmID": made.vm_id}, ADMIN, plan=True)
    assert outcome.plan is not None
    assert [s.title for s in outcome.plan.steps] == ["cut the power of a", "forget a"]
    assert (await host.call(vm.get_info, vmID=made.vm_id)).vm_id == made.vm_id


async def test_a_detached_task_tells_its_progress_and_its_end(host: MemoryHost) -> None:
    host.hypervisor.faults.set("start", Fault(delay=0.2))
    outcome = await host.bridge.call(vm.create, {"vmParams": {"name": "a", "memory": 64}}, ADMIN, wait=0)
    assert outcome.detached
    assert outcome.result is None
    task_id = outcome.task.id if outcome.task else ""
    async with asyncio.timeout(5):
        async for item in host.journal.follow(_only(task_id), since=0):
            if isinstance(item, EventRecord) and isinstance(item.data, TaskStatus) and item.data.state == "done":
                break
    events = [e.data for e in await host.events() if isinstance(e.data, TaskStatus)]
    assert [e.step for e in events if e.state == "running"][-1] == "start a"
    assert [e.progress for e in events] == sorted(e.progress for e in events)
    assert events[-1].progress == 100
    assert (await host.call(vm.list_))[0].vm_name == "a"


def _only(task_id: str) -> EventFilter:
    return EventFilter(subjects=[task_id])


async def test_stopping_a_task_undoes_it(host: MemoryHost) -> None:
    host.hypervisor.faults.set("start", Fault(hang=True))
    outcome = await host.bridge.call(vm.create, {"vmParams": {"name": "a", "memory": 64}}, ADMIN, wait=0)
    assert outcome.task is not None
    waiter = asyncio.create_task(_ended(host, outcome.task.id))
    await host.call(task.stop, taskID=outcome.task.id)
    record = await waiter
    assert record.state is State.ABORTED
    assert record.problem is not None
    assert record.problem.code == TaskAborted.code
    assert not await host.hypervisor.domains()
    with pytest.raises(TaskFinished):
        await host.call(task.stop, taskID=outcome.task.id)


async def _ended(host: MemoryHost, task_id: str) -> TaskRecord:
    async with asyncio.timeout(5):
        async for _ in host.journal.follow(_only(task_id), since=0):
            record: TaskRecord = await host.call(task.get, taskID=task_id)
            if record.state.ended:
                return record
    raise AssertionError("the journal ended")


async def test_reverting_a_finished_create_removes_the_machine(host: MemoryHost) -> None:
    outcome = await host.outcome(vm.create, vmParams={"name": "a", "memory": 64})
    assert outcome.task is not None
    await host.call(task.revert, taskID=outcome.task.id)
    assert not await host.hypervisor.domains()
    record = await host.call(task.get, taskID=outcome.task.id)
    assert record.state is State.REVERTED
    assert {s.state for s in record.steps} == {StepState.UNDONE}
    with pytest.raises(TaskNotRevertible):
        await host.call(task.revert, taskID=outcome.task.id)
    await host.call(task.clear, taskID=outcome.task.id)
    with pytest.raises(UnknownTask):
        await host.call(task.get, taskID=outcome.task.id)


async def test_what_a_task_changes_is_told_to_be_busy(host: MemoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vdsm.core.locks.PATIENCE", 0.05)
    made = await host.call(vm.define, vmParams={"name": "a", "memory": 64})
    host.hypervisor.faults.set("start", Fault(hang=True))
    outcome = await host.bridge.call(vm.start, {"vmID": made.vm_id}, ADMIN, wait=0)
    assert outcome.task is not None
    with pytest.raises(ObjectBusy, match=outcome.task.id):
        await host.call(vm.rename, vmID=made.vm_id, name="b")
    explained = {a.method: a for a in (await host.call(vm.explain, vmID=made.vm_id)).verbs}
    assert "object-busy" in [p.type.rpartition(":")[2] for p in explained["VM.rename"].problems]
    await host.call(task.stop, taskID=outcome.task.id)
    await _ended(host, outcome.task.id)


class Killed(BaseException):
    """In the place of SIGKILL: nothing in the daemon may handle it."""


@pytest.mark.parametrize("boundary", range(1, 8))
@pytest.mark.parametrize("verb", ["create", "define", "start", "undefine", "shutdown"])
async def test_a_crash_at_any_boundary_is_taken_up(tmp_path: Path, verb: str, boundary: int) -> None:
    """The daemon stops dead at the n-th boundary; the next one on the same disk and hypervisor ends the task."""
    first = MemoryHost(tmp_path, at_boundary=_stop_at(boundary))
    await first.open()
    params = await _prepare(first, verb)
    dead = asyncio.create_task(first.bridge.call(getattr(vm, verb), params, ADMIN))
    done, _ = await asyncio.wait([dead], timeout=5)
    crashed = bool(done) and isinstance(dead.exception(), Killed)
    await first.table.close()
    await first.journal.close()
    await first.store.close()

    second = MemoryHost(tmp_path, first.hypervisor)
    await second.open()
    try:
        await asyncio.wait_for(second.tasks.settled(), 5)
        for record in await second.call(task.list_):
            assert record.state is State.DONE
            assert record.progress == 100
        domains = {d.name: d.state for d in await second.hypervisor.domains()}
        expected = {"create": "running", "define": "shut-off", "start": "running", "shutdown": "shut-off"}
        assert domains == ({"a": expected[verb]} if verb in expected else {})
        ids = [e.id for e in await second.events()]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        assert crashed or boundary > 2  # the last boundaries are beyond the end of the shorter tasks
    finally:
        await second.close()


def _stop_at(boundary: int) -> Boundary:
    count = 0

    def stop(row: TaskRow) -> None:
        nonlocal count
        if row.verb.startswith("VM.") and not row.flow_id.startswith("prepare"):
            count += 1
            if count == boundary:
                raise Killed

    return stop


async def _prepare(host: MemoryHost, verb: str) -> dict[str, object]:
    shape = {"vmParams": {"name": "a", "memory": 64}}
    if verb in ("create", "define"):
        return dict(shape)
    first = vm.create if verb == "shutdown" else vm.define
    made = (await host.bridge.call(first, shape, ADMIN, flow_id="prepare")).result
    assert isinstance(made, VmInfo)
    return {"vmID": made.vm_id}


class Service:
    """Operations with arguments of several types."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    @operation("test.note")
    async def note(self, text: str, number: int, names: list[str]) -> int:
        self.seen.append((text, number, names))
        return number


async def test_many_tasks_that_end_at_once_forget_the_old_ones(
    host: MemoryHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core_task, "KEPT", 3)
    await asyncio.gather(*(host.create(f"web{number}", guestAgent=False) for number in range(30)))
    first, *_ = rows = await host.call(task.list_)
    assert len(rows) == 3
    cleared = await asyncio.gather(
        *(host.outcome(task.clear, taskID=first.id) for _ in range(3)), return_exceptions=True
    )
    assert not [one for one in cleared if isinstance(one, InternalError)]


async def test_an_operation_survives_the_disk() -> None:
    service = Service()
    op: Op[int] = service.note("ü", 7, ["a"])
    assert not service.seen
    revived = Operations(service).revive(op.row())
    assert await revived.run() == 7
    assert service.seen == [("ü", 7, ["a"])]
    with pytest.raises(TypeError):
        Step("s", service.note("x", number=1, names=[]))
