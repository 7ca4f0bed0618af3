# SPDX-License-Identifier: Apache-2.0
"""Leases: one suite for Debian's sanlock and for its simulated twin, two hosts each; who loses one is told."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from harness.sanlock import Sanlock, dump
from harness.until import BUSY
from vdsm.contract.errors import InvalidParams
from vdsm.contract.errors_storage import (
    AcquireHostIdFailure,
    AcquireLockFailure,
    ClusterLockInitError,
    LockManagerUnavailable,
    ReleaseHostIdFailure,
    SanlockInquireError,
    SanlockLVBError,
)
from vdsm.core.ports.files import FileKind
from vdsm.core.ports.leases import Lease, Leases, Lockspace
from vdsm.core.storage.format import lease_areas
from vdsm.drivers.sanlock import SanlockLeases
from vdsm.drivers.simulated.leases import Board, SimulatedLeases
from vdsm.drivers.simulated.tree import Node, Tree

MiB = 1 << 20
TIMEOUT = 1  # seconds that sanlock gives the storage: 10 in life


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sanlock, Sanlock]]:
    home = tmp_path_factory.mktemp("sanlock")
    one, two = Sanlock(home, "one"), Sanlock(home, "two")
    yield one, two
    one.kill()
    two.kill()


class Lab:
    """Two hosts at one storage; a formatted lockspace and a formatted lease."""

    def __init__(self, one: Leases, two: Leases, directory: Path, tree: Tree | None = None) -> None:
        self.one = one
        self.two = two
        self.tree = tree
        name = directory.name[-40:]
        self.space = Lockspace(name=name, path=str(directory / "ids"))
        self.lease = Lease(lockspace=name, name="SDM", path=str(directory / "leases"), offset=MiB)
        for path in (self.space.path, self.lease.path):
            if tree is None:
                Path(path).touch()
            else:
                tree.directory(str(directory))
                tree.add(path, Node(kind=FileKind.FILE, mode=0o660))

    def read(self, path: str, offset: int, length: int = 512) -> bytes:
        """What lies in a file."""
        data = bytes(self.tree.nodes[path].data) if self.tree is not None else Path(path).read_bytes()
        return data[offset : offset + length]

    async def prepare(self) -> None:
        await self.one.format_lockspace(self.space, io_timeout=TIMEOUT)
        await self.one.format_lease(self.lease)

    async def join_both(self) -> None:
        await asyncio.gather(
            self.one.join(self.space, 1, io_timeout=TIMEOUT), self.two.join(self.space, 2, io_timeout=TIMEOUT)
        )

    async def end(self) -> None:
        for leases, host_id in ((self.one, 1), (self.two, 2)):
            for _, name in await leases.held():
                assert name == self.lease.name
                await leases.release(self.lease, host_id)
            await leases.leave(self.space, host_id)
            await leases.close()


@pytest.fixture(params=["sanlock", "simulated"])
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    one: Leases
    two: Leases
    tree: Tree | None = None
    if request.param == "sanlock":
        daemons: tuple[Sanlock, Sanlock] = request.getfixturevalue("daemons")
        one, two = (SanlockLeases(run_directory=str(daemon.run)) for daemon in daemons)
    else:
        board, tree = Board(), Tree()
        one, two = SimulatedLeases(board, tree=tree), SimulatedLeases(board, tree=tree)
    made = Lab(one, two, tmp_path, tree)
    await made.prepare()
    yield made
    await made.end()


async def test_a_lease_has_one_holder(lab: Lab) -> None:
    await lab.join_both()
    assert await lab.one.joined(lab.space, 1)
    await lab.one.join(lab.space, 1, io_timeout=TIMEOUT)
    free = await lab.one.state(lab.lease)
    assert (free.version, free.owners) == (0, [])

    for _ in range(2):
        await lab.one.acquire(lab.lease, 1)
    assert await lab.one.held() == [(lab.lease.lockspace, "SDM")]
    for leases in (lab.one, lab.two):
        assert (await leases.state(lab.lease)).owners == [1]
    with pytest.raises(AcquireLockFailure, match="SDM"):
        await lab.two.acquire(lab.lease, 2)
    assert await lab.two.held() == []
    with pytest.raises(ReleaseHostIdFailure):
        await lab.one.leave(lab.space, 1)

    for _ in range(2):
        await lab.one.release(lab.lease, 1)
    await lab.two.acquire(lab.lease, 2)
    taken = await lab.one.state(lab.lease)
    assert (taken.version, taken.owners) == (2, [2])


async def test_what_lies_on_the_storage_is_told_by_the_core(lab: Lab) -> None:
    """`lease_areas` reads sanlock's records, and its twin writes them alike."""
    await lab.join_both()
    space, place, name = lab.space, lab.lease, lab.space.name
    free = lease_areas.lease(lab.read(place.path, place.offset))
    assert free is not None
    assert (free.lockspace, free.resource, free.version, free.time) == (name, "SDM", 0, 0)
    second = lease_areas.host_id(lab.read(space.path, 512))
    assert second is not None
    assert (second.lockspace, second.owner, second.time > 0, second.io_timeout >= 0) == (name, 2, True, True)
    assert lease_areas.lease(lab.read(place.path, 0)) is None

    await lab.one.acquire(lab.lease, 1, with_value=True)
    await lab.one.write_value(lab.lease, b'{"a":1}'.ljust(512, b"\0"))
    await lab.one.release(lab.lease, 1)
    taken = lease_areas.lease(lab.read(place.path, place.offset))
    assert taken is not None
    assert (taken.version, taken.time) == (1, 0)
    value = place.offset + (lease_areas.value_offset(place.alignment, place.sector) or 0)
    assert lab.read(place.path, value).rstrip(b"\0") == b'{"a":1}'
    with pytest.raises(SanlockLVBError):
        await lab.one.write_value(lab.lease, b"x")

    await lab.one.clear_lease(lab.lease)
    assert lease_areas.lease(lab.read(place.path, place.offset)) is None
    with pytest.raises(SanlockInquireError):
        await lab.one.state(lab.lease)


