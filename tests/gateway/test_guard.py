# SPDX-License-Identifier: Apache-2.0
"""The host knows only the gateway, so the gateway asks who may: for each verb, and for what its fields carry."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.memory_host import ADMIN, OPERATOR, VIEWER, Meter
from harness.rest_server import OWN_ROLES, Server
from vdsm.bindings.options import RestOptions
from vdsm.client import RemoteBridge, address
from vdsm.client.transport import Transport
from vdsm.contract import VERBS, host, vm
from vdsm.contract.errors import AccessDenied, IdempotencyConflict
from vdsm.contract.events import EventFilter, EventRecord
from vdsm.core.caller import Caller
from vdsm.gateway.guard import GuardedBridge

RAW = "<domain type='kvm'><name>raw1</name><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>"


@pytest.fixture
def meter() -> Meter:
    return Meter()


@pytest.fixture
async def guarded(tmp_path: Path, meter: Meter) -> AsyncIterator[GuardedBridge]:
    """The way to a host that takes whoever comes this way for its administrator."""
    server = Server(tmp_path, RestOptions(grace=2.0), OWN_ROLES)
    remote = RemoteBridge(Transport(address.find(f"unix:{server.path}")))
    yield GuardedBridge(remote, meter)
    await remote.close()
    server.close()


@pytest.mark.parametrize("method", VERBS)
async def test_without_its_privilege_no_verb_goes_on(guarded: GuardedBridge, meter: Meter, method: str) -> None:
    verb = VERBS[method]
    lacking = [c for c in (VIEWER, OPERATOR) if not c.may(verb.needs)]
    for caller in lacking:
        with pytest.raises(AccessDenied):
            await guarded.call(verb, {"nonsense": 1}, caller)
    assert meter.seen == [(method, "access-denied")] * len(lacking)


async def test_a_field_may_need_more_than_its_verb(guarded: GuardedBridge) -> None:
    with pytest.raises(AccessDenied) as denied:
        await guarded.call(vm.create, {"vmParams": {"xml": RAW}}, OPERATOR)
    assert denied.value.facts["caller"] == OPERATOR.identity
    made = await guarded.call(vm.create, {"vmParams": {"xml": RAW}}, ADMIN)
    assert made.result is not None


async def test_who_may_is_let_through_and_changes_are_logged(
    guarded: GuardedBridge, meter: Meter, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "vdsm.gateway"):
        await guarded.call(host.get_stats, {}, VIEWER)
        assert not caplog.messages
        await guarded.call(vm.create, {"vmParams": {"name": "a", "memory": 64}}, OPERATOR)
    assert caplog.messages == ["VM.create for test:operator over test: ok"]
    assert meter.seen == [("Host.getStats", "ok"), ("VM.create", "ok")]


async def test_each_caller_has_idempotency_keys_of_its_own(guarded: GuardedBridge) -> None:
    async def create(name: str, caller: Caller) -> bool:
        shape = {"vmParams": {"name": name, "memory": 64}}
        return (await guarded.call(vm.create, shape, caller, idempotency_key="k")).replayed

    assert not await create("a", OPERATOR)
    assert await create("a", OPERATOR)
    assert not await create("b", ADMIN)
    with pytest.raises(IdempotencyConflict):
        await create("c", OPERATOR)


async def test_events_and_streams_take_a_privilege_too(guarded: GuardedBridge) -> None:
    with pytest.raises(AccessDenied):
        await guarded.open(vm.console, {"vmID": "x"}, VIEWER)
    events = guarded.subscribe(EventFilter(types=["VM_defined"]), VIEWER, since=0)
    await guarded.call(vm.create, {"vmParams": {"name": "a", "memory": 64}}, ADMIN)
    told = await anext(events)
    assert isinstance(told, EventRecord)
    assert told.data.name == "VM_defined"
