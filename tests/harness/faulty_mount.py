# SPDX-License-Identifier: Apache-2.0
"""A file system of a test's own that passes everything on to a directory, until it is told to fail or to hang.

FUSE without any library, answered by one thread of the test. Nothing is cached, so each call of a program is a request.
As root.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .hung_mount import HungMount

HANG = -1
_REQUEST = struct.Struct("=IIQQ16x")  # length, kind, number, node
_ANSWER = struct.Struct("=IiQ")  # length, error, number
_WRITE_MAX = 1 << 17
_ATTRIBUTES = struct.Struct("=6Q10I")
_ENTRY = struct.Struct("=QQQQII")  # node, generation, how long both are valid: not at all
_TRANSFER = struct.Struct("=QQI20x")  # handle, offset, size
_DIRECT = 1  # of an open file: nothing of it is kept in the page cache
_NO_REPLACE = 1
_ROOT = 1
_MODE, _USER, _GROUP, _SIZE = 1, 2, 4, 8  # what a change of attributes may name
_KINDS = {
    1: "lookup", 3: "getattr", 4: "setattr", 5: "readlink", 6: "symlink", 8: "mknod", 9: "mkdir", 10: "unlink",
    11: "rmdir", 12: "rename", 13: "link", 14: "open", 15: "read", 16: "write", 17: "statfs", 18: "release",
    20: "fsync", 25: "flush", 26: "init", 27: "opendir", 28: "readdir", 29: "releasedir", 30: "fsyncdir",
    35: "create", 43: "fallocate", 45: "rename2", 46: "lseek",
}  # fmt: skip
_UNANSWERED = (2, 36, 42)  # forget, interrupt, batch forget


@dataclass
class Fault:
    """`kinds`: of requests, empty for all; `part`: of the path; `skip`: so many pass before; `times`: then all pass."""

    error: int
    kinds: tuple[str, ...] = ()
    part: str = ""
    skip: int = 0
    times: int | None = None
    met: int = 0

    def hits(self, kind: str, path: str) -> bool:
        if (self.kinds and kind not in self.kinds) or self.part not in path or kind == "init":
            return False
        self.met += 1
        return self.met > self.skip and (self.times is None or self.met <= self.skip + self.times)


@dataclass
class _Nodes:
    """Paths by the numbers that the kernel has for them, and back."""

    paths: dict[int, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, path: str) -> int:
        if path not in self.numbers:
            number = self.numbers[path] = len(self.paths) + _ROOT
            self.paths[number] = path
        return self.numbers[path]

    def moved(self, old: str, new: str) -> None:
        self.numbers.pop(new, None)
        for path in [p for p in self.numbers if p == old or p.startswith(f"{old}/")]:
            number = self.numbers.pop(path)
            self.paths[number] = new + path[len(old) :]
            self.numbers[self.paths[number]] = number


class FaultyMount(HungMount):
    """`below` as seen at `directory`."""

    def __init__(self, directory: Path, below: Path) -> None:
        super().__init__(directory, "allow_other")
        self._nodes = _Nodes()
        self._nodes.number(str(below))
        self._faults: list[Fault] = []
        self._held: list[tuple[int, int, int, bytes]] = []
        self._mutex = threading.Lock()
        threading.Thread(target=self._serve, daemon=True).start()

    @contextlib.contextmanager
    def failing(
        self, error: int, *kinds: str, part: str = "", skip: int = 0, times: int | None = None
    ) -> Iterator[Fault]:
        """Within the block; `error` is an errno or HANG."""
        assert set(kinds) <= set(_KINDS.values()), kinds
        fault = Fault(error, kinds, part, skip, times)
        with self._mutex:
            self._faults.append(fault)
        try:
            yield fault
        finally:
            self.heal()

    def heal(self) -> None:
        """Nothing fails any more; what hung is done now."""
        with self._mutex:
            self._faults.clear()
            held, self._held = self._held, []
            for request in held:
                self._do(*request)

    def _serve(self) -> None:
        while True:
            try:
                request = os.read(self._door, _WRITE_MAX + 4096)
            except OSError:  # unmounted
                return
            _, kind, unique, node = _REQUEST.unpack_from(request)
            if kind not in _UNANSWERED:
                with self._mutex:
                    self._meet(kind, unique, node, request[_REQUEST.size :])

    def _meet(self, kind: int, unique: int, node: int, body: bytes) -> None:
        path = self._nodes.paths.get(node, "")
        if kind in (1, 6, 8, 9, 10, 11, 35):  # those about a name in the node
            path = f"{path}/{_name(kind, body)}"
        for fault in self._faults:
            if fault.hits(_KINDS.get(kind, ""), path):
                if fault.error == HANG:
                    self._held.append((kind, unique, node, body))
                else:
                    self._answer(unique, -fault.error)
                return
        self._do(kind, unique, node, body)

    def _do(self, kind: int, unique: int, node: int, body: bytes) -> None:
        work: Callable[[int, bytes], bytes] | None = getattr(self, f"_{_KINDS.get(kind, '')}", None)
        try:
            if work is None:
                raise OSError(errno.ENOSYS, "")
            self._answer(unique, 0, work(node, body))
        except OSError as error:
            self._answer(unique, -(error.errno or errno.EIO))

    def _answer(self, unique: int, error: int, body: bytes = b"") -> None:
        with contextlib.suppress(OSError):  # whoever asked was killed
            os.write(self._door, _ANSWER.pack(_ANSWER.size + len(body), error, unique) + body)

    # ---- requests --------------------------------------------------------------------------------------------------

    def _init(self, node: int, body: bytes) -> bytes:
        big_writes = 1 << 5
        return struct.pack("=IIIIHHIIHHI28x", 7, 31, 0, big_writes, 12, 9, _WRITE_MAX, 1, 32, 0, 0)

    def _entry(self, path: str) -> bytes:
        found = os.lstat(path)
        return _ENTRY.pack(self._nodes.number(path), 0, 0, 0, 0, 0) + _attributes(found)

    def _lookup(self, node: int, body: bytes) -> bytes:
        return self._entry(self._inside(node, body))

    def _inside(self, node: int, name: bytes) -> str:
        return f"{self._nodes.paths[node]}/{os.fsdecode(name.split(bytes(1))[0])}"

    def _getattr(self, node: int, body: bytes) -> bytes:
        flags, handle = struct.unpack_from("=I4xQ", body)
        found = os.fstat(handle) if flags & 1 else os.lstat(self._nodes.paths[node])
        return bytes(16) + _attributes(found)

    def _setattr(self, node: int, body: bytes) -> bytes:
        valid, size, mode, user, group = struct.unpack_from("=I12xQ44xI4xII", body)
        path = self._nodes.paths[node]
        if valid & _SIZE:
            os.truncate(path, size)
        if valid & _MODE:
            os.chmod(path, stat.S_IMODE(mode))
        if valid & (_USER | _GROUP):
            os.lchown(path, user if valid & _USER else -1, group if valid & _GROUP else -1)
        return bytes(16) + _attributes(os.lstat(path))

    def _readlink(self, node: int, body: bytes) -> bytes:
        return os.fsencode(os.readlink(self._nodes.paths[node]))

    def _symlink(self, node: int, body: bytes) -> bytes:
        name, target, _ = body.split(bytes(1), 2)
        path = self._inside(node, name)
        os.symlink(os.fsdecode(target), path)
        return self._entry(path)

    def _mknod(self, node: int, body: bytes) -> bytes:
        mode, device = struct.unpack_from("=II", body)
        path = self._inside(node, body[16:])
        os.mknod(path, mode, device)
        return self._entry(path)

    def _mkdir(self, node: int, body: bytes) -> bytes:
        path = self._inside(node, body[8:])
        os.mkdir(path, struct.unpack_from("=I", body)[0])
        return self._entry(path)

    def _unlink(self, node: int, body: bytes) -> bytes:
        os.unlink(path := self._inside(node, body))
        self._nodes.numbers.pop(path, None)
        return b""

    def _rmdir(self, node: int, body: bytes) -> bytes:
        os.rmdir(path := self._inside(node, body))
        self._nodes.numbers.pop(path, None)
        return b""

    def _rename(self, node: int, body: bytes) -> bytes:
        return self._renamed(node, body[:8], body[8:], 0)

    def _rename2(self, node: int, body: bytes) -> bytes:
        return self._renamed(node, body[:8], body[16:], struct.unpack_from("=I", body, 8)[0])

    def _renamed(self, node: int, there: bytes, names: bytes, flags: int) -> bytes:
        first, second, _ = names.split(bytes(1), 2)
        old, new = self._inside(node, first), self._inside(struct.unpack("=Q", there)[0], second)
        if flags & _NO_REPLACE and os.path.lexists(new):
            raise OSError(errno.EEXIST, "")
        os.rename(old, new)
        self._nodes.moved(old, new)
        return b""

    def _link(self, node: int, body: bytes) -> bytes:
        path = self._inside(node, body[8:])
        os.link(self._nodes.paths[struct.unpack_from("=Q", body)[0]], path)
        return self._entry(path)

    def _open(self, node: int, body: bytes) -> bytes:
        flags = struct.unpack_from("=I", body)[0] & (os.O_ACCMODE | os.O_APPEND)
        return struct.pack("=QI4x", os.open(self._nodes.paths[node], flags), _DIRECT)

    def _create(self, node: int, body: bytes) -> bytes:
        _, mode = struct.unpack_from("=II", body)
        path = self._inside(node, body[16:])
        handle = os.open(path, os.O_RDWR | os.O_CREAT, mode)
        return self._entry(path) + struct.pack("=QI4x", handle, _DIRECT)

    def _read(self, node: int, body: bytes) -> bytes:
        handle, offset, size = _TRANSFER.unpack_from(body)
        return os.pread(handle, size, offset)

    def _write(self, node: int, body: bytes) -> bytes:
        handle, offset, size = _TRANSFER.unpack_from(body)
        return struct.pack("=I4x", os.pwrite(handle, body[_TRANSFER.size :][:size], offset))

    def _statfs(self, node: int, body: bytes) -> bytes:
        s = os.statvfs(self._nodes.paths[_ROOT])
        return struct.pack(
            "=5Q3I28x", s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree, s.f_bsize, s.f_namemax, s.f_frsize
        )

    def _release(self, node: int, body: bytes) -> bytes:
        os.close(struct.unpack_from("=Q", body)[0])
        return b""

    def _fsync(self, node: int, body: bytes) -> bytes:
        return b""  # what is below need not survive the machine

    def _flush(self, node: int, body: bytes) -> bytes:
        return b""

    def _fsyncdir(self, node: int, body: bytes) -> bytes:
        return b""

    def _opendir(self, node: int, body: bytes) -> bytes:
        return bytes(16)

    def _releasedir(self, node: int, body: bytes) -> bytes:
        return b""

    def _readdir(self, node: int, body: bytes) -> bytes:
        _, offset, size = _TRANSFER.unpack_from(body)
        listed = b""
        for number, name in enumerate(sorted(os.listdir(self._nodes.paths[node]))[offset:], offset + 1):
            raw = os.fsencode(name)
            entry = struct.pack("=QQII", number + 1, number, len(raw), 0) + raw + bytes(-len(raw) % 8)
            if len(listed) + len(entry) > size:
                break
            listed += entry
        return listed

    def _fallocate(self, node: int, body: bytes) -> bytes:
        raise OSError(errno.EOPNOTSUPP, "")

    def _lseek(self, node: int, body: bytes) -> bytes:
        handle, offset, whence = struct.unpack_from("=QQI", body)
        return struct.pack("=Q", os.lseek(handle, offset, whence))


class BrokenMount(FaultyMount):
    """One that answers everything with an input/output error."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, directory)
        self._faults.append(Fault(errno.EIO))


def _name(kind: int, body: bytes) -> str:
    skip = {8: 16, 9: 8, 35: 16}.get(kind, 0)
    return os.fsdecode(body[skip:].split(bytes(1))[0])


def _attributes(found: os.stat_result) -> bytes:
    return _ATTRIBUTES.pack(
        found.st_ino, found.st_size, found.st_blocks,
        int(found.st_atime), int(found.st_mtime), int(found.st_ctime), 0, 0, 0,
        found.st_mode, found.st_nlink, found.st_uid, found.st_gid, found.st_rdev, found.st_blksize, 0,
    )  # fmt: skip