async def test_a_host_id_is_taken_and_left(lab: Lab) -> None:
    await lab.one.join(lab.space, 1, io_timeout=TIMEOUT)
    assert not await lab.two.joined(lab.space, 1)
    for _ in range(2):
        await lab.one.leave(lab.space, 1)
    assert not await lab.one.joined(lab.space, 1)


async def test_a_host_id_has_one_holder(tmp_path: Path) -> None:
    """The simulated twin alone: sanlock takes more than a minute to be sure."""
    board = Board()
    lab = Lab(SimulatedLeases(board), SimulatedLeases(board), tmp_path)
    await lab.prepare()
    await lab.one.join(lab.space, 1)
    with pytest.raises(AcquireHostIdFailure, match="host id 1"):
        await lab.two.join(lab.space, 1)
    await lab.end()


async def test_without_a_host_id_nothing_is_taken(lab: Lab) -> None:
    with pytest.raises(AcquireLockFailure):
        await lab.one.acquire(lab.lease, 1)


async def test_what_is_not_there(lab: Lab) -> None:
    absent = Lease(lockspace=lab.space.name, name="other", path=lab.lease.path, offset=lab.lease.offset)
    with pytest.raises(SanlockInquireError, match="other"):
        await lab.one.state(absent)
    nowhere = Lockspace(name="nowhere", path=f"{lab.space.path}-absent")
    with pytest.raises(AcquireHostIdFailure, match="nowhere"):
        await lab.one.join(nowhere, 1, io_timeout=TIMEOUT)


# ---- sanlock itself --------------------------------------------------------------------------------------------------


@pytest.fixture
async def real(daemons: tuple[Sanlock, Sanlock], tmp_path: Path) -> AsyncIterator[Lab]:
    one, two = (SanlockLeases(run_directory=str(daemon.run)) for daemon in daemons)
    made = Lab(one, two, tmp_path)
    await made.prepare()
    yield made
    await made.end()


def workers() -> list[int]:
    """The processes that hold leases."""
    said = subprocess.run(
        ["ps", "-ww", "--ppid", str(os.getpid()), "-o", "pid=", "-o", "args="],
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(line.split()[0]) for line in said.stdout.splitlines() if "vdsm.drivers.workers.leases" in line]


async def test_sanlock_reads_what_is_written(real: Lab) -> None:
    """The layout of existing hosts: the lockspace in `ids`, SDM one alignment into `leases`."""
    await real.one.join(real.space, 1, io_timeout=TIMEOUT)
    await real.one.acquire(real.lease, 1)
    (head, lease) = dump(Path(real.lease.path)).splitlines()
    assert head.split() == ["offset", "lockspace", "resource", "timestamp", "own", "gen", "lver"]
    fields = lease.split()
    assert fields[:3] == ["01048576", real.space.name, "SDM"]
    assert fields[4:] == ["0001", "0001", "1"]
    assert "one" in dump(Path(real.space.path))


