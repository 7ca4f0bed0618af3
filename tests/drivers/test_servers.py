# SPDX-License-Identifier: Apache-2.0
"""Images served over NBD: one suite for qemu-nbd and for its simulated twin."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vdsm.contract.errors import InvalidParams
from vdsm.contract.errors_storage import FileMissing, ImageOperationFailed, ImageVerificationError
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.ports.disks import DiskImages, Image
from vdsm.core.ports.transfers import Export, ImageServers
from vdsm.drivers.qemu import QemuDisks, QemuServers
from vdsm.drivers.simulated.disks import SimulatedDisks
from vdsm.drivers.simulated.transfers import SimulatedServers
from vdsm.drivers.simulated.tree import Tree

MiB = 1 << 20
QCOW2 = DiskFormat.QCOW2


class Lab:
    """Servers, and images for them."""

    def __init__(self, servers: ImageServers, disks: DiskImages, directory: str) -> None:
        self.servers = servers
        self.disks = disks
        self.directory = directory

    async def image(self, name: str = "disk", backing: Image | None = None) -> Image:
        made = Image(path=f"{self.directory}/{name}", format=QCOW2, backing=backing)
        await self.disks.create(made, 4 * MiB)
        return made


@pytest.fixture(params=["qemu-nbd", "simulated"])
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    if request.param == "qemu-nbd":
        made = Lab(QemuServers(tmp_path / "nbd"), QemuDisks(), str(tmp_path))
    else:
        tree = Tree()
        tree.directory("/images")
        disks = SimulatedDisks(tree)
        made = Lab(SimulatedServers(disks), disks, "/images")
    yield made
    for server_id in await made.servers.running():
        await made.servers.stop(server_id)
    await made.servers.close()
    made.disks.close()


async def test_start_and_stop_twice(lab: Lab) -> None:
    image = await lab.image()
    urls = {await lab.servers.start("one", Export(image=image)) for _ in range(2)}
    (url,) = urls
    assert url.startswith("nbd:unix:/")
    assert await lab.servers.running() == ["one"]
    for _ in range(2):
        await lab.servers.stop("one")
    assert await lab.servers.running() == []


async def test_what_cannot_be_served(lab: Lab) -> None:
    image = await lab.image()
    with pytest.raises(FileMissing):
        await lab.servers.start("one", Export(image=Image(path=f"{lab.directory}/absent", format=QCOW2)))
    with pytest.raises(ImageVerificationError):
        await lab.servers.start("one", Export(image=Image(path=image.path, format=QCOW2, backing=image)))
    with pytest.raises(ImageOperationFailed, match="nightly"):
        await lab.servers.start("one", Export(image=image, bitmap="nightly"))
    assert await lab.servers.running() == []


# ---- qemu-nbd itself -------------------------------------------------------------------------------------------------


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[Lab]:
    made = Lab(QemuServers(tmp_path / "nbd"), QemuDisks(), str(tmp_path))
    yield made
    for server_id in await made.servers.running():
        await made.servers.stop(server_id)
    await made.servers.close()
    made.disks.close()


def client(url: str, *commands: str, writes: bool = False) -> str:
    words = ["qemu-io", "-f", "raw", *([] if writes else ["-r"]), *(w for c in commands for w in ("-c", c)), url]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


async def test_a_client_writes_and_reads(real: Lab) -> None:
    image = await real.image()
    url = await real.servers.start("one", Export(image=image, read_only=False, discard=True, detect_zeroes=True))
    assert "wrote 1048576" in client(url, "write -P 5 1M 1M", "flush", writes=True)
    said = client(url, "read -P 5 1M 1M", "read -P 0 0 1M")
    assert "verification failed" not in said
    assert said.count("read 1048576/1048576") == 2


async def test_read_only_is_read_only(real: Lab) -> None:
    url = await real.servers.start("one", Export(image=await real.image()))
    assert "wrote" not in client(url, "write 0 64k", writes=True)


async def test_with_and_without_what_is_below(real: Lab) -> None:
    base = await real.image("base")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 1M", base.path], check=True, capture_output=True)
    top = await real.image("top", backing=base)
    whole = await real.servers.start("whole", Export(image=top))
    alone = await real.servers.start("alone", Export(image=top, with_backing=False))
    assert "verification failed" not in client(whole, "read -P 7 0 1M")
    assert "verification failed" not in client(alone, "read -P 0 0 1M")


async def test_a_server_outlives_the_daemon(real: Lab, tmp_path: Path) -> None:
    url = await real.servers.start("one", Export(image=await real.image()))
    await real.servers.close()
    later = QemuServers(tmp_path / "nbd")
    assert await later.running() == ["one"]
    assert "read 65536" in client(url, "read 0 64k")
    await later.stop("one")
    assert "read 65536" not in client(url, "read 0 64k")
    await later.close()


async def test_a_stale_process_id_is_nobodys_server(real: Lab, tmp_path: Path) -> None:
    (tmp_path / "nbd").mkdir()
    sleeper = subprocess.Popen(["sleep", "60"])
    (tmp_path / "nbd/one.pid").write_text(f"{sleeper.pid}\n")
    assert await real.servers.running() == []
    await real.servers.stop("one")
    assert sleeper.poll() is None
    sleeper.kill()
    sleeper.wait()


@pytest.mark.parametrize("server_id", ["", "../x", "a/b", "-x", "a b", "x" * 65])
async def test_ids_that_are_none(real: Lab, server_id: str) -> None:
    with pytest.raises(InvalidParams):
        await real.servers.stop(server_id)
