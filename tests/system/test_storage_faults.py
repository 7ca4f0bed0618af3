# SPDX-License-Identifier: Apache-2.0
"""Storage that fails, is full, may not be written to or hangs: a typed problem each, the domain as it was before, and
other domains as quick as ever."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from harness.daemon import Daemon
from harness.faulty_mount import HANG, FaultyMount
from harness.ports import free_port
from harness.storage_work import MASTER, Copying, Merging, Moving, Site, Work
from harness.until import BUSY, until
from vdsm.client import Host
from vdsm.contract.errors import InternalError, Problem
from vdsm.contract.errors_domains import StorageUnusable
from vdsm.contract.errors_storage import ImageVerificationError, NoSpaceLeftOnDomain, StorageBroken, StorageReadOnly
from vdsm.contract.sdm import CopyDataEndpoint
from vdsm.contract.storage import StorageSummary
from vdsm.contract.storage_words import DiskContentType, VolumeAllocation, VolumeFormat, VolumeLegality
from vdsm.contract.task import State

MIB = 1 << 20


@dataclass
class Place:
    """A domain, and what to be sure of: that nothing in it has changed."""

    daemon: Daemon
    host: Host
    made: StorageSummary

    def seen(self) -> object:
        tree = Path(self.made.path) / self.made.id
        names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
        volumes = {  # without what each takes: the file system knows that only later
            name: replace(row, truesize=0) for name, row in self.host.storage_domain.dump(self.made.id).volumes.items()
        }
        return names, volumes, self.host.storage.check(self.made.id)

    def new_volume(self, image_id: str, allocation: VolumeAllocation = VolumeAllocation.SPARSE) -> str:
        kind = VolumeFormat.COW if allocation is VolumeAllocation.SPARSE else VolumeFormat.RAW
        self.host.volume.create(
            volume_id := str(uuid.uuid4()), self.made.pool, self.made.id, image_id, 32 * MIB, kind, allocation,
            DiskContentType.DATA, "",
        )  # fmt: skip
        return volume_id

    def delete(self, image_id: str) -> None:
        self.host.image.delete(image_id, self.made.pool, self.made.id)


@pytest.fixture
def watched() -> float:
    """Seconds between two looks at a domain: here none but the first, which is no part of what is counted."""
    return 3600


@pytest.fixture
def host(daemon: Daemon, watched: float) -> Iterator[Host]:
    daemon.configure(f"[transfers]\nport = {free_port()}\n", storage=f"monitor_interval_s = {watched}")
    daemon.start()
    with daemon.connect() as host:
        yield host


@pytest.fixture
def good(daemon: Daemon, host: Host) -> Place:
    return Place(daemon, host, host.storage.init(f"{daemon.storage}/good"))


@pytest.fixture
def mount(daemon: Daemon) -> Iterator[FaultyMount]:
    """At the directory `bad` of the storage."""
    directory, below = daemon.storage / "bad", daemon.home / "below"
    for path in (directory, below):
        path.mkdir(parents=True)
        path.chmod(0o755)
    made = FaultyMount(directory, below)
    yield made
    daemon.end()
    made.mend()


@pytest.fixture
def bad(daemon: Daemon, mount: FaultyMount, host: Host) -> Place:
    return Place(daemon, host, host.storage.init(f"{daemon.storage}/bad"))


@pytest.fixture
def small(daemon: Daemon) -> Iterator[Path]:
    """A real file system of 80 MiB, at the directory `small` of the storage."""
    directory, device = daemon.storage / "small", daemon.home / "small.img"
    directory.mkdir(parents=True)
    with device.open("wb") as file:
        file.truncate(80 * MIB)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-m", "0", "-O", "^has_journal", device], check=True)
    subprocess.run(["mount", "-o", "loop", device, directory], check=True)
    yield directory
    daemon.end()
    subprocess.run(["umount", directory], check=True)


def problem_of(call: Callable[[], object]) -> Problem | None:
    """What it ended with; never what says that vdsm has a defect."""
    try:
        call()
    except InternalError as defect:
        raise AssertionError(defect) from None
    except Problem as problem:
        return problem
    return None


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "first"), [(errno.EIO, 0), (errno.ENOSPC, 10)])
def test_whichever_request_fails_a_volume_is_there_or_not(
    bad: Place, mount: FaultyMount, error: int, first: int
) -> None:
    """Making a volume and removing it, with one request to the file system failing: every twentieth of them, and each
    with VDSM_TEST_EVERY=1."""
    before, every = bad.seen(), int(os.environ.get("VDSM_TEST_EVERY", "20"))
    for skip in itertools.count(first % every, every):
        image_id = str(uuid.uuid4())
        with mount.failing(error, skip=skip, times=1) as fault:
            problem_of(partial(bad.new_volume, image_id))
            problem_of(partial(bad.delete, image_id))
        if bad.seen() != before:
            bad.delete(image_id)  # which the fault had kept from being done
        assert bad.seen() == before, f"request {skip}"
        assert all(task.state in (State.DONE, State.FAILED) for task in bad.host.task.list())
        if fault.met <= skip:
            break
    assert skip > 100


@pytest.mark.parametrize("kind", [Copying, Merging, Moving])
def test_whichever_request_fails_what_is_under_way_can_be_ended(daemon: Daemon, kind: type[Work]) -> None:
    """Every 701st request of a copy, a merge or a move; VDSM_TEST_EVERY for others."""
    below, every = daemon.home / "below", int(os.environ.get("VDSM_TEST_EVERY", "701"))
    for path in (daemon.storage, below):
        path.mkdir()
        path.chmod(0o755)
    mount = FaultyMount(daemon.storage, below)
    try:
        daemon.configure(storage="monitor_interval_s = 3600")
        daemon.start()
        with daemon.connect() as host:
            site = Site(daemon)
            site.build(host)
            MASTER.build(site, host)
            work = kind(site, 3)
            work.may_fail = True
            work.build(host)
            for skip in itertools.count(0, every):
                with mount.failing(errno.EIO, skip=skip, times=1) as fault:
                    problem_of(partial(work.step, host))
                work.settle(host)
                assert site.strays() == [], f"request {skip}"
                assert [host.storage.check(domain) for domain in site.domains] == [[], []], f"request {skip}"
                if fault.met <= skip:
                    break
        assert skip > 500
    finally:
        daemon.end()
        mount.mend()


def test_storage_that_fails_for_longer(bad: Place, good: Place, mount: FaultyMount) -> None:
    """Every verb says so; what was begun before is undone when it works again."""
    image_id = str(uuid.uuid4())
    volume_id = bad.new_volume(image_id)
    before, others = bad.seen(), good.seen()
    where = (volume_id, bad.made.pool, bad.made.id, image_id)
    reads: list[Callable[[], object]] = [
        lambda: bad.host.storage_domain.dump(bad.made.id),
        lambda: bad.host.storage_domain.get_stats(bad.made.id),
        lambda: bad.host.storage_domain.get_volumes(bad.made.id),
        lambda: bad.host.storage_domain.validate(bad.made.id),
        lambda: bad.host.volume.get_info(*where),
        lambda: bad.host.volume.get_qemu_image_info(*where),
        lambda: bad.host.disk.get_info(image_id),
        lambda: bad.host.image.get_volumes(image_id, bad.made.pool, bad.made.id),
    ]
    with mount.failing(errno.EIO):
        for read in reads:
            assert isinstance(problem_of(read), StorageBroken | StorageUnusable | ImageVerificationError)
        assert good.seen() == others
    with mount.failing(errno.EIO, "write", "fsync", "create", "mkdir", "rename2", "unlink"):
        assert isinstance(problem_of(lambda: bad.new_volume(str(uuid.uuid4()))), StorageBroken)
        assert isinstance(problem_of(lambda: bad.delete(image_id)), StorageBroken)
        assert good.seen() == others
    bad.host.storage_domain.validate(bad.made.id)
    assert bad.seen() == before


# ---- full, and read-only ---------------------------------------------------------------------------------------------


def test_a_full_file_system(daemon: Daemon, small: Path, good: Place) -> None:
    """A volume of more than there is, one that grows too far, a copy and an upload that do not fit."""
    host = good.host
    place = Place(daemon, host, host.storage.init(str(small)))
    base = str(uuid.uuid4())
    volume_id = place.new_volume(base, VolumeAllocation.PREALLOCATED)
    source = str(uuid.uuid4())
    source_volume = good.new_volume(source, VolumeAllocation.PREALLOCATED)
    path = Path(good.made.path) / good.made.id / "images" / source / source_volume
    path.write_bytes(os.urandom(32 * MIB))
    target = str(uuid.uuid4())
    target_volume = place.new_volume(target)
    filler = small / "filler"
    filler.write_bytes(bytes(20 * MIB))
    before = place.seen()

    assert isinstance(
        problem_of(lambda: place.new_volume(str(uuid.uuid4()), VolumeAllocation.PREALLOCATED)), NoSpaceLeftOnDomain
    )
    assert place.seen() == before
    grow = (place.made.pool, place.made.id, base, volume_id, 200 * MIB)
    assert isinstance(problem_of(lambda: host.volume.extend_size(*grow)), NoSpaceLeftOnDomain)
    assert place.seen() == before

    def copy() -> None:
        host.sdm.copy_data(
            str(uuid.uuid4()),
            CopyDataEndpoint(sd_id=good.made.id, img_id=source, vol_id=source_volume),
            CopyDataEndpoint(sd_id=place.made.id, img_id=target, vol_id=target_volume),
        )

    assert isinstance(problem_of(copy), NoSpaceLeftOnDomain)
    cut = host.volume.get_info(target_volume, place.made.pool, place.made.id, target)
    assert cut.legality is VolumeLegality.ILLEGAL, "nobody takes it for a copy"
    assert [finding.where for finding in host.storage.check(place.made.id)] == [f"images/{target}/{target_volume}"]

    big = daemon.home / "big.raw"
    big.write_bytes(os.urandom(60 * MIB))
    refused = daemon.shell("disk", "upload", str(big), "--storage", "small", ok=False)
    assert refused.returncode != 0
    assert "space" in refused.stderr
    assert daemon.json("disk", "info", "big")["status"] == "ILLEGAL"
    daemon.shell("disk", "delete", "big")

    filler.unlink()
    copy()
    assert host.storage.check(place.made.id) == []
    copied = small / place.made.id / "images" / target / target_volume
    subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", path, copied], check=True)


def test_a_read_only_file_system(daemon: Daemon, small: Path, host: Host) -> None:
    place = Place(daemon, host, host.storage.init(str(small)))
    image_id = str(uuid.uuid4())
    volume_id = place.new_volume(image_id)
    before = place.seen()
    where = (volume_id, place.made.pool, place.made.id, image_id)
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    try:
        changes: list[Callable[[], object]] = [
            lambda: place.new_volume(str(uuid.uuid4())),
            lambda: place.new_volume(str(uuid.uuid4()), VolumeAllocation.PREALLOCATED),
            lambda: host.volume.set_description(*where, "other"),
            lambda: host.volume.extend_size(where[1], where[2], where[3], where[0], 64 * MIB),
            lambda: place.delete(image_id),
        ]
        for change in changes:
            assert isinstance(problem_of(change), StorageReadOnly)
            assert place.seen() == before
    finally:
        subprocess.run(["mount", "-o", "remount,rw", small], check=True)
    place.delete(image_id)


# ---- hung ------------------------------------------------------------------------------------------------------------


def _worst(calls: dict[str, Callable[[], object]], rounds: int = 12) -> dict[str, float]:
    """The longest each took."""
    worst = dict.fromkeys(calls, 0.0)
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.monotonic()
            call()
            worst[name] = max(worst[name], time.monotonic() - began)
    return worst


@pytest.mark.parametrize("watched", [0.5])
def test_one_that_hangs_costs_only_its_own(daemon: Daemon, bad: Place, good: Place, mount: FaultyMount) -> None:
    bad.new_volume(stays := str(uuid.uuid4()))
    before, others = bad.seen(), good.seen()

    def make_and_remove() -> None:
        good.new_volume(image_id := str(uuid.uuid4()))
        good.delete(image_id)

    calls: dict[str, Callable[[], object]] = {
        "make and remove a volume": make_and_remove,
        "getVolumes": lambda: good.host.storage_domain.get_volumes(good.made.id),
        "dump": lambda: good.host.storage_domain.dump(good.made.id),
        "check": lambda: good.host.storage.check(good.made.id),
        "list of storage": good.host.storage.list,
        "list of disks": good.host.disk.list,
        "getStats of the host": good.host.host.get_stats,
    }
    well = _worst(calls)
    over = threading.Event()

    def press() -> None:
        """What the hanging domain is asked all the while."""
        with daemon.connect() as host:
            quick = host.options(deadline=0.3)
            while not over.is_set():
                for call in (
                    lambda: quick.storage_domain.dump(bad.made.id),
                    lambda: quick.image.delete(stays, bad.made.pool, bad.made.id),
                    lambda: quick.storage_domain.get_stats(bad.made.id),
                ):
                    assert problem_of(call) is not None

    with mount.failing(HANG), ThreadPoolExecutor(3) as pool:
        pressing = [pool.submit(press) for _ in range(3)]
        until("it is known to hang", lambda: "unusable" in {row.state for row in good.host.storage.list()})
        sick = _worst(calls)
        over.set()
        for one in pressing:
            one.result()
    assert {name: worst for name, worst in sick.items() if worst > 5 * well[name] + 0.3 * BUSY} == {}, well
    assert good.seen() == others
    until("it is used again", lambda: {row.state for row in good.host.storage.list()} == {"active"})
    until("nothing is under way", lambda: all(task.state.ended for task in good.host.task.list()))
    if stays in bad.host.storage_domain.get_images(bad.made.id):
        assert bad.seen() == before
    else:
        assert bad.host.storage.check(bad.made.id) == []