async def test_whoever_holds_one_and_dies_has_let_it_go(real: Lab) -> None:
    """The worker process holds it; it ends, by whatever hand, and the daemon is told at once."""
    lost: list[Lease] = []
    real.one.watch(lost.extend)
    await real.join_both()
    await real.one.acquire(real.lease, 1)
    for pid in workers():
        os.kill(pid, 9)
    end = time.monotonic() + 10 * BUSY
    while not lost:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
    assert lost == [real.lease]
    assert await real.one.held() == []
    while (await real.two.state(real.lease)).owners:
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
    await real.two.acquire(real.lease, 2)


async def test_what_is_lost_in_one_lockspace_is_lost_there_alone(
    daemons: tuple[Sanlock, Sanlock], tmp_path: Path
) -> None:
    leases = SanlockLeases(run_directory=str(daemons[0].run))
    lost: list[Lease] = []
    leases.watch(lost.extend)
    labs = []
    for name in ("a", "b"):
        (tmp_path / f"{tmp_path.name}-{name}").mkdir()
        labs.append(Lab(leases, leases, tmp_path / f"{tmp_path.name}-{name}"))
        await labs[-1].prepare()
    (writing,) = workers()
    await asyncio.gather(*(leases.join(lab.space, 1, io_timeout=TIMEOUT) for lab in labs))
    for lab in labs:
        await leases.acquire(lab.lease, 1)
    os.kill(next(pid for pid in workers() if pid != writing), 9)
    end = time.monotonic() + 10 * BUSY
    while not lost:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
    (gone,) = lost
    (kept,) = (lab.lease for lab in labs if lab.lease != gone)
    assert await leases.held() == [(kept.lockspace, kept.name)]
    await leases.release(kept, 1)
    for lab in labs:
        await leases.leave(lab.space, 1)
    assert workers() == [writing]
    await leases.close()
    assert workers() == []


async def test_a_host_id_that_another_overwrites_is_lost_with_its_leases(tmp_path: Path) -> None:
    """sanlock finds it out when it renews, and ends whoever holds a lease there."""
    daemon = Sanlock(tmp_path / "run", "robbed")
    leases = SanlockLeases(run_directory=str(daemon.run))
    lost: list[Lease] = []
    leases.watch(lost.extend)
    lab = Lab(leases, leases, tmp_path)
    await lab.prepare()
    await leases.join(lab.space, 1, io_timeout=TIMEOUT)
    await leases.acquire(lab.lease, 1)
    with Path(lab.space.path).open("r+b") as ids:
        ids.write(bytes(512))
    end = time.monotonic() + 20 * BUSY
    while not lost:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
    assert lost == [lab.lease]
    while await leases.joined(lab.space, 1):
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
    await leases.close()
    daemon.kill()


async def test_a_sanlock_that_dies(tmp_path: Path) -> None:
    daemon = Sanlock(tmp_path / "run", "mortal")
    leases = SanlockLeases(run_directory=str(daemon.run))
    lost: list[Lease] = []
    leases.watch(lost.extend)
    lab = Lab(leases, leases, tmp_path)
    await lab.prepare()
    await leases.join(lab.space, 1, io_timeout=TIMEOUT)
    await leases.acquire(lab.lease, 1)
    daemon.kill()
    end = time.monotonic() + 10 * BUSY
    while not lost:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
    with pytest.raises(LockManagerUnavailable):
        await leases.joined(lab.space, 1)
    await leases.close()


async def test_no_sanlock(tmp_path: Path) -> None:
    """Leases are written all the same, and are no different for it."""
    leases = SanlockLeases(run_directory=str(tmp_path))
    directory = tmp_path / "srv:_a__b\\c" / "space"  # as mounted storage is named
    directory.mkdir(parents=True)
    lab = Lab(leases, leases, directory)
    await lab.prepare()
    written = lease_areas.lease(lab.read(lab.lease.path, MiB))
    assert written is not None
    assert (written.lockspace, written.resource) == (lab.space.name, "SDM")
    written = lease_areas.host_id(lab.read(lab.space.path, 0))
    assert written is not None
    assert (written.lockspace, written.io_timeout) == (lab.space.name, TIMEOUT)
    for call in (leases.clear_lease(lab.lease), leases.join(lab.space, 1), leases.acquire(lab.lease, 1)):
        with pytest.raises(LockManagerUnavailable, match="daemon does not run"):
            await call
    await leases.close()


async def test_files_and_names_that_do_not_serve(real: Lab) -> None:
    absent = Lease(lockspace="x", name="y", path=f"{real.lease.path}-absent", offset=0)
    with pytest.raises(ClusterLockInitError, match="No such file"):
        await real.one.format_lease(absent)
    for name in ("", "n" * 49, "a\nb", "ü", "a:b", "a\\b"):
        with pytest.raises(InvalidParams, match="name"):
            await real.one.state(Lease(lockspace=real.space.name, name=name, path=real.lease.path, offset=0))
