# SPDX-License-Identifier: Apache-2.0
"""Disks' bytes through a real image port: cut anywhere, gone on with, and the same at both ends."""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from harness.ports import free_port
from vdsm.contract.host_tickets import TransferOp
from vdsm.core.ports.transfers import Ticket, TicketState
from vdsm.drivers.imageio import Door, ImageioTransfers
from vdsm.shell.image_door import ImageDoor
from vdsm.shell.moving import BEHIND, LANES, PIECE, data_before, data_of, fetch, in_sectors, place_of, same, send

SIZE = 20 * PIECE + 4096


@pytest.fixture
async def transfers(tmp_path: Path) -> AsyncIterator[ImageioTransfers]:
    made = ImageioTransfers(tmp_path / "imageio", Door(host="127.0.0.1", port=free_port()))
    yield made
    await made.close()


def image(file: Path, seed: int) -> Path:
    """Data of any length, holes, zeros that are no hole, and an end that is in no whole piece."""
    chance = random.Random(seed)
    at = 0
    with file.open("wb") as out:
        while at < SIZE:
            length = min(chance.choice([4096, 65536, PIECE + 4096, 3 * PIECE]), SIZE - at)
            out.seek(at)
            out.write(chance.choice([bytes(length), chance.randbytes(length), b""]))
            at += length
        out.truncate(SIZE)
    return file


class Cut(Exception):
    pass


def until_piece(number: int) -> Callable[[int], None]:
    left = iter(range(number))

    def moved(end: int) -> None:
        if next(left, None) is None:
            raise Cut

    return moved


def doors(transfers: ImageioTransfers, ticket: str) -> list[ImageDoor]:
    at = transfers.door()
    told = {"id": ticket, "listen": at.host, "port": at.port, "tls": False, "fingerprint": ""}
    return [ImageDoor(told, "") for _ in range(LANES)]


async def let_in(transfers: ImageioTransfers, file: Path, op: TransferOp) -> str:
    name = str(uuid.uuid4())
    await transfers.add(Ticket(uuid=name, url=f"file://{file}", size=SIZE, ops=[op], timeout=60, sparse=True))
    return name


@pytest.mark.parametrize("cut", [0, 2, 6])
async def test_up(transfers: ImageioTransfers, tmp_path: Path, cut: int) -> None:
    source, target = image(tmp_path / "source", cut), tmp_path / "target"
    target.touch()
    os.truncate(target, SIZE)
    ticket, check = [await let_in(transfers, target, op) for op in (TransferOp.WRITE, TransferOp.READ)]

    def up(gone: int, moved: Callable[[int], None]) -> None:
        lanes = doors(transfers, ticket)
        with source.open("rb") as file:
            try:
                send(lanes, file, gone, SIZE, moved)
            finally:
                for lane in lanes:
                    lane.close()

    with pytest.raises(Cut):
        await asyncio.to_thread(up, 0, until_piece(cut))
    state: TicketState = await transfers.get(ticket)
    gone = state.transferred or 0
    with source.open("rb") as file:
        at = place_of(list(in_sectors(data_of(file), SIZE)), gone - BEHIND)
    assert target.read_bytes()[:at] == source.read_bytes()[:at]
    ends: list[int] = []
    await asyncio.to_thread(up, gone, ends.append)
    assert ends == sorted(ends)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks <= source.stat().st_blocks
    with source.open("rb") as file, closing(doors(transfers, check)[0]) as door:
        assert await asyncio.to_thread(same, door, file, SIZE)
    os.pwrite(fd := os.open(target, os.O_WRONLY), b"other", PIECE)
    os.close(fd)
    with source.open("rb") as file, closing(doors(transfers, check)[0]) as door:
        assert not await asyncio.to_thread(same, door, file, SIZE)


@pytest.mark.parametrize("cut", [0, 2, 6])
async def test_down(transfers: ImageioTransfers, tmp_path: Path, cut: int) -> None:
    source, target = image(tmp_path / "source", cut), tmp_path / "target"
    ticket = await let_in(transfers, source, TransferOp.READ)
    with source.open("rb") as file:
        spans = list(in_sectors(data_of(file), SIZE))

    def down(moved: Callable[[int], None]) -> bool:
        lanes = doors(transfers, ticket)
        with target.open("r+b") as file:
            try:
                return fetch(lanes, file, spans, SIZE, moved)
            finally:
                for lane in lanes:
                    lane.close()

    target.touch()
    with pytest.raises(Cut):
        await asyncio.to_thread(down, until_piece(cut))
    at = place_of(spans, data_before(spans, target.stat().st_size) - BEHIND)
    assert target.read_bytes()[:at] == source.read_bytes()[:at]
    ends: list[int] = []
    assert await asyncio.to_thread(down, ends.append) == (at > 0)
    assert min(ends) > at
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks <= source.stat().st_blocks
