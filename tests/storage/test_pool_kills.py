# SPDX-License-Identifier: Apache-2.0
"""A daemon dies at any moment of a change to a pool: the next one finishes it, or undoes it, wholly."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest

from harness.dying import Blows, Killed, begin, stop_dead
from harness.memory_host import MemoryHost
from vdsm.contract import AnyVerb, storage, storage_domain, storage_pool, task
from vdsm.contract.task import State

POOL, SD, SD2, VM = (str(uuid.uuid4()) for _ in range(4))
WHO: dict[str, Any] = {"storagepoolID": POOL}
HOST: dict[str, Any] = {**WHO, "hostID": 1, "scsiKey": ""}
LET_GO: list[tuple[AnyVerb, dict[str, Any]]] = [(storage_pool.spm_stop, WHO), (storage_pool.disconnect, HOST)]
RECONSTRUCT: dict[str, Any] = {
    **WHO, "hostId": 1, "name": "dc", "masterSdUUID": SD2, "masterVersion": 2,
    "domainDict": {SD: "Active", SD2: "Active"}, "lockRenewalIntervalSec": 5, "leaseTimeSec": 60,
    "ioOpTimeoutSec": 10, "leaseRetries": 3,
}  # fmt: skip
STORIES: dict[str, list[tuple[AnyVerb, dict[str, Any]]]] = {
    "switchMaster": [
        (storage_pool.switch_master, {**WHO, "oldMasterUUID": SD, "newMasterUUID": SD2, "masterVersion": 2})
    ],
    "reconstructMaster": [*LET_GO, (storage_pool.reconstruct_master, RECONSTRUCT)],
    "destroy": [(storage_pool.destroy, HOST)],
    "detach": [(storage_domain.detach, {**WHO, "storagedomainID": SD2})],
}
"""The daemon dies in the last call."""


async def prepare(home: Path) -> MemoryHost:
    host = await begin(home)
    host.tree.directory("/storage/dc")
    server = [{"id": VM, "connection": "/storage/dc"}]
    await host.call(storage_pool.connect_storage_server, **WHO, domainType="LOCALFS", connectionParams=server)
    for domain_id in (SD, SD2):
        place: dict[str, Any] = {"domainType": "LOCALFS", "typeArgs": "/storage/dc", "name": domain_id[:8]}
        await host.call(storage_domain.create, storagedomainID=domain_id, **place)
    master: dict[str, Any] = {"masterSdUUID": SD, "masterVersion": 1}
    await host.call(storage_pool.create, **WHO, name="dc", **master, domainList=[SD, SD2])
    await host.call(storage_pool.connect, **HOST, **master)
    await host.call(storage_pool.spm_start, **WHO)
    await host.call(storage_domain.activate, storagedomainID=SD2, **WHO)
    await host.call(storage_pool.update_vms, **WHO, vmList=[{"vm": VM, "ovf": "<x/>"}])
    return host


def seen(host: MemoryHost) -> dict[str, str]:
    """All that says something of the pool: on the disk, and where this host looks for it."""
    files = {path: f"{bytes(node.data)!r}{node.target}" for path, node in host.tree.nodes.items()}
    records = {pool.id: repr(pool) for pool in host.repository.pools()}
    return files | records


async def settle(home: Path, dead: MemoryHost) -> tuple[MemoryHost, State | None]:
    host = await begin(home, dead)
    await asyncio.wait_for(host.tasks.settled(), 20)
    left = await host.call(task.list_)
    return host, left[0].state if left else None


@pytest.mark.parametrize("name", STORIES)
async def test_a_daemon_dies_at_every_moment(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blows = Blows.of(monkeypatch)
    *first, (verb, params) = STORIES[name]
    ready = await prepare(tmp_path / "ready")
    for early, given in first:
        await ready.call(early, **given)
    for row in await ready.call(task.list_):
        await ready.call(task.clear, taskID=row.id)
    before = seen(ready)
    await stop_dead(ready)
    after: dict[str, str] = {}
    for at in itertools.chain([0], itertools.count(1)):  # at 0 it lives
        home = tmp_path / f"{at}"
        shutil.copytree(tmp_path / "ready", home)
        host = await begin(home, ready, blows)
        blows.arm(at)
        died = False
        try:
            await host.call(verb, **params)
        except Killed:
            died = True
        blows.arm(0)
        await stop_dead(host)
        after = after or seen(host)
        for late, patience in ((False, 900.0), (True, -1.0)):
            monkeypatch.setattr("vdsm.core.task.RESUME_WITHIN", patience)
            place = tmp_path / f"{at} {late}"
            shutil.copytree(home, place)
            again, state = await settle(place, host)
            assert state in ((None, State.DONE, State.FAILED) if late else (None, State.DONE))
            assert seen(again) == (after if state is State.DONE else before), (at, state)
            for domain_id in (SD, SD2):
                assert await again.call(storage.check, storageID=domain_id) == []
            await again.close()
        if at and not died:
            break
    assert at > 3
