# SPDX-License-Identifier: Apache-2.0
"""Managers' verbs on volumes and images on a real file system with qemu-img: what a guest wrote is read ever after."""

from __future__ import annotations

import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.daemon import Daemon
from harness.storage_work import Site, new_id
from vdsm.client import Host
from vdsm.contract.errors_storage import ImageVerificationError, RemoteTransferError
from vdsm.contract.image import HttpTransfer, ImageMoveOperation, SyncType
from vdsm.contract.storage_words import (
    BLANK,
    DiskContentType,
    VolumeAllocation,
    VolumeFormat,
    VolumeLegality,
    VolumeRole,
)
from vdsm.contract.types import Secret

MIB = 1 << 20
SIZE = 8 * MIB
RAW, COW = VolumeFormat.RAW, VolumeFormat.COW


class Yard:
    """Two domains of one pool, and a guest that writes patterns, a megabyte each."""

    def __init__(self, daemon: Daemon, host: Host) -> None:
        self.host = host
        self.site = Site(daemon)
        self.site.build(host)
        self.pool, (self.one, self.two) = self.site.pool, self.site.domains

    def make(
        self, image: str, kind: VolumeFormat, parent: str = BLANK, parent_image: str = "", *, size: int = SIZE
    ) -> str:
        volume = new_id()
        self.host.volume.create(
            volume, self.pool, self.one, image, size, kind, VolumeAllocation.SPARSE, DiskContentType.DATA, "",
            (parent_image or image) if parent != BLANK else BLANK, parent,
        )  # fmt: skip
        return volume

    def path(self, image: str, volume: str, domain: str = "") -> Path:
        return self.site.images(domain or self.one) / image / volume

    def write(self, path: Path, kind: VolumeFormat, at: int, pattern: int) -> None:
        self._io(path, kind, f"write -q -P {pattern} {at * MIB} {MIB}")

    def reads(self, path: Path, kind: VolumeFormat, patterns: list[int]) -> bool:
        words = [f"read -P {pattern} {at * MIB} {MIB}" for at, pattern in enumerate(patterns)]
        return "verification failed" not in self._io(path, kind, *words)

    def _io(self, path: Path, kind: VolumeFormat, *commands: str) -> str:
        form = {RAW: "raw", COW: "qcow2"}[kind]
        words = ["qemu-io", "-f", form, *(word for command in commands for word in ("-c", command)), str(path)]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def check(self) -> list[str]:
        found = [row for domain in (self.one, self.two) for row in self.host.storage.check(domain)]
        return [f"{row.where}: {row.what}" for row in found if "dom_md" not in row.where]


@pytest.fixture
def yard(daemon: Daemon) -> Iterator[Yard]:
    daemon.start()
    with daemon.connect() as host:
        yield Yard(daemon, host)


def test_a_chain_grows_shrinks_and_moves(yard: Yard) -> None:
    host, image = yard.host, new_id()
    where = (yard.pool, yard.one, image)
    base = yard.make(image, RAW)
    yard.write(yard.path(image, base), RAW, 0, 1)
    middle = yard.make(image, COW, base)
    yard.write(yard.path(image, middle), COW, 1, 2)
    top = yard.make(image, COW, middle)
    host.volume.extend_size(*where, top, 2 * SIZE)
    yard.write(yard.path(image, top), COW, 2, 3)
    host.volume.verify_untrusted(*where, top)
    whole = host.volume.measure(top, *where, COW).required
    alone = host.volume.measure(top, *where, COW, False).required
    assert whole - alone == 2 * MIB

    # Merged behind the metadata's back, as QEMU does it.
    subprocess.run(["qemu-img", "commit", "-q", "-d", "-f", "qcow2", yard.path(image, middle)], check=True)
    subprocess.run(
        ["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", base, yard.path(image, top)], check=True
    )
    assert host.image.reconcile_volume_chain(*where, top) == [base, top]
    host.image.delete_volumes(image, yard.pool, yard.one, [middle])
    assert sorted(host.image.get_volumes(image, yard.pool, yard.one)) == sorted([base, top])
    assert yard.reads(yard.path(image, top), COW, [1, 2, 3, 0])

    host.image.move(image, yard.pool, yard.one, yard.two, ImageMoveOperation.MOVE)
    assert not yard.path(image, top).parent.exists()
    assert yard.reads(yard.path(image, top, yard.two), COW, [1, 2, 3, 0])
    assert host.volume.get_info(top, yard.pool, yard.two, image).capacity == 2 * SIZE
    host.image.clone_structure(image, yard.pool, yard.two, yard.one)
    host.image.sync_data(image, yard.pool, yard.two, yard.one, SyncType.ALL)
    assert yard.reads(yard.path(image, top), COW, [1, 2, 3, 0])
    host.volume.delete(top, yard.pool, yard.one, image)
    assert yard.reads(yard.path(image, base), RAW, [1, 2, 0, 0])
    assert host.volume.get_info(base, yard.pool, yard.one, image).voltype is VolumeRole.LEAF
    assert yard.check() == []
    assert yard.site.strays() == []


