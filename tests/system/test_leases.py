# SPDX-License-Identifier: Apache-2.0
"""Two hosts, each with a daemon and a sanlock of its own, and one directory between them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.daemon import Daemon
from harness.sanlock import Sanlock, dump, hasten
from harness.until import until
from vdsm.client import Host
from vdsm.contract.errors import Problem
from vdsm.contract.errors_domains import SpmStatusError
from vdsm.contract.errors_storage import AcquireLockFailure, LeaseIndexUnusable
from vdsm.contract.events import PoolStatus
from vdsm.contract.lease import JobMetadata, JobStatus, LeaseMetadataType
from vdsm.contract.sdm import CopyDataDIVEndpoint, VolumeAttributes
from vdsm.contract.storage_pool import ConnectionRef, SpmRole, SpmStatus
from vdsm.contract.storage_words import (
    DiskContentType,
    StorageDomainType,
    VolumeAllocation,
    VolumeFormat,
)
from vdsm.core.ports.leases import Lease
from vdsm.drivers.sanlock import SanlockLeases

MIB = 1 << 20
IO_TIMEOUT = 1  # seconds: 10 in life
POOL, SD, IMAGE, BASE, OTHER = (str(uuid.uuid4()) for _ in range(5))


class Node:
    """One of the hosts."""

    def __init__(self, home: Path, prefix: str, uri: str, number: int, shared: Path) -> None:
        self.number = number
        self.shared = shared
        self.sanlock = Sanlock(home, f"host{number}")
        self.daemon = Daemon(home / f"daemon{number}", f"{prefix}{number}", uri=uri)
        words = f'local_leases = true\ndirectories = ["{shared}"]\n'
        text = self.daemon.file.read_text().replace(f'directories = ["{self.daemon.storage}"]\n', words)
        self.daemon.file.write_text(f'{text}[sanlock]\nrun_directory = "{self.sanlock.run}"\n')

    def start(self) -> None:
        self.daemon.start()

    def connect(self) -> None:
        """To the pool."""
        with self.daemon.connect() as host:
            self.connect_server(host)
            host.storage_pool.connect(POOL, self.number, "", SD, 1)

    def connect_server(self, host: Host) -> None:
        ref = ConnectionRef(id=POOL, connection=str(self.shared))
        (row,) = host.storage_pool.connect_storage_server(POOL, StorageDomainType.LOCALFS, [ref])
        assert row.status == 0

    def make_pool(self) -> None:
        with self.daemon.connect() as host:
            self.connect_server(host)
            host.storage_domain.create(SD, StorageDomainType.LOCALFS, str(self.shared), "shared")
            hasten(self.shared / SD / "dom_md/ids", SD)
            host.storage_pool.create(POOL, "dc", SD, 1, [SD], io_op_timeout_sec=IO_TIMEOUT)

    def take_charge(self) -> None:
        with self.daemon.connect() as host:
            host.storage_pool.spm_start(POOL)

    def status(self) -> SpmStatus:
        with self.daemon.connect() as host:
            return host.storage_pool.get_spm_status(POOL)

    def create_volume(self, volume: str, image: str = IMAGE) -> None:
        with self.daemon.connect() as host:
            host.volume.create(
                volume, POOL, SD, image, MIB, VolumeFormat.RAW, VolumeAllocation.SPARSE, DiskContentType.DATA, "d"
            )

    def dump(self) -> Any:
        with self.daemon.connect() as host:
            return host.storage_domain.dump(SD).volumes

    def sound(self) -> bool:
        with self.daemon.connect() as host:
            return host.storage.check(SD) == []

    def kill_holders(self) -> None:
        """The processes by which the daemon holds its leases."""
        listed = subprocess.run(
            ["ps", "-ww", "--ppid", str(self.daemon.process.pid), "-o", "pid=", "-o", "args="],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for line in listed.splitlines():
            if "vdsm.drivers.workers.leases" in line:
                os.kill(int(line.split()[0]), 9)

    def end(self) -> None:
        self.daemon.end()
        self.sanlock.kill()


@pytest.fixture
def nodes(open_path: Path, prefix: str, uri: str) -> Iterator[tuple[Node, Node]]:
    shared = open_path / "shared"
    shared.mkdir()
    one, two = Node(open_path, prefix, uri, 1, shared), Node(open_path, prefix, uri, 2, shared)
    yield one, two
    one.end()
    two.end()


def test_one_of_two_hosts_is_in_charge(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Node.start, nodes))
        one.make_pool()
        _sanlock_reads_it(one.shared / SD)
        list(pool.map(Node.connect, nodes))
        tried = list(pool.map(_try_to_take_charge, nodes))
    (winner, loser) = nodes if tried[0] is None else (two, one)
    refusal = tried[loser.number - 1]
    assert tried[winner.number - 1] is None, "both were refused"
    assert isinstance(refusal, AcquireLockFailure), refusal
    assert f"host {winner.number} is in charge" in str(refusal)
    assert winner.status() == SpmStatus(spm_status=SpmRole.SPM, spm_id=winner.number, spm_lver=1)
    assert loser.status() == SpmStatus(spm_status=SpmRole.FREE, spm_id=winner.number, spm_lver=1)

    winner.create_volume(BASE)
    before = loser.dump()
    assert set(before) == {BASE}
    with pytest.raises(SpmStatusError):
        loser.create_volume(OTHER, OTHER)
    assert loser.dump() == before
    (line,) = dump(one.shared / SD / f"images/{IMAGE}/{BASE}.lease").splitlines()[1:]
    assert line.split()[1:3] == [SD, BASE]

    _one_of_two_hosts_works_on_a_volume(winner, loser)
    _a_lease_of_a_job(winner)

    # The one in charge dies: its sanlock, which lives, frees what it held.
    winner.daemon.kill()
    until("nobody is in charge", lambda: loser.status().spm_id == -1)
    loser.take_charge()
    assert loser.status() == SpmStatus(spm_status=SpmRole.SPM, spm_id=loser.number, spm_lver=2)
    loser.create_volume(OTHER, OTHER)
    winner.start()
    until("it knows that it is not", lambda: winner.status().spm_status is SpmRole.FREE)
    assert winner.status() == SpmStatus(spm_status=SpmRole.FREE, spm_id=loser.number, spm_lver=2)
    with pytest.raises(SpmStatusError):
        winner.create_volume(str(uuid.uuid4()), str(uuid.uuid4()))
    assert set(winner.dump()) == {BASE, OTHER}

    # A daemon that dies with nobody taking over is in charge again.
    loser.daemon.kill()
    loser.start()
    until("it is in charge again", lambda: loser.status().spm_status is SpmRole.SPM)
    assert loser.status().spm_lver == 3
    assert loser.sound()

    # sanlock ends whoever holds a lease that is lost.
    loser.kill_holders()
    until("it knows", lambda: loser.status().spm_status is SpmRole.FREE)
    with pytest.raises(SpmStatusError):
        loser.create_volume(str(uuid.uuid4()), str(uuid.uuid4()))
    with loser.daemon.connect() as host:
        told = [record.data for record in host.event.list(types=["Pool_status"]).events]
        last = told[-1]
        assert isinstance(last, PoolStatus)
        assert "its lease was lost" in last.reason
        host.storage_pool.spm_start(POOL)
        host.storage_pool.spm_stop(POOL)
        host.storage_pool.disconnect(POOL, loser.number, "")
    assert loser.sound()


def _one_of_two_hosts_works_on_a_volume(worker: Node, other: Node) -> None:
    """The other host has its lease, by its own sanlock: the job is refused and nothing is changed."""
    held = Lease(lockspace=SD, name=BASE, path=str(other.shared / SD / f"images/{IMAGE}/{BASE}.lease"), offset=0)
    change = VolumeAttributes(description="changed")
    before = worker.dump()
    with worker.daemon.connect() as host:

        async def refused() -> None:
            leases = SanlockLeases(run_directory=str(other.sanlock.run))
            await leases.acquire(held, other.number)
            with pytest.raises(AcquireLockFailure):
                await asyncio.to_thread(update, str(uuid.uuid4()))
            await leases.release(held, other.number)
            await leases.close()

        def update(job: str) -> None:
            host.sdm.update_volume(job, CopyDataDIVEndpoint(sd_id=SD, img_id=IMAGE, vol_id=BASE), change)

        asyncio.run(refused())
        assert worker.dump() == before
        update(str(uuid.uuid4()))
    assert worker.dump()[BASE].description == "changed"


def _a_lease_of_a_job(node: Node) -> None:
    job = JobMetadata(type=LeaseMetadataType.JOB, job_status=JobStatus.PENDING, generation=0, job_id=OTHER)
    file = node.shared / SD / "dom_md/xleases"
    with node.daemon.connect() as host:
        host.lease.create(SD, OTHER, job)
        assert [line.split()[:3] for line in dump(file).splitlines()[2:]] == [["03145728", SD, OTHER]]
        assert host.lease.status(SD, OTHER).metadata == job
        host.lease.fence(SD, OTHER, job)
        found = host.lease.status(SD, OTHER)
        assert found.metadata is not None
        assert (found.owners, found.metadata.job_status, found.metadata.generation) == ([], JobStatus.FENCED, 1)
        with file.open("r+b") as index:
            index.seek(MIB)
            index.write(bytes(4096))
        with pytest.raises(LeaseIndexUnusable):
            host.lease.info(SD, OTHER)
        host.lease.rebuild_leases(SD)
        assert host.lease.info(SD, OTHER).offset == 3 * MIB
        host.lease.delete(SD, OTHER)
        assert len(dump(file).splitlines()) == 2


def _sanlock_reads_it(domain: Path) -> None:
    """sanlock's own word on what was written."""
    (line,) = dump(domain / "dom_md/leases").splitlines()[1:]
    assert line.split() == ["01048576", SD, "SDM", "0000000000", "0000", "0000", "0"]
    (line,) = dump(domain / "dom_md/xleases").splitlines()[1:]
    assert line.split()[:2] == ["02097152", SD]
    assert (domain / "dom_md/ids").stat().st_size == MIB


def _try_to_take_charge(node: Node) -> Problem | None:
    try:
        node.take_charge()
    except Problem as problem:
        return problem
    return None
