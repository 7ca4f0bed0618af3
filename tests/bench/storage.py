# SPDX-License-Identifier: Apache-2.0
"""Storage: disks up and down beside qemu-img and cp, holes, new volumes, and a domain of thousands of volumes."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.daemon import Daemon
from harness.ports import free_port
from vdsm.client import Host
from vdsm.contract.storage import StorageSummary
from vdsm.contract.storage_words import BLANK, DiskContentType, VolumeAllocation, VolumeFormat
from vdsm.core.storage.format import volume_meta
from vdsm.core.storage.format.volume_meta import VolumeMeta

from .measure import Clock, Row, median_ms

MIB, GIB = 1 << 20, 1 << 30
FULL = GIB  # without a hole
DATA, SPARSE = 200 * MIB, 8 * GIB  # so much data in so long a file
ROUNDS = 5
VOLUMES = 5000
MADE = 20


def rows(home: Path, uri: str) -> Iterator[Row]:
    daemon = Daemon(home, "vdsmbench", uri=uri)
    daemon.configure(f"[transfers]\nport = {free_port()}\n")
    try:
        daemon.start()
        with daemon.connect() as host:
            made = host.storage.init(f"{daemon.storage}/vm")
            yield from _transfers(daemon, host)
            yield from _sparse(daemon, host)
            yield from _volumes(daemon, host, made)
            yield from _crowded(daemon, host, made)
    finally:
        daemon.end()


def _timed(*words: str | Path) -> float:
    """A command's seconds, until what it wrote is on the disk."""
    with Clock() as clock:
        subprocess.run([*map(str, words)], check=True, capture_output=True)
        if words[0] == "cp":
            subprocess.run(["sync", str(words[-1])], check=True)
    return clock.seconds


