# SPDX-License-Identifier: Apache-2.0
"""Images and directories that another host has prepared: what lies outside its volumes is neither read nor written."""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.daemon import Daemon
from harness.storage_work import Site, new_id
from vdsm.client import Host
from vdsm.contract.errors import InternalError, Problem
from vdsm.contract.image import ImageMoveOperation
from vdsm.contract.sdm import CopyDataEndpoint, VolInfo
from vdsm.contract.storage_words import DiskContentType, VolumeAllocation, VolumeFormat, VolumeLegality
from vdsm.contract.vm_params import Disk, VmParams

MIB = 1 << 20
SECRET = b"what only root may read\n"


class Lair:
    """A volume in a domain, whose files are at the mercy of another host."""

    def __init__(self, site: Site, host: Host, kind: VolumeFormat = VolumeFormat.COW) -> None:
        self.daemon = site.daemon
        self.host = host
        self.site = site
        self.pool, self.domain = site.pool, site.domains[0]
        self.secret = self.daemon.home / "secret"
        self.secret.write_bytes(SECRET.ljust(MIB, b"."))
        self.image, self.volume = self.make(kind)
        self.target = self.make(VolumeFormat.RAW)

    def make(self, kind: VolumeFormat) -> tuple[str, str]:
        image, volume = new_id(), new_id()
        self.host.volume.create(
            volume, self.pool, self.domain, image, MIB, kind, VolumeAllocation.SPARSE, DiskContentType.DATA, ""
        )
        return image, volume

    @property
    def path(self) -> Path:
        return self.site.images(self.domain) / self.image / self.volume

    def verbs(self) -> dict[str, Callable[[], object]]:
        """All that opens a volume."""
        where = (self.volume, self.pool, self.domain, self.image)
        at = VolInfo(sd_id=self.domain, img_id=self.image, vol_id=self.volume)
        here = CopyDataEndpoint(sd_id=self.domain, img_id=self.image, vol_id=self.volume)
        there = CopyDataEndpoint(sd_id=self.domain, img_id=self.target[0], vol_id=self.target[1])
        disk = Disk(path=self.image)
        host = self.host
        return {
            "getQemuImageInfo": lambda: host.volume.get_qemu_image_info(*where),
            "measure": lambda: host.volume.measure(*where, VolumeFormat.COW),
            "extendSize": lambda: host.volume.extend_size(self.pool, self.domain, self.image, self.volume, 2 * MIB),
            "verify_untrusted": lambda: host.volume.verify_untrusted(self.pool, self.domain, self.image, self.volume),
            "copy from it": lambda: host.sdm.copy_data(new_id(), here, there),
            "sparsify": lambda: host.sdm.sparsify_volume(new_id(), at),
            "snapshot": lambda: host.volume.create(
                new_id(), self.pool, self.domain, self.image, MIB, VolumeFormat.COW, VolumeAllocation.SPARSE,
                DiskContentType.DATA, "", self.image, self.volume,
            ),
            "move": lambda: host.image.move(
                self.image, self.pool, self.domain, self.site.domains[1], ImageMoveOperation.MOVE
            ),
            "template": lambda: host.volume.copy(*where, self.domain, new_id(), new_id()),
            "download": lambda: host.disk.start_download(self.image),
            "machine": lambda: host.vm.create(VmParams(name=self.daemon.name("evil"), memory=64, disks=[disk])),
        }  # fmt: skip

    def tell(self) -> tuple[object, object]:
        dump = self.host.storage_domain.dump(self.domain).volumes
        return sorted(dump), [(row.where, row.severity) for row in self.host.storage.check(self.domain)]

    def target_bytes(self) -> bytes:
        return (self.site.images(self.domain) / self.target[0] / self.target[1]).read_bytes()


@pytest.fixture
def host(daemon: Daemon) -> Iterator[Host]:
    daemon.start()
    with daemon.connect() as host:
        yield host


def problem_of(call: Callable[[], object]) -> Problem | None:
    """What it ended with; never what says that vdsm has a defect."""
    try:
        call()
    except InternalError as defect:
        raise AssertionError(defect) from None
    except Problem as problem:
        return problem
    return None


def exchange(one: Path, other: Path) -> None:
    """Both names at once."""
    libc = ctypes.CDLL(None, use_errno=True)
    at_cwd, both = -100, 2
    assert libc.renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), both) == 0, os.strerror(
        ctypes.get_errno()
    )


def qcow2(lair: Lair, *words: str) -> None:
    """In the place of the volume."""
    lair.path.unlink()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *words, lair.path, "1M"], check=True)


def header(lair: Lair, at: int, data: bytes) -> None:
    with lair.path.open("r+b") as file:
        os.pwrite(file.fileno(), data, at)


def backed_by(name: str) -> Callable[[Lair], None]:
    """Written past qemu-img, which would look."""

    def prepare(lair: Lair) -> None:
        place = name.format(secret=lair.secret, up=os.path.relpath(lair.secret, lair.path.parent)).encode()
        header(lair, 8, struct.pack(">QI", 512, len(place)))
        header(lair, 512, place)

    return prepare


def data_elsewhere(lair: Lair) -> None:
    qcow2(lair, "-o", f"data_file={lair.daemon.home / 'data'},data_file_raw=on")


