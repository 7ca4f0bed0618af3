# SPDX-License-Identifier: Apache-2.0
"""Images and directories that another host has prepared: what lies outside its volumes is neither read nor written."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from harness.daemon import Daemon
from harness.storage_work import Site, new_id
from vdsm.client import Host
from vdsm.contract.errors import InternalError, Problem
from vdsm.contract.sdm import CopyDataEndpoint, VolInfo
from vdsm.contract.storage_words import DiskContentType, VolumeAllocation, VolumeFormat
from vdsm.contract.vm_params import Disk, VmParams

MIB = 1 << 20
SECRET = b"what only root may read\n"


class Lair:
    """A volume in a domain, whose files are at the mercy of another host."""

    def __init__(self, daemon: Daemon, host: Host, kind: VolumeFormat = VolumeFormat.COW) -> None:
        self.daemon = daemon
        self.host = host
        self.site = Site(daemon)
        self.site.build(host)
        self.pool, self.domain = self.site.pool, self.site.domains[0]
        self.secret = daemon.home / "secret"
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
    secret_seen: list[str] = []
    for what, (kind, prepare) in HOSTILE.items():
        lair = Lair(daemon, host, kind)
        prepare(lair)
        before = lair.tell()
        for name, verb in lair.verbs().items():
            try:
                verb()
            except InternalError as defect:
                secret_seen.append(f"{what}, {name}: {defect}")
            except Problem as p:
                print(what, name, type(p).__name__, str(p)[-100:])
            else:
                secret_seen.append(f"{what}, {name}: accepted")
        if lair.target_bytes() != bytes(MIB) or not lair.secret.read_bytes().startswith(SECRET):
            secret_seen.append(f"{what}: LEAK")
        if lair.tell() != before:
            secret_seen.append(f"{what}: CHANGED {before} {lair.tell()}")
    print("\n".join(secret_seen))
    assert not secret_seen
