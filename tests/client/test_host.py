# SPDX-License-Identifier: Apache-2.0
"""The typed client against a daemon that pretends to have machines."""

from __future__ import annotations

import operator
import uuid

import pytest

from harness.daemon import Daemon
from harness.until import until
from vdsm.client import Host, Unreachable
from vdsm.contract import VERBS, vm
from vdsm.contract.access import Role
from vdsm.contract.errors import (
    IdempotencyConflict,
    InvalidParams,
    NoSuchVM,
    PathNotAllowed,
    RequestTooLarge,
    TaskAborted,
    VMExists,
)
from vdsm.contract.task import State
from vdsm.contract.types import Secret
from vdsm.contract.vm_info import VmInfo, VmState
from vdsm.contract.vm_params import Disk, VmParams
from vdsm.contract.vm_stats import VmStats


def find(host: Host, name: str) -> str:
    return next(row.vm_id for row in host.vm.list() if row.vm_name == name)


@pytest.fixture
def params() -> VmParams:
    return VmParams(name=f"c-{uuid.uuid4().hex[:8]}", memory=64)


def test_results_are_of_the_contracts_types(host: Host) -> None:
    (stats,) = host.vm.get_stats(find(host, "sim1"))
    assert isinstance(stats, VmStats)
    assert stats.status is VmState.UP
    assert host.call(vm.get_stats, stats.vm_id)[0].vm_name == "sim1"


def test_every_verb_is_an_attribute(host: Host) -> None:
    for verb in VERBS.values():
        assert callable(getattr(getattr(host, verb.noun), verb.name))
        assert verb.noun in dir(host)
        assert verb.name in dir(getattr(host, verb.noun))


def test_what_is_no_noun_or_verb(host: Host) -> None:
    with pytest.raises(AttributeError, match="nouns are"):
        operator.attrgetter("vms")(host)
    with pytest.raises(AttributeError, match="get_stats"):
        operator.attrgetter("stats")(host.vm)


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), (("a", "b"), {}), (("a",), {"vm_id": "a"}), (("a",), {"x": 1})])
def test_wrong_arguments_are_refused_as_python_does(host: Host, args: tuple[str, ...], kwargs: dict[str, str]) -> None:
    with pytest.raises(TypeError):
        host.vm.get_stats(*args, **kwargs)


def test_problems(host: Host) -> None:
    with pytest.raises(NoSuchVM) as missing:
        host.vm.get_stats(str(uuid.uuid4()))
    assert missing.value.code == 1
    with pytest.raises(InvalidParams) as wrong:
        host.vm.get_stats("no-uuid")
    assert wrong.value.path == "$.vmID"
    with pytest.raises(PathNotAllowed):
        host.vm.create(VmParams(name="x", memory=64, disks=[Disk(path="/etc/shadow")]))
    with pytest.raises(RequestTooLarge):
        host.vm.create(VmParams(xml="<domain>" + "x" * 10_000_000))


def test_an_action(host: Host) -> None:
    vm_id = find(host, "sim2")
    assert host.vm.pause(vm_id).status is VmState.PAUSED
    assert host.vm.cont(vm_id).status is VmState.UP
    host.vm.set_ticket(vm_id, Secret("s3cret"), 60)
    host.vm.set_autostart(vm_id, True)


def test_a_task_to_its_end(host: Host, params: VmParams) -> None:
    made = host.vm.create(params)
    assert isinstance(made, VmInfo)
    assert made.vm_name == params.name
    with pytest.raises(VMExists):
        host.vm.create(params)
    host.vm.destroy(made.vm_id)
    assert params.name not in [row.vm_name for row in host.vm.list()]


def test_a_plan_changes_nothing(host: Host, params: VmParams) -> None:
    plan = host.options(plan=True).vm.create(params)
    assert plan.method == "VM.create"
    assert len(plan.steps) >= 2
    assert host.options(plan=True).call(vm.create, params) == plan
    assert params.name not in [row.vm_name for row in host.vm.list()]


def test_options_add_up(host: Host) -> None:
    chosen = host.options(deadline=7.0).options(idempotency_key="k").options(wait=1)
    assert (chosen._options.deadline, chosen._options.idempotency_key, chosen._options.wait) == (7.0, "k", 1)
    assert not host.options(plan=True, deadline=3.0)._options.idempotency_key


def test_a_task_that_goes_on_by_itself(host: Host) -> None:
    vm_id = find(host, "sim3")
    outcome = host.options(wait=0).vm.shutdown(vm_id, delay=60.0)
    assert outcome.detached
    assert outcome.task is not None
    task_id = outcome.task.id
    until("it runs", lambda: host.task.get(task_id).state is State.RUNNING)
    host.task.stop(task_id)
    until("it is stopped", lambda: host.task.get(task_id).state is State.ABORTED)
    problem = host.task.get(task_id).problem
    assert problem is not None
    assert problem.code == TaskAborted.code
    assert host.vm.get_info(vm_id).status is VmState.UP


def test_a_task_that_ends_in_time(host: Host, params: VmParams) -> None:
    outcome = host.options(wait=30).call(vm.create, params)
    assert outcome.result is not None
    assert outcome.result.vm_name == params.name
    host.vm.destroy(outcome.result.vm_id)


def test_the_same_call_twice_is_done_once(host: Host, params: VmParams) -> None:
    keyed = host.options(idempotency_key=uuid.uuid4().hex)
    assert keyed.vm.create(params).vm_id == keyed.vm.create(params).vm_id
    assert len([row for row in host.vm.list() if row.vm_name == params.name]) == 1
    with pytest.raises(IdempotencyConflict):
        keyed.vm.create(VmParams(name="other", memory=64))
    host.vm.destroy(find(host, str(params.name)))


def test_names_that_need_quoting_arrive_whole(host: Host) -> None:
    assert host.host.echo("a/b?c&d=ä☃ %2F") == "a/b?c&d=ä☃ %2F"


def test_a_secret_comes_back_as_one(host: Host) -> None:
    made = host.token.create(f"t-{uuid.uuid4().hex[:8]}", Role.VIEWER)
    assert repr(made.token) == "***"
    assert made.token.reveal().startswith("vdsm_")
    host.token.revoke(made.name)


def test_a_daemon_that_starts_again_is_found_again(sim: Daemon) -> None:
    with sim.connect() as host:
        before = {row.vm_name for row in host.vm.list()}
        assert sim.terminate() == 0
        with pytest.raises(Unreachable):
            host.vm.list()
        sim.start("--simulate", "4")
        assert {row.vm_name for row in host.vm.list()} >= {n for n in before if n.startswith("sim")}