def a_link(lair: Lair) -> None:
    lair.path.unlink()
    lair.path.symlink_to(lair.secret)


def a_linked_directory(lair: Lair) -> None:
    away = lair.daemon.home / "away"
    shutil.move(lair.path.parent, away)
    lair.path.parent.symlink_to(away)


def a_pipe(lair: Lair) -> None:
    lair.path.unlink()
    os.mkfifo(lair.path)


HOSTILE: dict[str, tuple[VolumeFormat, Callable[[Lair], None]]] = {
    "a backing file, absolute": (VolumeFormat.COW, backed_by("{secret}")),
    "a backing file, relative": (VolumeFormat.COW, backed_by("{up}")),
    "a backing file in JSON": (VolumeFormat.COW, backed_by('json:{{"driver":"raw","file.filename":"{secret}"}}')),
    "a backing file over the network": (VolumeFormat.COW, backed_by("nbd:unix:/nowhere")),
    "a data file": (VolumeFormat.COW, data_elsewhere),
    "an absurd size": (VolumeFormat.COW, lambda lair: header(lair, 24, struct.pack(">Q", 1 << 62))),
    "an unknown feature": (VolumeFormat.COW, lambda lair: header(lair, 72, struct.pack(">Q", 1 << 40))),
    "no qcow2": (VolumeFormat.COW, lambda lair: header(lair, 0, b"RAW!")),
    "cut short": (VolumeFormat.COW, lambda lair: os.truncate(lair.path, 40)),
    "a link to a secret": (VolumeFormat.RAW, a_link),
    "a link to a secret that says it is qcow2": (VolumeFormat.COW, a_link),
    "a linked directory": (VolumeFormat.RAW, a_linked_directory),
    "a pipe": (VolumeFormat.RAW, a_pipe),
}


def test_no_image_leads_elsewhere(daemon: Daemon, host: Host) -> None:
    site = Site(daemon)
    site.build(host)
    for what, (kind, prepare) in HOSTILE.items():
        lair = Lair(site, host, kind)
        prepare(lair)
        before = lair.tell()
        for name, verb in lair.verbs().items():
            if name == "download" and kind is VolumeFormat.COW and not lair.path.is_symlink():
                continue  # gives the file as it is and looks at nothing in it
            assert problem_of(verb) is not None, f"{what}: {name}"
        assert lair.target_bytes() == bytes(MIB), what
        assert lair.secret.read_bytes() == SECRET.ljust(MIB, b"."), what
        assert lair.tell() == before, what
        for image in (lair.image, lair.target[0]):
            gone = site.images(lair.domain) / image
            gone.unlink() if gone.is_symlink() else shutil.rmtree(gone)
    assert daemon.domains() == {}


@pytest.fixture
def no_links(daemon: Daemon) -> Iterator[None]:
    """The storage on a file system mounted as vdsm mounts what hosts share."""
    daemon.storage.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosymfollow,mode=755", "tmpfs", daemon.storage], check=True)
    yield
    daemon.end()
    subprocess.run(["umount", daemon.storage], check=True)


def test_directories_swapped_for_links_under_a_call(daemon: Daemon, no_links: None, host: Host) -> None:
    """As fast as another host can: what lies behind the link stays as it is, whoever wins."""
    site = Site(daemon)
    site.build(host)
    lair = Lair(site, host, VolumeFormat.RAW)
    place, link, away = lair.path.parent, lair.path.parent.with_name("link"), daemon.home / "away"
    link.symlink_to(away)
    away.mkdir()
    for name in (lair.volume, f"{lair.volume}.meta"):
        shutil.copy(place / name, away / name)
    (away / lair.volume).write_bytes(SECRET.ljust(MIB, b"."))
    seen = {path.name: path.read_bytes() for path in away.iterdir()}
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            for _ in range(2):
                exchange(place, link)

    into = CopyDataEndpoint(sd_id=lair.domain, img_id=lair.image, vol_id=lair.volume)
    whole = CopyDataEndpoint(sd_id=lair.domain, img_id=lair.target[0], vol_id=lair.target[1])
    where = (lair.volume, lair.pool, lair.domain, lair.image)
    verbs: list[Callable[[], object]] = [
        lambda: host.sdm.copy_data(new_id(), whole, into),
        lambda: host.volume.set_description(*where, "d"),
        lambda: host.volume.set_legality(*where, VolumeLegality.LEGAL),
        lambda: host.storage.check(lair.domain),
        *(verb for name, verb in lair.verbs().items() if name not in ("machine", "sparsify", "move")),
    ]
    with ThreadPoolExecutor(1) as pool:
        swapping = pool.submit(swap)
        try:
            met = [type(problem_of(verb)) for _ in range(6) for verb in verbs]
        finally:
            print(daemon.said())  # shown if it fails
            over.set()
        swapping.result()
    assert len(set(met)) > 1, "the swapping was never met"
    assert {path.name: path.read_bytes() for path in away.iterdir()} == seen
    link.unlink()
    copies = [path for path in site.images(lair.domain).rglob("*") if path.is_file()]
    assert not [path for path in copies if SECRET in path.read_bytes()], "nothing of what lies behind it was copied"
    host.image.delete(lair.image, lair.pool, lair.domain)
