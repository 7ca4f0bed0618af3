# SPDX-License-Identifier: Apache-2.0
"""Transfers: one suite for the real ovirt-imageio and for its simulated twin; data goes up and comes down."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import ssl
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.certificates import Authority
from harness.ports import free_port
from harness.until import BUSY
from vdsm.contract.errors import InvalidParams
from vdsm.contract.errors_storage import ImageDaemonError, ImageTicketsError
from vdsm.contract.host_tickets import TransferOp
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.ports.disks import Image
from vdsm.core.ports.transfers import Export, Ticket, Transfers
from vdsm.drivers.imageio import Door, ImageioTransfers
from vdsm.drivers.imageio.daemon import Daemon, configuration
from vdsm.drivers.qemu import QemuDisks, QemuServers
from vdsm.drivers.simulated.transfers import SimulatedTransfers

MiB = 1 << 20
BOTH = [TransferOp.READ, TransferOp.WRITE]


def ticket(url: str = "file:///dev/null", size: int = MiB, **rest: object) -> Ticket:
    words = {"uuid": str(uuid.uuid4()), "ops": BOTH, "timeout": 300, "sparse": True, "transfer_id": "t"} | rest
    return Ticket(url=url, size=size, **words)


@pytest.fixture(params=["imageio", "simulated"])
async def transfers(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Transfers]:
    made: Transfers = SimulatedTransfers()
    if request.param == "imageio":
        made = ImageioTransfers(tmp_path / "imageio", Door(host="127.0.0.1", port=free_port()))
    yield made
    await made.close()


async def test_a_tickets_life(transfers: Transfers) -> None:
    one = ticket()
    await transfers.add(one)
    state = await transfers.get(one.uuid)
    assert (state.uuid, state.size, state.active, state.connections, state.canceled) == (one.uuid, MiB, False, 0, False)
    assert (state.url, state.ops, state.timeout) == (one.url, BOTH, 300)
    assert not state.transferred
    await transfers.extend(one.uuid, 900)
    assert 580 < (await transfers.get(one.uuid)).expires - state.expires < 620
    for _ in range(2):
        await transfers.remove(one.uuid)
    for call in (transfers.get(one.uuid), transfers.extend(one.uuid, 1)):
        with pytest.raises(ImageTicketsError, match="No such ticket"):
            await call


async def test_tickets_that_are_refused(transfers: Transfers) -> None:
    await transfers.add(ticket())
    with pytest.raises(ImageTicketsError, match="Invalid"):
        await transfers.add(ticket("ftp://example.com/image"))


# ---- ovirt-imageio itself --------------------------------------------------------------------------------------------


class Lab:
    """Images behind NBD, and a client at ovirt-imageio's door."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        door = Door(host="127.0.0.1", port=self.port)
        self.transfers = ImageioTransfers(directory / "imageio", door)
        self.daemon = Daemon(directory / "imageio", door)  # the same one, to look at
        self.disks = QemuDisks()
        self.servers = QemuServers(directory / "nbd")

    async def image(self, name: str, image_format: DiskFormat, size: int) -> Image:
        made = Image(path=f"{self.directory}/{name}", format=image_format)
        await self.disks.create(made, size)
        return made

    async def let_in(self, image: Image, size: int, *, writes: bool) -> Ticket:
        export = Export(image=image, read_only=not writes, discard=True, detect_zeroes=True)
        url = await self.servers.start(os.path.basename(image.path), export)
        made = ticket(url, size, ops=[TransferOp.WRITE if writes else TransferOp.READ])
        await self.transfers.add(made)
        return made

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body=body, headers=names)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    async def end(self) -> None:
        await self.transfers.close()
        for server_id in await self.servers.running():
            await self.servers.stop(server_id)
        await self.servers.close()
        self.disks.close()


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    made = Lab(tmp_path)
    yield made
    await made.end()


@pytest.mark.parametrize("image_format", list(DiskFormat))
async def test_up_and_down_again(lab: Lab, image_format: DiskFormat) -> None:
    """In two parts, as after a cut, a hole between: what comes down is what went up, and the hole takes no room."""
    size, data = 64 * MiB, os.urandom(2 * MiB)
    image = await lab.image("disk", image_format, size)
    up = await lab.let_in(image, size, writes=True)
    path = f"/images/{up.uuid}"

    def send() -> None:
        for start, part in ((0, data[:MiB]), (62 * MiB, data[MiB:])):
            span = f"bytes {start}-{start + MiB - 1}/*"
            assert lab.ask("PUT", path, part, Content_Range=span)[0] == 200
        zero = {"op": "zero", "offset": MiB, "size": 61 * MiB, "flush": True}
        assert lab.ask("PATCH", path, json.dumps(zero).encode(), Content_Type="application/json")[0] == 200

    await asyncio.to_thread(send)
    assert (await lab.transfers.get(up.uuid)).transferred == 63 * MiB
    await lab.transfers.remove(up.uuid)
    assert (await asyncio.to_thread(lab.ask, "GET", path))[0] == 403
    await lab.servers.stop("disk")

    assert (await lab.disks.verify(image, largest=size)).actual_size < 4 * MiB
    down = await lab.let_in(image, size, writes=False)
    status, found = await asyncio.to_thread(lab.ask, "GET", f"/images/{down.uuid}")
    assert status == 200
    assert found == data[:MiB] + bytes(61 * MiB) + data[MiB:] + bytes(MiB)
    status, extents = await asyncio.to_thread(lab.ask, "GET", f"/images/{down.uuid}/extents")
    assert [(e["start"], e["length"], e["zero"]) for e in json.loads(extents)] == [
        (0, MiB, False),
        (MiB, 61 * MiB, True),
        (62 * MiB, MiB, False),
        (63 * MiB, MiB, True),
    ]
    status, checksum = await asyncio.to_thread(lab.ask, "GET", f"/images/{down.uuid}/checksum")
    assert (status, json.loads(checksum)["algorithm"]) == (200, "blake2b")
    assert (await asyncio.to_thread(lab.ask, "PUT", f"/images/{down.uuid}", b"x" * 512))[0] == 403


