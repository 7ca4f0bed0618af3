# SPDX-License-Identifier: Apache-2.0
"""Files below a root: one suite for the real ones and for those in memory."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.faulty_mount import FaultyMount
from harness.hung_mount import HungMount
from harness.until import BUSY, until
from vdsm.contract.errors import DeadlineExceeded
from vdsm.contract.errors_storage import (
    FileExists,
    FileMissing,
    NoSpaceLeftOnDomain,
    PathEscapes,
    StorageBroken,
    StorageReadOnly,
)
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.ports.deadline import within
from vdsm.core.ports.disks import Image
from vdsm.core.ports.files import Extent, FileKind, Files
from vdsm.drivers.filesystem import LinuxFiles
from vdsm.drivers.qemu import QemuDisks
from vdsm.drivers.simulated.files import SimulatedFiles

MiB = 1 << 20


class Lab:
    """The driver and an empty root."""

    def __init__(self, files: Files, root: str) -> None:
        self.files = files
        self.root = root


@pytest.fixture(params=["linux", "simulated"])
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    if request.param == "linux":
        files: Files = LinuxFiles()
        made = Lab(files, str(tmp_path))
    else:
        simulated = SimulatedFiles()
        simulated.tree.directory("/domain")
        made = Lab(simulated, "/domain")
    yield made
    await made.files.close()


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[Lab]:
    made = Lab(LinuxFiles(), str(tmp_path))
    yield made
    await made.files.close()


# ---- what is written is there ----------------------------------------------------------------------------------------


async def test_a_new_file(lab: Lab) -> None:
    await lab.files.create(lab.root, "metadata", b"text", size=MiB)
    assert await lab.files.read(lab.root, "metadata") == b"text" + bytes(MiB - 4)
    found = await lab.files.status(lab.root, "metadata")
    assert (found.kind, found.size, found.mode, found.links) == (FileKind.FILE, MiB, 0o660, 1)
    assert found.allocated < MiB
    with pytest.raises(FileExists, match="metadata"):
        await lab.files.create(lab.root, "metadata", b"other")
    assert (await lab.files.read(lab.root, "metadata"))[:4] == b"text"


async def test_replace(lab: Lab) -> None:
    await lab.files.replace(lab.root, "metadata", b"first")
    await lab.files.replace(lab.root, "metadata", b"2nd", mode=0o640)
    assert await lab.files.read(lab.root, "metadata") == b"2nd"
    assert (await lab.files.status(lab.root, "metadata")).mode == 0o640
    assert await lab.files.names(lab.root) == ["metadata"]


async def test_parts(lab: Lab) -> None:
    await lab.files.create(lab.root, "xleases", size=10_000)
    await lab.files.write_at(lab.root, "xleases", 4095, b"over the edge")
    assert await lab.files.read_at(lab.root, "xleases", 4090, 20) == bytes(5) + b"over the edge" + bytes(2)
    assert await lab.files.read_at(lab.root, "xleases", 9_990, 100) == bytes(10)
    await lab.files.resize(lab.root, "xleases", 4099)
    assert await lab.files.read_at(lab.root, "xleases", 4094, 100) == b"\0over"
    await lab.files.resize(lab.root, "xleases", 5000)
    assert await lab.files.read_at(lab.root, "xleases", 4094, 8) == b"\0over\0\0\0"


async def test_directories(lab: Lab) -> None:
    await lab.files.make_directory(lab.root, "images/one")
    await lab.files.make_directory(lab.root, "images/one")
    await lab.files.create(lab.root, "images/one/b")
    await lab.files.create(lab.root, "images/one/a")
    assert await lab.files.names(lab.root, "images/one") == ["a", "b"]
    assert (await lab.files.status(lab.root, "images")).kind is FileKind.DIRECTORY
    assert (await lab.files.status(lab.root)).kind is FileKind.DIRECTORY
    assert await lab.files.remove(lab.root, "images")
    assert not await lab.files.remove(lab.root, "images")
    assert await lab.files.names(lab.root) == []
    await lab.files.create(lab.root, "file")
    with pytest.raises(StorageBroken):
        await lab.files.make_directory(lab.root, "file/below")


async def test_a_whole_domains_metadata_in_one_call(lab: Lab) -> None:
    for image in "abc":
        await lab.files.make_directory(lab.root, f"images/{image}")
        await lab.files.create(lab.root, f"images/{image}/vol", b"guest", size=MiB)
        await lab.files.create(lab.root, f"images/{image}/vol.meta", f"of {image}".encode())
    await lab.files.create(lab.root, "images/stray.meta", b"no")
    found = await lab.files.read_all(lab.root, "images", ".meta")
    assert found == {f"images/{image}/vol.meta": f"of {image}".encode() for image in "abc"}


async def test_where_a_file_has_data(lab: Lab) -> None:
    await lab.files.create(lab.root, "hole", size=4 * MiB)
    await lab.files.create(lab.root, "begins", bytes([1]) * MiB, size=4 * MiB)
    assert list(await lab.files.extents(lab.root, "hole")) == []
    assert list(await lab.files.extents(lab.root, "begins")) == [Extent(0, MiB)]
    with pytest.raises(FileMissing):
        await lab.files.extents(lab.root, "none")


async def test_many_files_at_a_glance(lab: Lab) -> None:
    await lab.files.make_directory(lab.root, "a")
    await lab.files.create(lab.root, "a/x", b"1")
    here, directory, missing, nowhere = await lab.files.statuses(lab.root, ["a/x", "a", "a/y", "b/x"])
    assert (here, directory) == (await lab.files.status(lab.root, "a/x"), await lab.files.status(lab.root, "a"))
    assert (missing, nowhere) == (None, None)
    assert list(await lab.files.statuses(lab.root, [])) == []
    with pytest.raises(PathEscapes):
        await lab.files.statuses(lab.root, ["a/x", "../x"])


async def test_more_pieces_than_asked_for_count_as_one(real: Lab) -> None:
    await real.files.create(real.root, "pieces", size=8 * MiB)
    for number in range(4):
        await real.files.write_at(real.root, "pieces", 2 * number * MiB, bytes([1]) * MiB)
    four = [Extent(2 * number * MiB, MiB) for number in range(4)]
    assert list(await real.files.extents(real.root, "pieces", most=5)) == four
    assert list(await real.files.extents(real.root, "pieces", most=2)) == [four[0], Extent(2 * MiB, 6 * MiB)]


async def test_rename_and_second_names(lab: Lab) -> None:
    await lab.files.make_directory(lab.root, "a")
    await lab.files.create(lab.root, "a/x", b"1")
    await lab.files.rename(lab.root, "a", "b")
    await lab.files.link(lab.root, "b/x", "y")
    assert await lab.files.read(lab.root, "y") == b"1"
    one, two = await lab.files.status(lab.root, "y"), await lab.files.status(lab.root, "b/x")
    assert (one.inode, one.links) == (two.inode, 2)
    with pytest.raises(FileExists):
        await lab.files.rename(lab.root, "y", "b/x")
    with pytest.raises(FileExists):
        await lab.files.link(lab.root, "y", "b/x")
    with pytest.raises(FileMissing):
        await lab.files.rename(lab.root, "no", "c")
    await lab.files.remove(lab.root, "b")
    assert await lab.files.read(lab.root, "y") == b"1"


async def test_links_of_ours(lab: Lab) -> None:
    await lab.files.make_symlink(lab.root, "sd", "/elsewhere")
    await lab.files.make_symlink(lab.root, "sd", "/somewhere")
    assert await lab.files.read_symlink(lab.root, "sd") == "/somewhere"
    assert (await lab.files.status(lab.root, "sd")).kind is FileKind.LINK
    assert await lab.files.remove(lab.root, "sd")
    with pytest.raises(FileMissing):
        await lab.files.read_symlink(lab.root, "sd")


async def test_a_place_is_named_without_links(lab: Lab) -> None:
    await lab.files.make_symlink(lab.root, "way", f"{lab.root}/images")
    assert await lab.files.real_path(f"{lab.root}/way") == f"{lab.root}/images"
    assert await lab.files.real_path(f"{lab.root}/images/../none") == f"{lab.root}/none"
    for place in ("way", "images/../none"):
        await lab.files.release(f"{lab.root}/{place}")


async def test_space_probe_and_block_size(lab: Lab) -> None:
    space = await lab.files.space(lab.root)
    assert 0 < space.available <= space.total
    assert not space.read_only
    await lab.files.create(lab.root, "metadata", b"x" * 600)
    assert 0 <= await lab.files.probe(lab.root, "metadata") < 5 * BUSY
    assert await lab.files.block_size(lab.root) in (1, 512, 4096)
    assert await lab.files.names(lab.root) == ["metadata"]


async def test_what_is_not_there(lab: Lab) -> None:
    for call in (
        lab.files.read(lab.root, "no"),
        lab.files.write_at(lab.root, "no", 0, b"x"),
        lab.files.create(lab.root, "no/file"),
        lab.files.names(lab.root, "no"),
        lab.files.probe(lab.root, "no"),
        lab.files.space(f"{lab.root}/no"),
        lab.files.read_all(lab.root, "no", ".meta"),
    ):
        with pytest.raises(FileMissing, match="no"):
            await call


async def test_a_file_that_is_too_long(lab: Lab) -> None:
    await lab.files.create(lab.root, "metadata", size=5000)
    with pytest.raises(StorageBroken, match="large"):
        await lab.files.read(lab.root, "metadata", most=4096)


# ---- nothing leads out of the root -----------------------------------------------------------------------------------

OUT = ["/etc/passwd", "..", "a/../../b", "a//b", "./a", "a/", "a\0b", "n" * 256, "\udcff/../x"]


@pytest.mark.parametrize("path", OUT)
async def test_names_that_lead_out(lab: Lab, path: str) -> None:
    with pytest.raises(PathEscapes):
        await lab.files.read(lab.root, path)
    with pytest.raises(PathEscapes):
        await lab.files.rename(lab.root, "a", path)
    with pytest.raises(PathEscapes):
        await lab.files.rename(lab.root, path, "a")


async def test_links_are_not_followed(lab: Lab) -> None:
    await lab.files.make_symlink(lab.root, "out", "/etc")
    await lab.files.make_symlink(lab.root, "file", "/etc/hostname")
    for call in (
        lab.files.read(lab.root, "file"),
        lab.files.read(lab.root, "out/hostname"),
        lab.files.write_at(lab.root, "file", 0, b"x"),
        lab.files.create(lab.root, "out/vdsmtest"),
        lab.files.make_directory(lab.root, "out/vdsmtest"),
        lab.files.names(lab.root, "out"),
        lab.files.remove(lab.root, "out/hostname"),
        lab.files.rename(lab.root, "out/hostname", "mine"),
        lab.files.probe(lab.root, "file"),
        lab.files.resize(lab.root, "file", 0),
    ):
        with pytest.raises(PathEscapes):
            await call
    assert await lab.files.remove(lab.root, "out")
    assert Path("/etc/hostname").exists()


async def test_replace_replaces_the_link_not_what_it_means(real: Lab, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "sd").mkdir()
    root = str(tmp_path / "sd")
    (tmp_path / "sd/metadata").symlink_to("../victim")
    (tmp_path / "sd/metadata.new").symlink_to("../victim")
    await real.files.replace(root, "metadata", b"new")
    assert (tmp_path / "victim").read_text() == "untouched"
    assert await real.files.read(root, "metadata") == b"new"


async def test_a_directory_swapped_for_a_link_during_the_call(real: Lab, tmp_path: Path) -> None:
    """Whatever moment the swap happens in, what is outside stays as it is."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (outside / "meta").write_text("untouched")
    (root / "image").mkdir(parents=True)
    (root / "image/meta").write_text("inside")
    (root / "link").symlink_to(outside)
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            for old, new in (("image", "aside"), ("link", "image"), ("image", "link"), ("aside", "image")):
                os.rename(root / old, root / new)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(300):
            # StorageBroken: the link was gone again when it was to be told from a file.
            with contextlib.suppress(PathEscapes, FileMissing, StorageBroken):
                assert await real.files.read(str(root), "image/meta") == b"inside"
            with contextlib.suppress(PathEscapes, FileMissing, StorageBroken):
                await real.files.replace(str(root), "image/meta", b"inside")
    finally:
        over.set()
        swapper.join()
    assert (outside / "meta").read_text() == "untouched"
    assert os.listdir(outside) == ["meta"]


