# SPDX-License-Identifier: Apache-2.0
"""`vdsmsh disk upload` and `disk download`: image files to disks and back, through the host's image port."""

from __future__ import annotations

import os
import sys

from vdsm.client import address

from . import names, show, units
from .faults import OK, REFUSED, Fault, usage
from .image_door import ImageDoor, checksum
from .options import COMMON
from .parse import Parser, add_common
from .progress import Drawing
from .text import look_of, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, BinaryIO

    from .session import Session

CHUNK = 8 << 20
QCOW2 = b"QFI\xfb"


def upload(session: Session, words: Sequence[str]) -> int:
    """Returns the exit code. Raises Fault."""
    parser = Parser("vdsmsh disk upload")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--name")
    parser.add_argument("--format", choices=("raw", "qcow2"))
    parser.add_argument("--storage")
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
    host = _host(session, given)
    door, check = ImageDoor(transfer, host), ImageDoor({**transfer, "id": transfer["checkId"]}, host)
    try:
        _send(door, file, transfer, name)
        _compare(check.checksum(), checksum(file, transfer["size"]), f"Delete {name} and upload it again.")
    finally:
        door.close()
        check.close()
    made = session.ask("Disk.finishUpload", {"diskID": disk_id}, given)
    show.changed(session.index, "Disk.finishUpload", made, session.output(given), name)
    return OK


def _send(door: ImageDoor, file: BinaryIO, transfer: Mapping[str, Any], name: str) -> None:
    """In order from where it stopped: then what was sent is all there is before."""
    drawing, at, size = _Progress(name, transfer["size"]), int(transfer["transferred"]), int(transfer["size"])
    try:
        for start, end, data in _extents(file, at, size):
            while at < end:
                part = min(CHUNK, end - at) if data else end - start
                if data:
                    file.seek(at)
                    door.write(at, file.read(part))
                else:
                    door.zero(at, part)
                at += part
                drawing.at(at)
        door.flush()
    finally:
        drawing.end()


def _extents(file: BinaryIO, at: int, size: int) -> Iterator[tuple[int, int, bool]]:
    """From `at` on: start, end, and whether there is data; what the file system knows of holes."""
    length = os.fstat(file.fileno()).st_size
    while at < min(length, size):
        try:
            data = os.lseek(file.fileno(), at, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            break
        if data > at:
            yield at, data, False
        at = min(os.lseek(file.fileno(), data, os.SEEK_HOLE), size)
        yield data, at, True
    if at < size:
        yield at, size, False


def download(session: Session, words: Sequence[str]) -> int:
    """Returns the exit code. Raises Fault."""
    parser = Parser("vdsmsh disk download")
    parser.add_argument("disk", metavar="DISK")
    parser.add_argument("file", metavar="FILE")
    add_common(parser, COMMON)
    given = {k: v for k, v in parser.read(words).items() if v is not None}
    if os.path.exists(given["file"]):
        raise usage(f"{given['file']} exists already")
    disk_id = names.resolve(session, "disk", given["disk"], given)
    transfer = session.ask("Disk.startDownload", {"diskID": disk_id}, given)
    door = ImageDoor(transfer, _host(session, given))
    part = f"{given['file']}.part"
    try:
        with open(part, "r+b" if os.path.exists(part) else "w+b") as file:
            _fetch(door, file, int(transfer["size"]), given["disk"])
            _compare(door.checksum(), checksum(file, transfer["size"]), f"Remove {part} and download it again.")
        os.rename(part, given["file"])
    except OSError as error:
        raise usage(f"{part}: {error.strerror}") from None
    finally:
        door.close()
        session.ask("Host.remove_image_ticket", {"uuid": transfer["id"]}, given)
    say(f"{given['file']}: {units.size(int(transfer['size']))} of {transfer['format']}")
    return OK


def _fetch(door: ImageDoor, file: BinaryIO, size: int, name: str) -> None:
    """The file grows as it comes; blocks of zeros stay holes."""
    drawing, at = _Progress(name, size), min(file.seek(0, os.SEEK_END), size)
    file.truncate(at)
    try:
        while at < size:
            data = door.read(at, min(CHUNK, size - at))
            for start in range(0, len(data), 65536):
                block = data[start : start + 65536]
                if block.count(0) != len(block):
                    file.seek(at + start)
                    file.write(block)
            at += len(data)
            file.truncate(at)
            drawing.at(at)
    finally:
        drawing.end()


def _compare(there: str, here: str, hint: str) -> None:
    if there != here:
        detail = "the disk and the file differ: one was changed on the way, or between two attempts"
        raise Fault(REFUSED, {"detail": detail, "hint": hint})


def _host(session: Session, given: Mapping[str, Any]) -> str:
    """Where the daemon was reached; empty: on this machine."""
    chosen = {**session.common, **given}
    found = address.find(None if chosen.get("socket") else chosen.get("url"))
    return "" if chosen.get("socket") or found.path else found.host


class _Progress:
    def __init__(self, name: str, size: int) -> None:
        self._name, self._size = name, size
        self._drawing = Drawing(look_of(sys.stderr), sys.stderr.isatty())

    def at(self, done: int) -> None:
        percent = 100 * done / self._size
        self._drawing.note(f"{self._drawing.bar(percent)} {percent:3.0f} %  {self._name}, {units.size(self._size)}")

    def end(self) -> None:
        self._drawing.end()
