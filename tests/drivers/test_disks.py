# SPDX-License-Identifier: Apache-2.0
"""Images made and changed: one suite for qemu-img and for its simulated twin."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from vdsm.contract.errors import InvalidParams, ObjectBusy
from vdsm.contract.errors_storage import (
    BitmapDoesNotExist,
    DestinationVolumeTooSmall,
    FileExists,
    FileMissing,
    ImageOperationFailed,
    ImageVerificationError,
    NoSpaceLeftOnDomain,
    ToolMissing,
)
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.ports.disks import DiskImages, Image
from vdsm.drivers.qemu import QemuDisks
from vdsm.drivers.simulated.disks import SimulatedDisks
from vdsm.drivers.simulated.tree import Tree

KiB, MiB, GiB = 1 << 10, 1 << 20, 1 << 30
RAW, QCOW2 = DiskFormat.RAW, DiskFormat.QCOW2


class Lab(Protocol):
    """The driver, a directory for images, and a guest that writes into them."""

    disks: DiskImages
    directory: str

    def write(self, image: Image, offset: int, length: int, pattern: int) -> None: ...
    def reads(self, image: Image, offset: int, pattern: int) -> bool: ...
    def size(self, image: Image) -> int: ...
    def exists(self, image: Image) -> bool: ...


class RealLab:
    def __init__(self, directory: Path) -> None:
        self.disks: DiskImages = QemuDisks()
        self.directory = str(directory)

    def write(self, image: Image, offset: int, length: int, pattern: int) -> None:
        subprocess.run(
            ["qemu-io", "-f", image.format, "-c", f"write -P {pattern} {offset} {length}", image.path],
            check=True,
            capture_output=True,
        )

    def reads(self, image: Image, offset: int, pattern: int) -> bool:
        words = ["qemu-io", "-r", "-f", image.format, "-c", f"read -P {pattern} {offset} {64 * KiB}", image.path]
        said = subprocess.run(words, check=False, capture_output=True, text=True).stdout
        return "read 65536/65536" in said and "verification failed" not in said

    def size(self, image: Image) -> int:
        return Path(image.path).stat().st_size

    def exists(self, image: Image) -> bool:
        return Path(image.path).exists()


class SimulatedLab:
    def __init__(self) -> None:
        tree = Tree()
        tree.directory("/images")
        self.simulated = SimulatedDisks(tree)
        self.disks: DiskImages = self.simulated
        self.directory = "/images"

    def write(self, image: Image, offset: int, length: int, pattern: int) -> None:
        self.simulated.write(image.path, offset, length, pattern)

    def reads(self, image: Image, offset: int, pattern: int) -> bool:
        return self.simulated.read(image, offset) == pattern

    def size(self, image: Image) -> int:
        return self.simulated.tree.get(image.path).size

    def exists(self, image: Image) -> bool:
        return image.path in self.simulated.tree.nodes


@pytest.fixture(params=["qemu-img", "simulated"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    made: Lab = RealLab(tmp_path) if request.param == "qemu-img" else SimulatedLab()
    yield made
    made.disks.close()


def image(lab: Lab, name: str, image_format: DiskFormat = QCOW2, backing: Image | None = None) -> Image:
    return Image(path=f"{lab.directory}/{name}", format=image_format, backing=backing, lane="test")


async def chain(lab: Lab, *, size: int = 16 * MiB) -> tuple[Image, Image, Image]:
    """raw <- qcow2 <- qcow2, each with a megabyte of its own: 1 at 0, 2 at 1 MiB, 3 at 2 MiB."""
    base = image(lab, "base", RAW)
    middle = image(lab, "middle", backing=base)
    top = image(lab, "top", backing=middle)
    for number, one in enumerate((base, middle, top)):
        await lab.disks.create(one, size)
        lab.write(one, number * MiB, MiB, number + 1)
    return base, middle, top


# ---- create and info -------------------------------------------------------------------------------------------------


async def test_raw_sparse_and_preallocated(lab: Lab) -> None:
    sparse, whole = image(lab, "sparse", RAW), image(lab, "whole", RAW)
    await lab.disks.create(sparse, 8 * MiB)
    await lab.disks.create(whole, 8 * MiB, preallocate=True)
    thin, thick = await lab.disks.info(sparse), await lab.disks.info(whole)
    assert (thin.virtual_size, thick.virtual_size) == (8 * MiB, 8 * MiB)
    assert thin.actual_size < MiB
    assert thick.actual_size >= 8 * MiB
    assert (thin.format, thin.compat, thin.cluster_size, thin.bitmaps) == (RAW, "", 0, [])
    assert lab.size(sparse) == 8 * MiB


@pytest.mark.parametrize("compat", ["0.10", "1.1"])
async def test_qcow2_of_each_version(lab: Lab, compat: str) -> None:
    one = image(lab, "one")
    await lab.disks.create(one, 5 * GiB, compat=compat)
    info = await lab.disks.info(one)
    assert (info.format, info.virtual_size, info.compat, info.backing_file) == (QCOW2, 5 * GiB, compat, "")
    assert info.actual_size < MiB


async def test_a_backing_file_is_named_as_its_neighbour(lab: Lab) -> None:
    _, _, top = await chain(lab)
    info = await lab.disks.info(top)
    assert (info.backing_file, info.backing_format) == ("middle", "qcow2")
    assert all(lab.reads(top, n * MiB, n + 1) for n in range(3))


async def test_nothing_is_written_over(lab: Lab) -> None:
    one = image(lab, "one")
    await lab.disks.create(one, MiB)
    lab.write(one, 0, 64 * KiB, 7)
    with pytest.raises(FileExists):
        await lab.disks.create(one, MiB)
    assert lab.reads(one, 0, 7)


async def test_what_cannot_be_made_leaves_nothing(lab: Lab) -> None:
    one = image(lab, "one", RAW)
    with pytest.raises(ImageOperationFailed, match="size"):
        await lab.disks.create(one, 1 << 62)
    assert not lab.exists(one)
    with pytest.raises(FileMissing):
        await lab.disks.create(image(lab, "no/one"), MiB)


async def test_what_is_not_there(lab: Lab) -> None:
    with pytest.raises(FileMissing, match="nothing"):
        await lab.disks.info(image(lab, "nothing"))


# ---- the chain must be the one that was stated -----------------------------------------------------------------------


async def test_another_chain_than_stated_is_refused(lab: Lab) -> None:
    base, middle, top = await chain(lab)
    for wrong in (
        image(lab, "top"),
        image(lab, "top", backing=base),
        image(lab, "top", backing=image(lab, "middle")),
        image(lab, "top", RAW, backing=middle),
        image(lab, "base", QCOW2),
    ):
        with pytest.raises(ImageVerificationError):
            await lab.disks.info(wrong)
        with pytest.raises(ImageVerificationError):
            await lab.disks.convert(wrong, base)
    await lab.disks.info(top)


async def test_a_header_tells_what_it_refers_to_whatever_is_stated(lab: Lab) -> None:
    base, middle, top = await chain(lab)
    for one, reference in ((top, middle), (middle, base), (image(lab, "middle", backing=top), base)):
        found = await lab.disks.reference(one)
        assert found is not None
        assert (found.path, found.format) == (reference.path, reference.format)
    assert await lab.disks.reference(base) is None
    moved = image(lab, "moved", backing=base)
    await lab.disks.create(moved, 16 * MiB, backing_name="../elsewhere/./base")
    found = await lab.disks.reference(moved)
    assert found is not None
    assert found.path == f"{os.path.dirname(lab.directory)}/elsewhere/base".replace("//", "/"), "it need not be there"
    with pytest.raises(ImageVerificationError):
        await lab.disks.reference(image(lab, "base"))
    with pytest.raises(FileMissing):
        await lab.disks.reference(image(lab, "nothing"))


async def test_verify_takes_what_is_fine_and_no_more(lab: Lab) -> None:
    _, _, top = await chain(lab)
    assert (await lab.disks.verify(top, largest=16 * MiB)).virtual_size == 16 * MiB
    with pytest.raises(ImageVerificationError, match="16777216"):
        await lab.disks.verify(top, largest=16 * MiB - 1)


# ---- measure, check --------------------------------------------------------------------------------------------------


async def test_measure(lab: Lab) -> None:
    _, _, top = await chain(lab)
    raw = await lab.disks.measure(top, RAW)
    assert raw.required == raw.fully_allocated == 16 * MiB
    qcow2 = await lab.disks.measure(top, QCOW2)
    assert 3 * MiB < qcow2.required < 4 * MiB
    assert qcow2.fully_allocated > 16 * MiB
    empty = await lab.disks.measure_new(GiB, QCOW2)
    assert empty.required < MiB
    assert empty.fully_allocated > GiB


async def test_measure_a_part_of_a_chain(lab: Lab) -> None:
    _, middle, top = await chain(lab)
    sizes = [(await lab.disks.measure(top, QCOW2, layers=n)).required for n in (1, 2, 3)]
    assert [large - small for small, large in itertools.pairwise(sizes)] == [MiB, MiB]
    assert sizes[2] == (await lab.disks.measure(top, QCOW2)).required
    with pytest.raises(ImageVerificationError):
        await lab.disks.measure(image(lab, "top"), QCOW2, layers=1)  # the whole chain is stated all the same
    assert (await lab.disks.measure(middle, RAW, layers=1)).required == 16 * MiB


async def test_check_finds_nothing_wrong(lab: Lab) -> None:
    base, _, top = await chain(lab)
    result = await lab.disks.check(top)
    assert result.sound
    assert result.end >= MiB
    with pytest.raises(ImageOperationFailed):
        await lab.disks.check(base)


# ---- convert ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target_format", [RAW, QCOW2])
async def test_convert_flattens(lab: Lab, target_format: DiskFormat) -> None:
    _, _, top = await chain(lab)
    flat = image(lab, "flat", target_format)
    await lab.disks.create(flat, 16 * MiB)
    parts: list[float] = []
    await lab.disks.convert(top, flat, zeroed=True, progress=parts.append)
    assert all(lab.reads(flat, n * MiB, n + 1) for n in range(3))
    assert lab.reads(flat, 8 * MiB, 0)
    assert parts == sorted(parts)
    assert parts[-1] == 1.0
    assert (await lab.disks.info(flat)).actual_size < 6 * MiB  # holes stay holes


async def test_convert_writes_over_what_was_there(lab: Lab) -> None:
    _, _, top = await chain(lab)
    used = image(lab, "used", RAW)
    await lab.disks.create(used, 32 * MiB)
    lab.write(used, 4 * MiB, MiB, 9)
    await lab.disks.convert(top, used)
    assert lab.reads(used, 0, 1)
    assert lab.reads(used, 4 * MiB, 0)


async def test_convert_of_one_layer_onto_a_copy_of_the_rest(lab: Lab) -> None:
    _, middle, top = await chain(lab)
    rest = image(lab, "rest", RAW)
    await lab.disks.create(rest, 16 * MiB)
    await lab.disks.convert(middle, rest, zeroed=True)
    copy = image(lab, "copy", backing=rest)
    await lab.disks.create(copy, 16 * MiB)
    await lab.disks.convert(top, copy)
    assert all(lab.reads(copy, n * MiB, n + 1) for n in range(3))
    assert (await lab.disks.info(copy)).actual_size < 2 * MiB


async def test_convert_refuses_targets_that_do_not_fit(lab: Lab) -> None:
    base, _, top = await chain(lab)
    small = image(lab, "small", RAW)
    await lab.disks.create(small, MiB)
    with pytest.raises(DestinationVolumeTooSmall, match="16777216"):
        await lab.disks.convert(top, small)
    with pytest.raises(ImageOperationFailed, match="itself"):
        await lab.disks.convert(base, base)
    with pytest.raises(FileMissing):
        await lab.disks.convert(base, image(lab, "absent", RAW))


# ---- commit, rebase, resize, amend -----------------------------------------------------------------------------------


async def test_commit_into_the_next_and_into_the_last(lab: Lab) -> None:
    base, middle, top = await chain(lab)
    await lab.disks.commit(top, middle)
    assert lab.reads(middle, 2 * MiB, 3)
    assert lab.reads(base, 2 * MiB, 0)
    await lab.disks.commit(top, base)
    assert all(lab.reads(base, n * MiB, n + 1) for n in range(3))
    with pytest.raises(ImageOperationFailed, match="not below"):
        await lab.disks.commit(middle, top)


async def test_commit_makes_a_smaller_base_larger(lab: Lab) -> None:
    base, _, top = await chain(lab)
    await lab.disks.resize(top, 20 * MiB)
    lab.write(top, 18 * MiB, MiB, 5)
    await lab.disks.commit(top, base)
    assert (await lab.disks.info(base)).virtual_size == 20 * MiB
    assert lab.reads(base, 18 * MiB, 5)


async def test_rebase_keeps_what_is_seen(lab: Lab) -> None:
    base, _, top = await chain(lab)
    await lab.disks.rebase(top, base)
    skipping = image(lab, "top", backing=base)
    assert all(lab.reads(skipping, n * MiB, n + 1) for n in range(3))
    await lab.disks.rebase(skipping, None)
    alone = image(lab, "top")
    assert all(lab.reads(alone, n * MiB, n + 1) for n in range(3))
    assert (await lab.disks.info(alone)).backing_file == ""


async def test_unsafe_rebase_writes_the_header_only(lab: Lab) -> None:
    base, _, top = await chain(lab)
    await lab.disks.rebase(top, base, unsafe=True)
    skipping = image(lab, "top", backing=base)
    assert lab.reads(skipping, 0, 1)
    assert lab.reads(skipping, MiB, 0)


@pytest.mark.parametrize("image_format", [RAW, QCOW2])
async def test_resize_grows_and_never_shrinks(lab: Lab, image_format: DiskFormat) -> None:
    one = image(lab, "one", image_format)
    await lab.disks.create(one, MiB)
    await lab.disks.resize(one, 3 * MiB)
    with pytest.raises(ImageOperationFailed, match="shrink"):
        await lab.disks.resize(one, MiB)
    assert (await lab.disks.info(one)).virtual_size == 3 * MiB


@pytest.mark.parametrize("image_format", [RAW, QCOW2])
async def test_resize_shrinks_only_when_that_is_said(lab: Lab, image_format: DiskFormat) -> None:
    one = image(lab, "one", image_format)
    await lab.disks.create(one, 2 * MiB)
    lab.write(one, 0, MiB, 5)
    await lab.disks.resize(one, MiB, shrink=True)
    assert (await lab.disks.info(one)).virtual_size == MiB
    assert lab.reads(one, 0, 5)


async def test_resize_may_take_the_room_at_once(lab: Lab) -> None:
    one = image(lab, "one", RAW)
    await lab.disks.create(one, MiB, preallocate=True)
    await lab.disks.resize(one, 4 * MiB, preallocate=True)
    assert (await lab.disks.info(one)).actual_size >= 4 * MiB


async def test_amend(lab: Lab) -> None:
    one = image(lab, "one")
    await lab.disks.create(one, MiB, compat="0.10")
    await lab.disks.amend(one, compat="1.1")
    assert (await lab.disks.info(one)).compat == "1.1"


# ---- bitmaps ---------------------------------------------------------------------------------------------------------


async def test_bitmaps(lab: Lab) -> None:
    one = image(lab, "one")
    await lab.disks.create(one, 4 * MiB)
    await lab.disks.add_bitmap(one, "first")
    await lab.disks.add_bitmap(one, "-odd name,x=1", granularity=128 * KiB, enabled=False)
    lab.write(one, 0, MiB, 1)
    found = {b.name: (b.granularity, b.enabled) for b in (await lab.disks.info(one)).bitmaps}
    assert found == {"first": (64 * KiB, True), "-odd name,x=1": (128 * KiB, False)}
    with pytest.raises(ImageOperationFailed, match="exists"):
        await lab.disks.add_bitmap(one, "first")
    await lab.disks.clear_bitmap(one, "first")
    await lab.disks.remove_bitmap(one, "-odd name,x=1")
    assert [b.name for b in (await lab.disks.info(one)).bitmaps] == ["first"]
    for call in (lab.disks.remove_bitmap(one, "none"), lab.disks.clear_bitmap(one, "none")):
        with pytest.raises(BitmapDoesNotExist, match="none"):
            await call


async def test_bitmaps_of_one_image_in_another(lab: Lab) -> None:
    one, two = image(lab, "one"), image(lab, "two")
    for made in (one, two):
        await lab.disks.create(made, 4 * MiB)
    await lab.disks.add_bitmap(one, "here")
    await lab.disks.add_bitmap(two, "there")
    await lab.disks.merge_bitmap(one, "here", two, "there")
    with pytest.raises(BitmapDoesNotExist):
        await lab.disks.merge_bitmap(one, "here", two, "absent")
    await lab.disks.convert(one, two, zeroed=True, bitmaps=True)
    assert {b.name for b in (await lab.disks.info(two)).bitmaps} == {"here", "there"}


# ---- qemu-img itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["relative", "nbd:localhost:10809", "json:{}", "-f"])
async def test_only_absolute_paths(tmp_path: Path, path: str) -> None:
    disks = QemuDisks()
    with pytest.raises(InvalidParams, match="absolute"):
        await disks.info(Image(path=path, format=RAW))
    disks.close()


async def test_a_copy_that_is_cancelled_is_over_when_the_caller_goes_on(tmp_path: Path) -> None:
    disks = QemuDisks()
    source, target = (Image(path=str(tmp_path / name), format=RAW) for name in ("source", "target"))
    with (tmp_path / "source").open("wb") as file:
        for _ in range(64):
            file.write(os.urandom(MiB))
    await disks.create(target, 64 * MiB)
    begun = asyncio.Event()
    copy = asyncio.create_task(disks.convert(source, target, progress=lambda _: begun.set()))
    await begun.wait()
    copy.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copy
    assert (
        str(tmp_path)
        not in subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    )
    disks.close()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["-o", "backing_file=/etc/shadow,backing_fmt=raw"], "backing file, /etc/shadow"),
        (["-o", "backing_file=nbd://192.0.2.1/x,backing_fmt=raw"], "not a file of this host"),
        (["-o", "data_file={0}/data"], "data in another file"),
    ],
)
async def test_images_that_lead_elsewhere_are_refused(tmp_path: Path, options: list[str], reason: str) -> None:
    file = tmp_path / "disk"
    words = [word.format(tmp_path) for word in options]
    subprocess.run(["qemu-img", "create", "-q", "-u", "-f", "qcow2", *words, file, "1M"], check=True)
    disks, one = QemuDisks(), Image(path=str(file), format=QCOW2)
    for call in (disks.verify(one, largest=GiB), disks.info(one), disks.check(one), disks.resize(one, GiB)):
        with pytest.raises(ImageVerificationError, match=reason):
            await call
    disks.close()


async def test_an_encrypted_image_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", file, "4M"], check=True)
    with file.open("r+b") as handle:
        handle.seek(35)  # the method of encryption
        handle.write(b"\2")
    disks = QemuDisks()
    with pytest.raises(ImageVerificationError, match="encrypted"):
        await disks.verify(Image(path=str(file), format=QCOW2), largest=GiB)
    disks.close()


async def test_a_damaged_image_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", file, "4M"], check=True)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 0 1M", file], check=True, capture_output=True)
    with file.open("r+b") as handle:
        handle.seek(64 * KiB)  # the refcount table
        handle.write(bytes(64 * KiB))
    disks = QemuDisks()
    with pytest.raises(ImageVerificationError, match="damaged"):
        await disks.verify(Image(path=str(file), format=QCOW2), largest=GiB)
    disks.close()


async def test_an_image_in_use_is_left_alone(tmp_path: Path) -> None:
    disks, one = QemuDisks(), Image(path=str(tmp_path / "disk"), format=QCOW2)
    await disks.create(one, MiB)
    user = subprocess.Popen(["qemu-io", "-f", "qcow2", one.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert user.stdin is not None
    assert user.stdout is not None
    user.stdin.write(b"write 0 64k\n")
    user.stdin.flush()
    user.stdout.readline()
    with pytest.raises(ObjectBusy):
        await disks.resize(one, 2 * MiB)
    assert (await disks.info(one)).virtual_size == MiB
    user.communicate()
    disks.close()


async def test_a_full_file_system(tmp_path: Path) -> None:
    """A copy that runs into the end of its file system says so; a creation leaves nothing behind."""
    disks, mount = QemuDisks(), tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "vdsmtest", mount], check=True)
    try:
        source = Image(path=str(tmp_path / "source"), format=RAW)
        (tmp_path / "source").write_bytes(b"x" * 8 * MiB)
        target = Image(path=str(mount / "target"), format=QCOW2)
        await disks.create(target, 8 * MiB)
        with pytest.raises(NoSpaceLeftOnDomain, match=r"source|target"):
            await disks.convert(source, target, zeroed=True)
        whole = Image(path=str(mount / "whole"), format=RAW)
        with pytest.raises(NoSpaceLeftOnDomain):
            await disks.create(whole, 8 * MiB, preallocate=True)
        assert not (mount / "whole").exists()
    finally:
        disks.close()
        subprocess.run(["umount", mount], check=True)


# ---- virt-sparsify; with its appliance it takes half a minute, so here it is a script --------------------------------


async def test_virt_sparsify_is_told_the_format_and_works_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "virt-sparsify"
    tool.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\n')
    tool.chmod(0o755)
    monkeypatch.setattr("vdsm.drivers.qemu.disks.SPARSIFY", ("env", str(tool)))
    disks = QemuDisks()
    try:
        image = Image(path=f"{tmp_path}/a", format=QCOW2)
        await disks.create(image, MiB)
        await disks.sparsify(image)
        assert (tmp_path / "said").read_text().split() == ["--in-place", "--quiet", "--format", "qcow2", image.path]
        tool.write_text("#!/bin/sh\necho 'virt-sparsify: error: no file systems' >&2\nexit 1\n")
        with pytest.raises(ImageOperationFailed, match="no file systems"):
            await disks.sparsify(image)
        with pytest.raises(ImageVerificationError):
            await disks.sparsify(Image(path=image.path, format=QCOW2, backing=Image(path="/b", format=RAW)))
    finally:
        disks.close()


async def test_a_host_without_virt_sparsify_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vdsm.drivers.qemu.disks.SPARSIFY", ("env", "no-such-virt-sparsify"))
    disks = QemuDisks()
    try:
        image = Image(path=f"{tmp_path}/a", format=RAW)
        await disks.create(image, MiB)
        with pytest.raises(ToolMissing, match="virt-sparsify") as missing:
            await disks.sparsify(image)
        assert "apt install guestfs-tools" in missing.value.body("").hint
    finally:
        disks.close()
