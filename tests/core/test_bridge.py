# SPDX-License-Identifier: Apache-2.0
"""What every call meets: access, strict arguments, idempotency, audit."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from harness.memory_host import ADMIN, OPERATOR, VIEWER, MemoryHost
from vdsm.contract import VERBS, Kind, audit, token, vm
from vdsm.contract.access import Privilege, Role
from vdsm.contract.errors import (
    AccessDenied,
    HypervisorError,
    IdempotencyConflict,
    InternalError,
    InvalidParams,
    RecoveryInProgress,
    StreamNotCarried,
)
from vdsm.contract.events import EventFilter, VMStatus
from vdsm.contract.outcome import Outcome
from vdsm.contract.token import NewToken
from vdsm.core.caller import Caller
from vdsm.drivers.simulated.faults import Fault

SHAPE = {"vmParams": {"name": "a", "memory": 64}}


@pytest.mark.parametrize("method", VERBS)
async def test_without_its_privilege_no_verb_is_entered(host: MemoryHost, method: str) -> None:
    """Even bad arguments are not looked at: a stranger learns nothing."""
    verb = VERBS[method]
    lacking = [c for c in (VIEWER, OPERATOR) if not c.may(verb.needs)]
    for caller in lacking:
        with pytest.raises(AccessDenied):
            await host.bridge.call(verb, {"nonsense": 1}, caller)
    if lacking:
        last = (await host.call(audit.list_))[-1]
        assert (last.method, last.verdict, last.caller) == (method, "access-denied", lacking[-1].identity)


async def test_every_call_is_refused_until_the_daemon_is_ready(host: MemoryHost) -> None:
    host.bridge.ready = False
    with pytest.raises(RecoveryInProgress) as caught:
        await host.call(vm.list_)
    assert caught.value.code == 99


@pytest.mark.parametrize(
    ("params", "path"),
    [
        ({}, "$"),
        ({"message": 1}, "$.message"),
        ({"message": "a", "more": 1}, "$"),
        ({"message": "x" * 5000}, "$.message"),
    ],
)
async def test_wrong_arguments_name_the_place(host: MemoryHost, params: dict[str, object], path: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        await host.bridge.call(VERBS["Host.echo"], params, ADMIN)
    assert caught.value.path == path


async def test_text_is_a_number_only_where_it_may_be(host: MemoryHost) -> None:
    made = await host.create()
    with pytest.raises(InvalidParams):
        await host.call(vm.destroy, vmID=made.vm_id, gracefulAttempts="1")
    await host.bridge.call(vm.destroy, {"vmID": made.vm_id, "gracefulAttempts": "1"}, ADMIN, text_numbers=True)


async def test_streams_cannot_be_called(host: MemoryHost) -> None:
    made = await host.create()
    with pytest.raises(StreamNotCarried):
        await host.call(vm.console, vmID=made.vm_id)
    stream = await host.bridge.open(vm.console, {"vmID": made.vm_id}, ADMIN)
    assert await stream.read()
    await stream.close()
    assert (await host.call(audit.list_))[-1].method == "VM.console"


async def test_one_key_makes_one_machine(host: MemoryHost) -> None:
    def create() -> asyncio.Task[Outcome[object]]:
        return asyncio.create_task(host.bridge.call(vm.create, SHAPE, ADMIN, idempotency_key="k1"))

    first, second = await asyncio.gather(create(), create())
    third = await create()
    assert first.result == second.result
    assert third.result == first.result
    assert [first.replayed, second.replayed, third.replayed].count(False) == 1
    assert len(await host.hypervisor.domains()) == 1
    with pytest.raises(IdempotencyConflict):
        await host.bridge.call(vm.create, {"vmParams": {"name": "b", "memory": 64}}, ADMIN, idempotency_key="k1")
    other = Caller(identity="test:other", channel="test", role=Role.ADMIN)
    made = await host.bridge.call(vm.create, {"vmParams": {"name": "b", "memory": 64}}, other, idempotency_key="k1")
    assert not made.replayed  # a key is its caller's own


async def test_a_key_is_free_again_after_a_failure(host: MemoryHost) -> None:
    host.hypervisor.faults.set("start", Fault(error="boom", times=1))
    with pytest.raises(HypervisorError):
        await host.bridge.call(vm.create, SHAPE, ADMIN, idempotency_key="k1")
    outcome = await host.bridge.call(vm.create, SHAPE, ADMIN, idempotency_key="k1")
    assert not outcome.replayed
    assert len(await host.hypervisor.domains()) == 1


async def test_a_key_outlives_the_daemon(tmp_path: Path) -> None:
    first = MemoryHost(tmp_path)
    await first.open()
    made = await first.bridge.call(vm.create, SHAPE, ADMIN, idempotency_key="k1")
    await first.close()
    second = MemoryHost(tmp_path, first.hypervisor)
    await second.open()
    again = await second.bridge.call(vm.create, SHAPE, ADMIN, idempotency_key="k1")
    assert again.replayed
    assert again.result == made.result
    await second.close()


async def test_the_audit_trail_tells_who_did_what(host: MemoryHost) -> None:
    made = await host.create()
    await host.bridge.call(vm.pause, {"vmID": made.vm_id}, OPERATOR, flow_id="flow-7")
    await host.call(vm.list_)
    with pytest.raises(InvalidParams):
        await host.call(vm.cont, OPERATOR, vmID="no-uuid")
    trail = await host.call(audit.list_)
    assert [(r.method, r.verdict) for r in trail] == [
        ("VM.create", "ok"),
        ("VM.pause", "ok"),
        ("VM.cont", "invalid-params"),
    ]
    assert (trail[1].caller, trail[1].channel, trail[1].flow_id) == ("test:operator", "test", "flow-7")
    assert json.loads(trail[1].arguments) == {"vmID": made.vm_id}
    assert json.loads(trail[2].arguments) == {"unread": ["vmID"]}
    caused = [e for e in await host.events() if isinstance(e.data, VMStatus) and e.data.status == "Paused"]
    assert caused[0].flow_id == "flow-7"


async def test_secrets_are_in_no_trail(host: MemoryHost, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    made = await host.create()
    await host.call(vm.set_ticket, vmID=made.vm_id, password="canary77", ttl=60)
    with pytest.raises(InvalidParams):
        await host.call(vm.set_ticket, vmID=made.vm_id, password="canary77", ttl=-1)
    secret = (await host.call(token.create, name="t", role="viewer")).token.reveal()
    told = [r.arguments for r in await host.call(audit.list_)]
    assert '"password":"***"' in told[1]
    for canary in ("canary77", secret):
        assert not any(canary in text for text in [*told, caplog.text])
        assert not any(canary in repr(e) for e in await host.events())


async def test_an_answer_with_a_secret_is_not_kept_for_its_key(tmp_path: Path) -> None:
    host = MemoryHost(tmp_path)
    await host.open()
    made = await host.bridge.call(token.create, {"name": "t", "role": "viewer"}, ADMIN, idempotency_key="k")
    assert isinstance(made.result, NewToken)
    secret = made.result.token.reveal()
    await host.close()
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if secret.encode() in path.read_bytes()]


async def test_a_defect_is_an_internal_error_and_no_story(host: MemoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.hypervisor, "suspend", None)
    made = await host.create()
    with pytest.raises(InternalError) as caught:
        await host.call(vm.pause, vmID=made.vm_id)
    assert "NoneType" not in str(caught.value)


async def test_who_may_not_read_events_does_not_hear_them(host: MemoryHost) -> None:
    class Deaf(Caller, frozen=True):
        def may(self, privilege: Privilege) -> bool:
            return False

    with pytest.raises(AccessDenied):
        host.bridge.subscribe(EventFilter(), Deaf(identity="x", channel="test", role=Role.VIEWER))


async def test_every_call_is_metered(host: MemoryHost) -> None:
    await host.call(VERBS["Host.ping2"])
    with pytest.raises(AccessDenied):
        await host.call(token.list_, VIEWER)
    assert host.meter.seen == [("Host.ping2", "ok"), ("Token.list", "access-denied")]


def test_what_changes_needs_more_than_to_look() -> None:
    """A viewer's privileges are those of verbs that change nothing."""
    for verb in VERBS.values():
        if verb.mutates or verb.kind is Kind.STREAM:
            assert not VIEWER.may(verb.needs), verb