@given(path=st.text(max_size=20).map(lambda text: f"../{text}") | st.text(alphabet="./a", max_size=12))
def test_no_name_reads_what_is_outside(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    from vdsm.drivers.workers import files as worker

    top = tmp_path_factory.getbasetemp() / "names"
    (top / "root/a").mkdir(parents=True, exist_ok=True)
    (top / "a").write_text("outside")
    try:
        _, data = worker.read(str(top / "root"), path, 100)
    except OSError:
        return
    assert data != b"outside"


async def test_names_that_are_no_text(real: Lab, tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    await real.files.create(real.root, "a")
    assert await real.files.names(real.root) == ["a", "\ufffd"]
    assert await real.files.read_all(real.root, "", ".meta") == {}


async def test_only_plain_files_are_opened(real: Lab, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    began = time.monotonic()
    for call in (real.files.read(real.root, "pipe"), real.files.write_at(real.root, "pipe", 0, b"x")):
        with pytest.raises(StorageBroken):
            await call
    assert time.monotonic() - began < 5 * BUSY


# ---- storage that fails ----------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "vdsmtest", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


async def test_a_full_one_keeps_the_old_file(real: Lab, small: Path) -> None:
    root = str(small)
    await real.files.replace(root, "metadata", b"good")
    with pytest.raises(NoSpaceLeftOnDomain, match="metadata"):
        await real.files.replace(root, "metadata", bytes(2 * MiB))
    with pytest.raises(NoSpaceLeftOnDomain):
        await real.files.create(root, "other", bytes(2 * MiB))
    assert await real.files.read(root, "metadata") == b"good"
    assert await real.files.names(root) == ["metadata"]
    await real.files.release(root)


async def test_a_read_only_one(real: Lab, small: Path) -> None:
    root = str(small)
    await real.files.create(root, "metadata", b"good")
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    for call in (
        real.files.replace(root, "metadata", b"bad"),
        real.files.write_at(root, "metadata", 0, b"bad"),
        real.files.create(root, "more"),
        real.files.remove(root, "metadata"),
        real.files.block_size(root),
    ):
        with pytest.raises(StorageReadOnly, match="Read-only"):
            await call
    assert (await real.files.space(root)).read_only
    assert await real.files.read(root, "metadata") == b"good"
    await real.files.release(root)


async def test_one_that_hangs_costs_itself_only(real: Lab, tmp_path: Path) -> None:
    dead, fine = tmp_path / "dead", tmp_path / "fine"
    for place in (dead, fine):
        place.mkdir()
        (place / "metadata").write_text("x")
    await real.files.probe(str(dead), "metadata")
    hung = HungMount(dead)
    try:
        with within(0.3):
            stuck = [asyncio.create_task(real.files.read(str(dead), "metadata")) for _ in range(20)]
            probing = asyncio.create_task(real.files.probe(str(dead), "metadata"))
        times = []
        for _ in range(50):
            began = time.monotonic()
            await real.files.read(str(fine), "metadata")
            times.append(time.monotonic() - began)
        for task in (*stuck, probing):
            with pytest.raises(DeadlineExceeded, match="dead"):
                await task
        assert sorted(times)[45] < 0.1 * BUSY
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="hangs"):
            await real.files.read(str(dead), "metadata")
        assert time.monotonic() - began < 0.1 * BUSY, "it is known to hang"
    finally:
        hung.mend()

    async def well() -> bool:
        try:
            return await real.files.read(str(dead), "metadata") == b"x"
        except (DeadlineExceeded, StorageBroken):
            return False

    end = time.monotonic() + 10 * BUSY
    while not await well():
        assert time.monotonic() < end, "it is mended and nobody notices"
        await asyncio.sleep(0.05)


async def test_one_with_errors_is_said_to_be_broken(real: Lab, tmp_path: Path) -> None:
    root, below = str(tmp_path / "sd"), tmp_path / "below"
    for directory in (Path(root), below):
        directory.mkdir()
    (below / "metadata").write_bytes(b"good")
    mount = FaultyMount(Path(root), below)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: real.files.read(root, "metadata"),
        lambda: real.files.replace(root, "metadata", b"bad"),
        lambda: real.files.create(root, "more"),
        lambda: real.files.names(root),
        lambda: real.files.probe(root, "metadata"),
        lambda: real.files.space(root),
        lambda: real.files.extents(root, "metadata"),
        lambda: real.files.remove(root, "metadata"),
    ]
    try:
        with mount.failing(errno.EIO):
            for call in calls:
                with pytest.raises(StorageBroken, match="Input/output error"):
                    await call()
        assert await real.files.read(root, "metadata") == b"good"
    finally:
        mount.mend()


async def test_closing_does_not_wait_for_one_that_hangs(tmp_path: Path) -> None:
    files, dead = LinuxFiles(), tmp_path / "dead"
    dead.mkdir()
    hung = HungMount(dead)
    try:
        with within(0.2), pytest.raises(DeadlineExceeded):
            await files.read(str(dead), "x")
        began = time.monotonic()
        await files.close()
        assert time.monotonic() - began < 3 * BUSY
    finally:
        hung.mend()


# ---- the worker ------------------------------------------------------------------------------------------------------


def workers(parent: int) -> list[int]:
    said = subprocess.run(
        ["ps", "-ww", "--ppid", str(parent), "-o", "pid=,args="], capture_output=True, text=True, check=False
    )
    return [int(line.split()[0]) for line in said.stdout.splitlines() if "vdsm.drivers.workers.files" in line]


async def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    files = LinuxFiles()
    before = set(workers(os.getpid()))
    await files.create(str(tmp_path), "a", b"1")
    (worker,) = set(workers(os.getpid())) - before
    os.kill(worker, 9)

    async def again() -> bytes:
        try:
            return await files.read(str(tmp_path), "a")
        except StorageBroken:
            return b""

    while not await again():
        await asyncio.sleep(0.02)
    assert await files.read(str(tmp_path), "a") == b"1"
    await files.close()
    assert set(workers(os.getpid())) == before


def test_workers_end_with_their_daemon(tmp_path: Path) -> None:
    text = (
        "import asyncio, os\nfrom vdsm.drivers.filesystem import LinuxFiles\n"
        f"async def go():\n    await LinuxFiles().create({str(tmp_path)!r}, 'a')\n"
        "    print('made', flush=True)\n    await asyncio.sleep(60)\nasyncio.run(go())"
    )
    daemon = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE)
    assert daemon.stdout is not None
    daemon.stdout.readline()
    (worker,) = workers(daemon.pid)
    daemon.kill()
    daemon.communicate()
    until("the worker is gone", lambda: not Path(f"/proc/{worker}").exists() or _is_zombie(worker))