async def test_without_a_ticket_nothing_is_given(lab: Lab) -> None:
    await lab.transfers.add(ticket())
    for path in ("/images/", f"/images/{uuid.uuid4()}", "/tickets/", "/images/../../etc/passwd"):
        status, _ = await asyncio.to_thread(lab.ask, "GET", path)
        assert status in (400, 403, 404)


async def test_what_is_beyond_the_ticket_is_refused(lab: Lab) -> None:
    image = await lab.image("disk", DiskFormat.RAW, 4 * MiB)
    narrow = await lab.let_in(image, MiB, writes=True)
    span = f"bytes {MiB}-{MiB + 511}/*"
    status, _ = await asyncio.to_thread(lab.ask, "PUT", f"/images/{narrow.uuid}", b"x" * 512, Content_Range=span)
    assert status in (403, 416)


async def test_one_that_dies_is_started_again_without_its_tickets(lab: Lab) -> None:
    one, two = ticket(), ticket()
    await lab.transfers.add(one)
    pid = lab.daemon.pid()
    os.kill(pid, 9)
    end = time.monotonic() + 10 * BUSY
    while lab.daemon.pid():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
    with pytest.raises(ImageDaemonError):
        await lab.transfers.get(one.uuid)
    await lab.transfers.remove(one.uuid)
    await lab.transfers.add(two)
    assert (await lab.transfers.get(two.uuid)).size == MiB
    with pytest.raises(ImageTicketsError):
        await lab.transfers.get(one.uuid)


async def test_a_new_vdsmd_keeps_the_one_that_runs(lab: Lab, tmp_path: Path) -> None:
    one = ticket()
    await lab.transfers.add(one)
    later = ImageioTransfers(tmp_path / "imageio", Door(host="127.0.0.1", port=lab.port))
    await later.add(ticket())
    assert (await later.get(one.uuid)).uuid == one.uuid
    other = ImageioTransfers(tmp_path / "imageio", Door(host="127.0.0.1", port=free_port()))
    await other.add(ticket())
    with pytest.raises(ImageTicketsError):
        await other.get(one.uuid)
    await other.close()
    assert lab.daemon.pid() == 0


async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        one = ImageioTransfers(tmp_path / "imageio", Door(host="127.0.0.1", port=taken.getsockname()[1]))
        with pytest.raises(ImageDaemonError, match="Address already in use"):
            await one.add(ticket())
        await one.close()


async def test_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    host, port = authority.host("127.0.0.1"), free_port()
    pem = {"key_file": str(host.key), "cert_file": str(host.certificate), "ca_file": str(authority.certificate)}
    served = ImageioTransfers(tmp_path / "imageio", Door(host="127.0.0.1", port=port, **pem))
    (tmp_path / "image").write_bytes(b"guest" * 1000)
    one = ticket(f"file://{tmp_path}/image", 5000, ops=[TransferOp.READ])
    await served.add(one)

    def fetch() -> bytes:
        trust = ssl.create_default_context(cafile=str(authority.certificate))
        trust.check_hostname = False
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=trust, timeout=30)
        connection.request("GET", f"/images/{one.uuid}")
        data = connection.getresponse().read()
        connection.close()
        return data

    assert await asyncio.to_thread(fetch) == b"guest" * 1000
    await served.close()


def test_without_certificates_only_this_host_is_served(tmp_path: Path) -> None:
    for host in ("::", "0.0.0.0", "10.99.0.1"):
        with pytest.raises(ValueError, match="certificate"):
            configuration(tmp_path, Door(host=host))
    configuration(tmp_path, Door(host="::1"))


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a?b", "x" * 65])
async def test_ids_that_are_none(tmp_path: Path, name: str) -> None:
    one = ImageioTransfers(tmp_path / "imageio", Door(host="127.0.0.1"))
    with pytest.raises(InvalidParams):
        await one.get(name)
    await one.close()