@pytest.mark.parametrize("kind", [RAW, COW])
def test_images_go_on_from_a_template(yard: Yard, kind: VolumeFormat) -> None:
    host, source, template, derived = yard.host, new_id(), new_id(), new_id()
    base = yard.make(source, RAW)
    yard.write(yard.path(source, base), RAW, 0, 1)
    shared = new_id()
    words = ("", VolumeRole.SHARED, kind, VolumeAllocation.SPARSE)
    for domain in (yard.one, yard.two):
        host.volume.copy(base, yard.pool, yard.one, source, domain, template, shared, *words)
    leaf = yard.make(derived, COW, shared, template)
    home, linked = yard.path(template, shared), yard.path(derived, shared)
    for suffix in ("", ".meta", ".lease"):
        assert Path(f"{linked}{suffix}").samefile(f"{home}{suffix}")
    yard.write(yard.path(derived, leaf), COW, 1, 2)
    assert yard.reads(yard.path(derived, leaf), COW, [1, 2])
    assert host.volume.get_info(shared, yard.pool, yard.one, template).children == [leaf]
    host.image.move(derived, yard.pool, yard.one, yard.two, ImageMoveOperation.MOVE)
    assert yard.reads(yard.path(derived, leaf, yard.two), COW, [1, 2])
    assert home.stat().st_nlink == 1
    assert yard.path(template, shared, yard.two).stat().st_nlink == 2
    assert yard.check() == []
    assert yard.site.strays() == []
    host.image.delete(derived, yard.pool, yard.two)
    assert yard.reads(yard.path(template, shared, yard.two), kind, [1, 0])


class Shelf(http.server.BaseHTTPRequestHandler):
    """Gives what was put there."""

    protocol_version = "HTTP/1.1"
    held: bytes = b""

    def do_PUT(self) -> None:
        Shelf.held = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(Shelf.held)

    def _answer(self, body: bytes) -> None:
        self.send_response(200 if "secret-word" in self.headers.get("Authorization", "") else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def shelf() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shelf)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_host_fetches_and_sends(daemon: Daemon, shelf: str) -> None:
    config = daemon.file.read_text()
    daemon.file.write_text(f'{config}\n[transfers]\nremote_servers = ["{shelf}"]\n')
    daemon.start()
    with daemon.connect() as host:
        yard = Yard(daemon, host)
        source, target = new_id(), new_id()
        base, copy = yard.make(source, COW), yard.make(target, COW)
        yard.write(yard.path(source, base), COW, 1, 7)
        url, headers = f"http://{shelf}/a", {"Authorization": Secret("secret-word")}
        args = HttpTransfer(url=url, headers=headers)
        host.image.upload(args, yard.pool, yard.one, source)
        host.image.download(args, yard.pool, yard.one, target)
        assert yard.reads(yard.path(target, copy), COW, [0, 7])
        assert yard.check() == []

        secret = daemon.home / "secret"
        secret.write_bytes(bytes(SIZE))
        evil = daemon.home / "evil"
        words = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", secret, evil, str(SIZE)]
        subprocess.run(words, check=True)
        Shelf.held = evil.read_bytes()
        with pytest.raises(ImageVerificationError):
            host.image.download(args, yard.pool, yard.one, target)
        info = host.volume.get_info(copy, yard.pool, yard.one, target)
        assert info.legality is VolumeLegality.ILLEGAL
        with pytest.raises(RemoteTransferError, match="403"):
            host.image.download(HttpTransfer(url=url), yard.pool, yard.one, target)
    assert "secret-word" not in daemon.said()