def _is_zombie(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


async def test_files_are_ours_alone_whatever_the_umask(real: Lab, tmp_path: Path) -> None:
    await real.files.create(real.root, "a", mode=0o600)
    await real.files.make_directory(real.root, "d", mode=0o770)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o770


async def test_what_is_made_belongs_to_whom_its_directory_belongs(real: Lab, tmp_path: Path) -> None:
    """Existing hosts use a domain as the user 36 of the group 36."""
    if os.geteuid() != 0:
        pytest.skip("giving files away takes root")
    root = tmp_path / "sd"
    root.mkdir()
    os.chown(root, 36, 36)
    await real.files.make_directory(str(root), "images/one", mode=0o770)
    await real.files.create(str(root), "images/one/vol", mode=0o640)
    await real.files.replace(str(root), "images/one/vol.meta", b"x")
    disks = QemuDisks()
    await disks.create(Image(path=f"{root}/images/one/disk", format=DiskFormat.QCOW2), MiB)
    disks.close()
    found = {p.name: (p.stat().st_uid, p.stat().st_gid, stat.S_IMODE(p.stat().st_mode)) for p in root.rglob("*")}
    assert found == {
        "images": (36, 36, 0o770),
        "one": (36, 36, 0o770),
        "vol": (36, 36, 0o640),
        "vol.meta": (36, 36, 0o660),
        "disk": (36, 36, 0o660),
    }
