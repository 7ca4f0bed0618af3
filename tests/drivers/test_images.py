# SPDX-License-Identifier: Apache-2.0
"""Images that lie: each is refused, or says truly what it would open."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.until import BUSY
from vdsm.contract.errors import FileUnusable
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.ports.images import ImageFacts
from vdsm.drivers.qemu import QemuImages
from vdsm.drivers.qemu.qcow2 import Refused, read_header

MiB = 1 << 20
RAW, QCOW2 = DiskFormat.RAW, DiskFormat.QCOW2
INCOMPATIBLE = 72  # where the header keeps the features that a reader must understand


@pytest.fixture
def images() -> Iterator[QemuImages]:
    made = QemuImages()
    yield made
    made.close()


def qemu_img(*arguments: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True)


def qcow2(path: Path, *options: str | Path, size: str = "1M") -> Path:
    qemu_img("create", "-q", "-f", "qcow2", "-u", *options, path, size)
    return path


def patch(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


async def refused(images: QemuImages, path: Path, image_format: DiskFormat | None, reason: str) -> None:
    began = time.monotonic()
    with pytest.raises(FileUnusable, match=reason) as raised:
        await images.inspect(str(path), image_format)
    assert str(path) in str(raised.value)
    assert time.monotonic() - began < 5 * BUSY


# ---- good ones -------------------------------------------------------------------------------------------------------


async def test_a_raw_file_is_what_it_is(images: QemuImages, tmp_path: Path) -> None:
    file = tmp_path / "disk"
    file.write_bytes(bytes(3 * MiB))
    expected = ImageFacts(path=str(file), size=3 * MiB, virtual_size=3 * MiB, references=[])
    assert await images.inspect(str(file), RAW) == expected
    assert await images.inspect(str(file), None) == expected


async def test_a_raw_file_is_not_asked_what_it_is(images: QemuImages, tmp_path: Path) -> None:
    """A guest may write a qcow2 header into its raw disk."""
    file = qcow2(tmp_path / "disk", "-b", "/etc/shadow", "-F", "raw", size="1G")
    facts = await images.inspect(str(file), RAW)
    assert (facts.virtual_size, facts.references) == (file.stat().st_size, [])


@pytest.mark.parametrize(
    "options", ["compat=0.10", "cluster_size=512", "extended_l2=on,compression_type=zstd,cluster_size=2M"]
)
async def test_every_kind_of_qcow2(images: QemuImages, tmp_path: Path, options: str) -> None:
    file = qcow2(tmp_path / "disk", "-o", options, size="8G")
    facts = await images.inspect(str(file), QCOW2)
    assert (facts.virtual_size, facts.references) == (8 << 30, [])


async def test_links_are_resolved(images: QemuImages, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    base = qcow2(tmp_path / "deep/base")
    qcow2(tmp_path / "deep/top", "-b", "base", "-F", "qcow2")
    (tmp_path / "link").symlink_to("deep/top")
    facts = await images.inspect(str(tmp_path / "link"), QCOW2)
    assert facts.path == str(tmp_path / "deep/top")
    assert facts.references == [str(base)]


async def test_the_whole_chain_is_told(images: QemuImages, tmp_path: Path) -> None:
    raw = tmp_path / "0"
    raw.write_bytes(bytes(MiB))
    qcow2(tmp_path / "1", "-b", raw, "-F", "raw")
    nested = f'json:{{"driver":"qcow2","file":{{"driver":"file","filename":"{tmp_path}/1"}}}}'
    qcow2(tmp_path / "2", "-b", nested, "-F", "qcow2")
    flat = f'json:{{"driver":"qcow2","file.driver":"file","file.filename":"{tmp_path}/2"}}'
    qcow2(tmp_path / "3", "-b", flat, "-F", "qcow2")
    qcow2(tmp_path / "4", "-b", f"file:{tmp_path}/3", "-F", "qcow2")
    facts = await images.inspect(str(tmp_path / "4"), QCOW2)
    assert facts.references == [str(tmp_path / name) for name in "3210"]


# ---- what they refer to ----------------------------------------------------------------------------------------------


async def test_a_backing_file_elsewhere_is_told(images: QemuImages, tmp_path: Path) -> None:
    file = qcow2(tmp_path / "disk", "-b", "/etc/shadow", "-F", "raw")
    assert (await images.inspect(str(file), QCOW2)).references == ["/etc/shadow"]


async def test_a_backing_file_behind_a_link_is_told(images: QemuImages, tmp_path: Path) -> None:
    (tmp_path / "innocent").symlink_to("/etc/shadow")
    file = qcow2(tmp_path / "disk", "-b", "innocent", "-F", "raw")
    assert (await images.inspect(str(file), QCOW2)).references == ["/etc/shadow"]


async def test_a_data_file_is_told(images: QemuImages, tmp_path: Path) -> None:
    file = tmp_path / "disk"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path}/data", file, "1M")
    assert (await images.inspect(str(file), QCOW2)).references == [str(tmp_path / "data")]
    (tmp_path / "data").unlink()
    (tmp_path / "data").symlink_to("/etc/shadow")
    assert (await images.inspect(str(file), QCOW2)).references == ["/etc/shadow"]


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("nbd://127.0.0.1:1/x", "not a file of this host"),
        ("ssh://root@127.0.0.1/etc/shadow", "not a file of this host"),
        ("fat:rw:/etc", "not a file of this host"),
        ("host_device:/dev/null", "not a file of this host"),
        ('json:{"driver":"nbd","host":"127.0.0.1"}', "json:"),
        ('json:{"driver":"raw","file":{"driver":"host_device","filename":"/dev/null"}}', "json:"),
        ('json:{"driver":"raw","file.driver":"nbd","file.host":"127.0.0.1"}', "json:"),
        ('json:{"driver":"raw","file":{"driver":"file","filename":"/a"},"file.filename":"/etc/shadow"}', "json:"),
        ('json:{"driver":"quorum","children":[]}', "json:"),
        ("json:" + "[" * 900, "json:"),
        ('json:{"driver":"qcow2","file":{"driver":"file","filename":"/etc/shadow"}}', "two formats"),
        ("/dev/null", "not a plain file"),
        ("/nowhere/at/all", "No such file"),
    ],
)
async def test_what_is_no_file_of_this_host_is_refused(
    images: QemuImages, tmp_path: Path, reference: str, reason: str
) -> None:
    await refused(images, qcow2(tmp_path / "disk", "-b", reference, "-F", "raw"), QCOW2, reason)


async def test_a_backing_file_of_unstated_format_is_refused(images: QemuImages, tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(bytes(MiB))
    file = qcow2(tmp_path / "disk", "-b", "base", "-F", "raw")
    start = file.read_bytes()[:4096]
    patch(file, start.index(struct.pack(">I", 0xE2792ACA)), struct.pack(">I", 0x12345678))  # no longer understood
    await refused(images, file, QCOW2, "does not say")
    await refused(images, qcow2(tmp_path / "odd", "-b", "base", "-F", "vmdk"), QCOW2, "'vmdk'")


async def test_a_circle_is_refused(images: QemuImages, tmp_path: Path) -> None:
    qcow2(tmp_path / "one", "-b", "two", "-F", "qcow2")
    qcow2(tmp_path / "two", "-b", "one", "-F", "qcow2")
    await refused(images, tmp_path / "one", QCOW2, "circle")
    await refused(images, qcow2(tmp_path / "self", "-b", "self", "-F", "qcow2"), QCOW2, "circle")


async def test_an_endless_chain_is_refused(images: QemuImages, tmp_path: Path) -> None:
    qcow2(tmp_path / "0")
    for number in range(1, 40):
        qcow2(tmp_path / str(number), "-b", str(number - 1), "-F", "qcow2")
    await refused(images, tmp_path / "39", QCOW2, "more than")


# ---- what they are not -----------------------------------------------------------------------------------------------


async def test_what_is_no_plain_file_is_refused(images: QemuImages, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "pipe", tmp_path / "socket", tmp_path, Path("/dev/zero"), Path("/dev/stdin")):
            for image_format in (None, RAW, QCOW2):
                await refused(images, path, image_format, "not a plain file|No such")


async def test_what_is_not_there_is_refused(images: QemuImages, tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("nothing", "dangling", "loop"):
        await refused(images, tmp_path / name, RAW, "No such file|symbolic links")


async def test_a_raw_file_is_no_qcow2(images: QemuImages, tmp_path: Path) -> None:
    for content in (b"", b"QFI", bytes(MiB), b"QFI\xfb", b"KDMV" + bytes(600)):
        (tmp_path / "disk").write_bytes(content)
        await refused(images, tmp_path / "disk", QCOW2, "not of the format qcow2")


async def test_a_size_that_cannot_be_is_refused(images: QemuImages, tmp_path: Path) -> None:
    file = qcow2(tmp_path / "disk")
    patch(file, 24, struct.pack(">Q", 1 << 62))
    await refused(images, file, QCOW2, "damaged|more than")
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as opened:
        opened.truncate(2 << 40)
    small = QemuImages(largest=1 << 40)
    await refused(small, sparse, RAW, "more than")
    small.close()


@pytest.mark.parametrize("left", [80, 104, 65536, 3 * 65536])
async def test_one_that_is_cut_off_is_refused(images: QemuImages, tmp_path: Path, left: int) -> None:
    file = qcow2(tmp_path / "disk", "-o", "preallocation=metadata", size="64M")
    os.truncate(file, left)
    await refused(images, file, QCOW2, "cut off|damaged")


@pytest.mark.parametrize(
    ("at", "data", "reason"),
    [
        (4, struct.pack(">I", 9), "version 9"),
        (20, struct.pack(">I", 63), "cluster size"),
        (32, struct.pack(">I", 2), "encrypted"),
        (36, struct.pack(">I", 0xFFFFFFFF), "L1 table"),
        (56, struct.pack(">I", 0xFFFFFFFF), "refcount table"),
        (16, struct.pack(">I", 0xFFFFFFFF), "damaged|refers"),
        (INCOMPATIBLE, struct.pack(">Q", 1 << 1), "corrupt"),
        (INCOMPATIBLE, struct.pack(">Q", 1 << 2), "does not name it"),
        (INCOMPATIBLE, struct.pack(">Q", 1 << 40), "features"),
        (100, struct.pack(">I", 0xFFFFFFFF), "its length"),
    ],
)
async def test_a_header_that_lies_is_refused(
    images: QemuImages, tmp_path: Path, at: int, data: bytes, reason: str
) -> None:
    (tmp_path / "base").write_bytes(bytes(MiB))
    file = qcow2(tmp_path / "disk", "-b", "base", "-F", "raw")
    patch(file, at, data)
    await refused(images, file, QCOW2, reason)


async def test_a_name_that_cannot_be_shown_is_refused(images: QemuImages, tmp_path: Path) -> None:
    file = qcow2(tmp_path / "disk", "-b", "bad\nname", "-F", "raw")
    await refused(images, file, QCOW2, "not printable")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    start=st.binary(max_size=200), size=st.integers(0, 1 << 64), version=st.sampled_from([2, 3]),
    bits=st.integers(8, 22),
)  # fmt: skip
def test_any_bytes_are_read_or_refused(start: bytes, size: int, version: int, bits: int) -> None:
    for data in (start, b"QFI\xfb" + struct.pack(">IQII", version, 0, 0, bits) + start):
        try:
            header = read_header(data, size)
        except Refused:
            continue
        assert header.virtual_size >= 0


async def test_an_image_in_use_can_be_read(images: QemuImages, tmp_path: Path) -> None:
    file = qcow2(tmp_path / "disk")
    holder = subprocess.Popen(
        ["qemu-io", "-f", "qcow2", str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdin.write(b"read 0 512\n")
    holder.stdin.flush()
    assert b"read" in holder.stdout.readline() + holder.stdout.readline()
    assert (await images.inspect(str(file), QCOW2)).virtual_size == MiB
    holder.communicate(b"quit\n")
