# SPDX-License-Identifier: Apache-2.0
"""A manager's work on real storage, which goes on where it was after the daemon died under it.

Each kind of work knows what its disk may hold at any moment; `settle` ends what was begun and looks.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from vdsm.client import Host
from vdsm.contract.errors_domains import NoSuchDisk
from vdsm.contract.image import ImageMoveOperation
from vdsm.contract.sdm import CopyDataEndpoint, SubchainInfo
from vdsm.contract.storage_pool import ConnectionRef
from vdsm.contract.storage_words import (
    BLANK,
    DiskContentType,
    StorageDomainType,
    VolumeAllocation,
    VolumeFormat,
    VolumeLegality,
)
from vdsm.contract.volume import VolumeInfo

from .daemon import Daemon

MIB = 1 << 20
SIZE = 48 * MIB
PATCH = 4 * MIB


def new_id() -> str:
    return str(uuid.uuid4())


@dataclass
class Site:
    """A pool of two domains, and files that say what disks must hold."""

    daemon: Daemon
    pool: str = field(default_factory=new_id)
    domains: tuple[str, str] = field(default_factory=lambda: (new_id(), new_id()))

    @property
    def full(self) -> Path:
        return self.daemon.home / "full.raw"

    @property
    def empty(self) -> Path:
        return self.daemon.home / "empty.raw"

    def place(self, domain: str) -> Path:
        return self.daemon.storage / domain[:8]

    def build(self, host: Host) -> None:
        self.full.write_bytes(os.urandom(SIZE))
        with self.empty.open("wb") as file:
            file.truncate(SIZE)
        for domain in self.domains:
            place = self.place(domain)
            place.mkdir(parents=True)
            server = ConnectionRef(id=new_id(), connection=str(place))
            host.storage_pool.connect_storage_server(self.pool, StorageDomainType.LOCALFS, [server])
            host.storage_domain.create(domain, StorageDomainType.LOCALFS, str(place), domain[:8])
        host.storage_pool.create(self.pool, "dc", self.domains[0], 1, list(self.domains))
        host.storage_pool.connect(self.pool, 1, "", self.domains[0], 1)
        host.storage_pool.spm_start(self.pool)

    def images(self, domain: str) -> Path:
        return self.place(domain) / domain / "images"

    def strays(self) -> list[str]:
        """Files in the domains that no volume's metadata names."""
        found = []
        for domain in self.domains:
            for image in self.images(domain).iterdir():
                metas = {path.name.removesuffix(".meta") for path in image.glob("*.meta")}
                named = {name + suffix for name in metas for suffix in ("", ".meta", ".lease")}
                found += [str(path) for path in image.iterdir() if path.name not in named]
                found += [] if metas else [str(image)]
        return found


