# SPDX-License-Identifier: Apache-2.0
"""`vdsmsh disk upload` and `disk download`: image files to disks and back, through the host's image port."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager

from vdsm.client import address

from . import names, show, units
from .faults import OK, REFUSED, Fault, usage
from .image_door import ImageDoor
from .moving import LANES, fetch, in_sectors, same, send
from .options import COMMON
from .parse import Parser, add_common
from .progress import Drawing
from .text import look_of, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any, BinaryIO

    from .session import Session

QCOW2 = b"QFI\xfb"


def upload(session: Session, words: Sequence[str]) -> int:
    """Returns the exit code. Raises Fault."""
    parser = Parser("vdsmsh disk upload")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--name")
    parser.add_argument("--format", choices=("raw", "qcow2"))
    parser.add_argument("--storage")
    parser.add_argument("--verify", action="store_const", const=True)
    add_common(parser, COMMON)
    given = {k: v for k, v in parser.read(words).items() if v is not None}
    try:
        with open(given["file"], "rb", buffering=0) as file:  # a buffer would not notice `os.lseek`
            return _upload(session, file, given)
    except OSError as error:
        raise usage(f"{given['file']} cannot be read: {error.strerror}") from None


def _upload(session: Session, file: BinaryIO, given: dict[str, Any]) -> int:
    head, length = file.read(32), os.fstat(file.fileno()).st_size
    if not length:
        raise usage(f"{given['file']} is empty")
    kind = given.get("format") or ("qcow2" if head.startswith(QCOW2) else "raw")
    seen = int.from_bytes(head[24:32], "big") if kind == "qcow2" else length
    name = given.get("name") or os.path.basename(given["file"]).rpartition(".")[0] or os.path.basename(given["file"])
    disk_id = next((key for key, known in session.objects("disk", given) if known == name), "")
    if not disk_id:
        wanted = {"name": name, "size": seen, "format": kind, "uploadSize": length}
        if given.get("storage"):
            wanted["storage"] = given["storage"]
        disk_id = session.ask("Disk.create", wanted, given)["id"]
    transfer = session.ask("Disk.startUpload", {"diskID": disk_id}, given)
    if transfer["format"] != kind or not length <= transfer["size"] < length + 4096:
        detail = f"disk {name} waits for another file: {transfer['size']} bytes of {transfer['format']}"
        raise Fault(REFUSED, {"detail": detail, "hint": "Delete it (`vdsmsh disk delete`), or give another --name."})
    host, size = _host(session, given), int(transfer["size"])
    gone = int(transfer["transferred"])
    with _doors(transfer, host) as doors, _Progress(name, size) as drawing:
        send(doors, file, gone, size, drawing.at)
    if gone or given.get("verify"):
        with _doors({**transfer, "id": transfer["checkId"]}, host) as doors:
            _compare(doors[0], file, size, f"Delete {name} and upload it again.")
    made = session.ask("Disk.finishUpload", {"diskID": disk_id}, given)
    show.changed(session.index, "Disk.finishUpload", made, session.output(given), name)
    return OK


def download(session: Session, words: Sequence[str]) -> int:
    """Returns the exit code. Raises Fault."""
    parser = Parser("vdsmsh disk download")
    parser.add_argument("disk", metavar="DISK")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--verify", action="store_const", const=True)
    add_common(parser, COMMON)
    given = {k: v for k, v in parser.read(words).items() if v is not None}
    if os.path.exists(given["file"]):
        raise usage(f"{given['file']} exists already")
    disk_id = names.resolve(session, "disk", given["disk"], given)
    transfer = session.ask("Disk.startDownload", {"diskID": disk_id}, given)
    part, size = f"{given['file']}.part", int(transfer["size"])
    try:
        with (
            open(part, "r+b" if os.path.exists(part) else "w+b") as file,
            _doors(transfer, _host(session, given)) as doors,
        ):
            spans = list(in_sectors(_data(transfer, doors[0]), size))
            with _Progress(given["disk"], size) as drawing:
                again = fetch(doors, file, spans, size, drawing.at)
            if again or given.get("verify"):
                _compare(doors[0], file, size, f"Remove {part} and download it again.")
        os.rename(part, given["file"])
    except OSError as error:
        raise usage(f"{part}: {error.strerror}") from None
    finally:
        session.ask("Host.remove_image_ticket", {"uuid": transfer["id"]}, given)
    say(f"{given['file']}: {units.size(size)} of {transfer['format']}")
    return OK


def _data(transfer: Mapping[str, Any], door: ImageDoor) -> Iterable[tuple[int, int]]:
    if (told := transfer["data"]) is None:
        return door.extents()
    return [(extent["start"], extent["start"] + extent["length"]) for extent in told]


def _compare(door: ImageDoor, file: BinaryIO, size: int, hint: str) -> None:
    if not same(door, file, size):
        detail = "the disk and the file differ: one was changed on the way, or between two attempts"
        raise Fault(REFUSED, {"detail": detail, "hint": hint})


def _host(session: Session, given: Mapping[str, Any]) -> str:
    """Where the daemon was reached; empty: on this machine."""
    chosen = {**session.common, **given}
    found = address.find(None if chosen.get("socket") else chosen.get("url"))
    return "" if chosen.get("socket") or found.path else found.host


@contextmanager
def _doors(transfer: Mapping[str, Any], host: str) -> Iterator[list[ImageDoor]]:
    doors = [ImageDoor(transfer, host) for _ in range(LANES)]
    try:
        yield doors
    finally:
        for door in doors:
            door.close()


class _Progress:
    def __init__(self, name: str, size: int) -> None:
        self._name, self._size = name, size
        self._drawing = Drawing(look_of(sys.stderr), sys.stderr.isatty())

    def at(self, done: int) -> None:
        percent = 100 * done / self._size
        self._drawing.note(f"{self._drawing.bar(percent)} {percent:3.0f} %  {self._name}, {units.size(self._size)}")

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._drawing.end()
