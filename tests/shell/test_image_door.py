# SPDX-License-Identifier: Apache-2.0
"""The shell at a real image port over TLS: the certificate the daemon told of and no other; sums agree."""

from __future__ import annotations

import asyncio
import io
import os
import uuid
from pathlib import Path

import pytest

from harness.certificates import Authority
from harness.ports import free_port
from vdsm.contract.host_tickets import TransferOp
from vdsm.core.ports.transfers import Ticket
from vdsm.drivers.imageio import Door, ImageioTransfers
from vdsm.shell.faults import Fault
from vdsm.shell.image_door import BLOCK, ImageDoor, checksum


async def test_only_the_certificate_the_daemon_told_of(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    own = authority.host("host.example.com")  # whatever its name is
    pem = {"key_file": str(own.key), "cert_file": str(own.certificate), "ca_file": str(authority.certificate)}
    served = ImageioTransfers(tmp_path / "imageio", Door(host="127.0.0.1", port=free_port(), **pem))
    data = os.urandom(4096) + bytes(2 * BLOCK) + os.urandom(8192)
    (tmp_path / "image").write_bytes(data)
    ticket = Ticket(
        uuid=str(uuid.uuid4()), url=f"file://{tmp_path}/image", size=len(data), ops=[TransferOp.READ], timeout=60
    )
    await served.add(ticket)
    at = served.door()
    told = {"id": ticket.uuid, "listen": at.host, "port": at.port, "tls": True, "fingerprint": at.fingerprint}

    def look() -> None:
        door = ImageDoor(told, "")
        assert door.read(0, 4096) == data[:4096]
        assert door.checksum() == checksum(io.BytesIO(data), len(data))
        with pytest.raises(Fault, match="refused"):
            door.write(0, bytes(512))
        door.close()
        with pytest.raises(Fault, match="not the one"):
            ImageDoor({**told, "fingerprint": "0" * 64}, "").read(0, 1)

    await asyncio.to_thread(look)
    await served.close()