def _rounds(calls: dict[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, float]:
    """The median seconds of each; they take turns, so that what disturbs one disturbs all."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name].append(call())
    return {name: statistics.median(found) for name, found in seconds.items()}


# ---- up and down -----------------------------------------------------------------------------------------------------


def _filled(file: Path, data: int, length: int) -> Path:
    """Data that nothing can make smaller, in pieces of a mebibyte all over the file."""
    with file.open("wb") as out:
        out.truncate(length)
        for number in range(data // MIB):
            out.seek(number * (length // (data // MIB)))
            out.write(os.urandom(MIB))
        out.flush()
        os.fsync(out.fileno())
    return file


def _both_ways(daemon: Daemon, host: Host, source: Path) -> dict[str, float]:
    """Seconds of an upload, of a download, and of what is beside."""
    copy = source.with_suffix(".copy")

    def up() -> float:
        with Clock() as clock:
            daemon.shell("disk", "upload", str(source), "--name", "up")
        (row,) = [row for row in host.disk.list() if row.name == "up"]
        host.disk.delete(row.id)
        return clock.seconds

    def down() -> float:
        copy.unlink(missing_ok=True)
        with Clock() as clock:
            daemon.shell("disk", "download", "kept", str(copy))
            subprocess.run(["sync", str(copy)], check=True)
        return clock.seconds

    def convert() -> float:
        copy.unlink(missing_ok=True)
        return _timed("qemu-img", "convert", "-f", "raw", "-O", "raw", "-t", "none", "-T", "none", source, copy)

    def cp() -> float:
        copy.unlink(missing_ok=True)
        return _timed("cp", "--sparse=auto", source, copy)

    daemon.shell("disk", "upload", str(source), "--name", "kept")
    found = _rounds({"up": up, "convert": convert, "down": down, "cp": cp})
    (row,) = [row for row in host.disk.list() if row.name == "kept"]
    host.disk.delete(row.id)
    copy.unlink()
    return found


def _transfers(daemon: Daemon, host: Host) -> Iterator[Row]:
    source = _filled(daemon.home / "full.raw", FULL, FULL)
    found = _both_ways(daemon, host, source)
    for what, ours in (("upload", found["up"]), ("download", found["down"])):
        label = f"disk {what}, {FULL // GIB} GiB of data"
        yield Row(label, ours, "s", found["convert"], "qemu-img convert", limit=2)
        yield Row(label, ours, "s", found["cp"], "cp and sync")
    source.unlink()


def _sparse(daemon: Daemon, host: Host) -> Iterator[Row]:
    """The holes must not count."""
    source = _filled(daemon.home / "sparse.raw", DATA, SPARSE)
    found = _both_ways(daemon, host, source)
    what = f"of {SPARSE // GIB} GiB with {DATA // MIB} MiB of data"
    yield Row(f"disk upload {what}", found["up"], "s", found["convert"], "qemu-img convert", limit=6)
    yield Row(f"disk download {what}", found["down"], "s", found["convert"], "qemu-img convert", limit=6)
    source.unlink()


# ---- volumes ---------------------------------------------------------------------------------------------------------


def _volumes(daemon: Daemon, host: Host, made: StorageSummary) -> Iterator[Row]:
    directory = daemon.home / "plain"
    directory.mkdir()
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(MADE):
        with Clock() as clock:
            image_id = new_volume(host, made)
        ours.append(clock.seconds)
        host.image.delete(image_id, made.pool, made.id)
        theirs.append(_timed("qemu-img", "create", "-f", "qcow2", directory / str(number), f"{GIB}"))
    yield Row("a new volume", median_ms(ours), "ms", median_ms(theirs), "qemu-img create", limit=8)


def new_volume(host: Host, made: StorageSummary) -> str:
    image_id = str(uuid.uuid4())
    host.volume.create(
        str(uuid.uuid4()), made.pool, made.id, image_id, GIB, VolumeFormat.COW, VolumeAllocation.SPARSE,
        DiskContentType.DATA, "",
    )  # fmt: skip
    return image_id


def _crowded(daemon: Daemon, host: Host, made: StorageSummary) -> Iterator[Row]:
    """As other hosts may have left it."""
    images = daemon.storage / "vm" / made.id / "images"
    for _ in range(VOLUMES):
        _lay(images, made.id)

    def walk() -> float:
        with Clock() as clock:
            found = sum(len(list(image.glob("*.meta"))) for image in images.iterdir())
            assert found >= VOLUMES
            for meta in images.glob("*/*.meta"):
                meta.read_bytes()
        return clock.seconds

    def get_volumes() -> float:
        with Clock() as clock:
            assert len(host.storage_domain.get_volumes(made.id)) == VOLUMES
        return clock.seconds

    def dump() -> float:
        with Clock() as clock:
            assert len(host.storage_domain.dump(made.id).volumes) == VOLUMES
        return clock.seconds

    found = _rounds({"volumes": get_volumes, "dump": dump, "walk": walk}, 3)
    beside = found["walk"] * 1000, "Python reading the metadata"
    yield Row(f"StorageDomain.getVolumes of {VOLUMES}", found["volumes"] * 1000, "ms", *beside, limit=3)
    yield Row(f"StorageDomain.dump of {VOLUMES} volumes", found["dump"] * 1000, "ms", *beside, limit=6)


def _lay(images: Path, domain_id: str) -> None:
    image_id, volume_id = str(uuid.uuid4()), str(uuid.uuid4())
    meta = VolumeMeta(
        domain=domain_id, image=image_id, parent=BLANK, capacity=MIB, created=int(time.time()),
        format=VolumeFormat.RAW, allocation=VolumeAllocation.SPARSE, sequence=1,
    )  # fmt: skip
    image = images / image_id
    image.mkdir()
    (image / f"{volume_id}.meta").write_bytes(volume_meta.encode(meta))
    (image / f"{volume_id}.lease").touch()
    with (image / volume_id).open("wb") as file:
        file.truncate(MIB)