class Work:
    """One disk of its own, again and again. `step` may be cut short by anything."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site = site
        self.chance = random.Random(seed)
        self.image = new_id()
        self.domain = site.domains[0]
        self.may_fail = False  # the storage may, and then a job's volume stays ILLEGAL

    def build(self, host: Host) -> None:
        """Once."""

    def step(self, host: Host) -> None:
        raise NotImplementedError

    def settle(self, host: Host) -> None:
        raise NotImplementedError

    def make(self, host: Host, kind: VolumeFormat = VolumeFormat.RAW, parent: str = BLANK) -> str:
        volume = new_id()
        image = self.image if parent != BLANK else BLANK
        host.volume.create(
            volume, self.site.pool, self.domain, self.image, SIZE, kind, VolumeAllocation.SPARSE,
            DiskContentType.DATA, "", image, parent,
        )  # fmt: skip
        return volume

    def volumes(self, host: Host, domain: str = "") -> dict[str, VolumeInfo]:
        """Those of its image, in one of the domains."""
        domain = domain or self.domain
        try:
            names = host.image.get_volumes(self.image, self.site.pool, domain)
        except NoSuchDisk:
            return {}
        return {name: host.volume.get_info(name, self.site.pool, domain, self.image) for name in names}

    def copy(self, host: Host, volume: str) -> None:
        """Of what every disk is made of."""
        host.sdm.copy_data(
            new_id(),
            CopyDataEndpoint(sd_id=self.site.domains[0], img_id=MASTER.image, vol_id=MASTER.volume),
            CopyDataEndpoint(sd_id=self.domain, img_id=self.image, vol_id=volume),
        )

    def delete(self, host: Host, domain: str = "") -> None:
        host.image.delete(self.image, self.site.pool, domain or self.domain)

    def path(self, volume: str, domain: str = "") -> Path:
        return self.site.images(domain or self.domain) / self.image / volume

    def check(self, volume: VolumeInfo, expected: Path) -> None:
        """Raises CalledProcessError."""
        kind = "raw" if volume.format is VolumeFormat.RAW else "qcow2"
        path = self.path(volume.uuid, volume.domain)
        subprocess.run(["qemu-img", "compare", "-q", "-f", kind, "-F", "raw", path, expected], check=True)


@dataclass
class _Master:
    """The image that copies are made of."""

    image: str = field(default_factory=new_id)
    volume: str = field(default_factory=new_id)

    def build(self, site: Site, host: Host) -> None:
        host.volume.create(
            self.volume, site.pool, site.domains[0], self.image, SIZE, VolumeFormat.RAW,
            VolumeAllocation.PREALLOCATED, DiskContentType.DATA, "",
        )  # fmt: skip
        (site.images(site.domains[0]) / self.image / self.volume).write_bytes(site.full.read_bytes())


MASTER = _Master()


class Making(Work):
    """Volumes made, a second one on the first, and removed."""

    def step(self, host: Host) -> None:
        self.image = new_id()
        base = self.make(host, self.chance.choice([VolumeFormat.RAW, VolumeFormat.COW]))
        if self.chance.random() < 0.5:
            self.make(host, VolumeFormat.COW, base)
        self.delete(host)

    def settle(self, host: Host) -> None:
        if found := self.volumes(host):
            top = next(volume for volume in found.values() if not volume.children)
            self.check(top, self.site.empty)
            self.delete(host)


class Copying(Work):
    """A volume made and filled."""

    def step(self, host: Host) -> None:
        self.image = new_id()
        self.copy(host, self.make(host, self.chance.choice([VolumeFormat.RAW, VolumeFormat.COW])))
        self.delete(host)

    def settle(self, host: Host) -> None:
        for volume in self.volumes(host).values():
            if volume.legality is VolumeLegality.LEGAL or not self.may_fail:
                assert volume.legality is VolumeLegality.LEGAL, "its job was taken up again"
                self.check(volume, self.site.full if volume.generation else self.site.empty)
            self.delete(host)


class Merging(Work):
    """A snapshot made, written to and merged back; what a guest would read is in `expected`."""

    def __init__(self, site: Site, seed: int) -> None:
        super().__init__(site, seed)
        self.expected = site.daemon.home / f"expected-{seed}.raw"

    def build(self, host: Host) -> None:
        self.copy(host, self.make(host))
        self.expected.write_bytes(self.site.full.read_bytes())

    def step(self, host: Host) -> None:
        (base,) = self.volumes(host).values()
        top = self.make(host, VolumeFormat.COW, base.uuid)
        self._write(top)
        self._merge(host, base.uuid, top)

    def _write(self, top: str) -> None:
        """As a guest does."""
        at, patch = self.chance.randrange(SIZE // PATCH) * PATCH, self.site.daemon.home / f"{self.image}.patch"
        patch.write_bytes(data := os.urandom(PATCH))
        words = ["qemu-io", "-f", "qcow2", "-c", f"write -q -s {patch} {at} {PATCH}", self.path(top)]
        subprocess.run(words, check=True, capture_output=True)
        with self.expected.open("r+b") as file:
            os.pwrite(file.fileno(), data, at)

    def _merge(self, host: Host, base: str, top: str, *, prepared: bool = False) -> None:
        where = SubchainInfo(sd_id=self.domain, img_id=self.image, top_id=top, base_id=base)
        if not prepared:
            host.storage_pool.prepare_merge(self.site.pool, where)
        host.sdm.merge(new_id(), where)
        host.storage_pool.finalize_merge(self.site.pool, where)
        host.image.delete_volumes(self.image, self.site.pool, self.domain, [top])

    def settle(self, host: Host) -> None:
        found = self.volumes(host)
        base = next(volume for volume in found.values() if volume.parent == BLANK)
        top = next((volume for volume in found.values() if volume.parent != BLANK), None)
        if top is None or top.legality is VolumeLegality.ILLEGAL:
            self.check(base, self.expected)
        else:
            self.check(top, self.expected)
            self._merge(host, base.uuid, top.uuid, prepared=base.legality is VolumeLegality.ILLEGAL)
        if top is not None and top.legality is VolumeLegality.ILLEGAL:
            host.image.delete_volumes(self.image, self.site.pool, self.domain, [top.uuid])
        (base,) = self.volumes(host).values()
        self.check(base, self.expected)


class Moving(Work):
    """An image with two volumes, from one domain to the other and back."""

    def build(self, host: Host) -> None:
        base = self.make(host)
        self.copy(host, base)
        self.make(host, VolumeFormat.COW, base)

    def step(self, host: Host) -> None:
        here, there = self._where(host)
        host.image.move(self.image, self.site.pool, here, there, ImageMoveOperation.MOVE)

    def _where(self, host: Host) -> tuple[str, str]:
        """The domain it is in, and the other one."""
        first, second = self.site.domains
        return (first, second) if self.volumes(host, first) else (second, first)

    def settle(self, host: Host) -> None:
        for domain in self.site.domains if self.may_fail else ():
            if self.site.images(domain).joinpath(f"_remove_me_{self.image}").exists():
                self.delete(host, domain)  # the end of a move
        here, there = self._where(host)
        assert not self.volumes(host, there), "it is in one place"
        found = self.volumes(host, here)
        assert {volume.legality for volume in found.values()} == {VolumeLegality.LEGAL}
        assert len(found) == 2
        for volume in found.values():
            self.check(volume, self.site.full)


class Uploading(Work):
    """A disk that comes through the image port, made, filled and removed."""

    def __init__(self, site: Site, seed: int) -> None:
        super().__init__(site, seed)
        self.name = f"up{seed}"

    def step(self, host: Host) -> None:
        self._upload(ok=False)
        with contextlib.suppress(StopIteration):
            host.disk.delete(self._disk(host))

    def _upload(self, *, ok: bool) -> None:
        words = ("disk", "upload", str(self.site.full), "--name", self.name, "--storage", self.domain)
        self.site.daemon.shell(*words, ok=ok)

    def _disk(self, host: Host) -> str:
        return next(row.id for row in host.disk.list() if row.name == self.name)

    def settle(self, host: Host) -> None:
        with contextlib.suppress(StopIteration):
            disk = host.disk.get_info(self._disk(host))
            if disk.status != "OK":
                self._upload(ok=True)
            words = ["qemu-img", "compare", "-q", "-f", "raw", "-F", "raw", disk.path, self.site.full]
            subprocess.run(words, check=True)
            host.disk.delete(disk.id)
