# SPDX-License-Identifier: Apache-2.0
"""The process that touches the files of one root, so that storage that hangs hangs nothing else.

It runs with the standard library alone, so that it starts in some 20 ms. The daemon's side is `LinuxFiles`.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import stat
import time
from collections.abc import Callable, Iterator

from vdsm.drivers.workers.serving import Answer

_BLOCK = 4096
_PIECE_MAX = 64 * 1024  # of each file that read_all reads
_DEPTH_MAX = 64
_RENAME_NOREPLACE = 1
_DIRECT_TEST = "__DIRECT_IO_TEST__"  # the name existing hosts use
_UP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextlib.contextmanager
def _opened(handle: int) -> Iterator[int]:
    try:
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _directory(root: str, path: str) -> Iterator[int]:
    """The directory at `path`, reached name by name, so that no link and nothing above `root` is ever entered."""
    handle = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in filter(None, path.split("/")):
            inner = _enter(handle, name)
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


def _enter(above: int, name: str) -> int:
    if name in (".", ".."):
        raise OSError(errno.ELOOP, "")
    try:
        return os.open(name, _UP, dir_fd=above)
    except NotADirectoryError:
        if stat.S_ISLNK(os.lstat(name, dir_fd=above).st_mode):
            raise OSError(errno.ELOOP, "") from None
        raise


@contextlib.contextmanager
def _parent(root: str, path: str) -> Iterator[tuple[int, str]]:
    above, _, name = path.rpartition("/")
    if name in ("", ".", ".."):
        raise OSError(errno.ELOOP, "")
    with _directory(root, above) as handle:
        yield handle, name


@contextlib.contextmanager
def _file(root: str, path: str, flags: int, mode: int = 0) -> Iterator[int]:
    """A plain file."""
    with _parent(root, path) as (above, name), _opened(os.open(name, flags | _PLAIN, mode, dir_fd=above)) as handle:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "")
        yield handle


def _give(handle: int, above: int) -> None:
    """What is made belongs to whom its directory belongs: other hosts use it as a user of their own, not as root."""
    owner = os.stat(above)
    if os.geteuid() == 0 and (owner.st_uid, owner.st_gid) != (0, 0):
        with contextlib.suppress(PermissionError):  # NFS that takes root for nobody
            os.chown(handle, owner.st_uid, owner.st_gid)


def _keep(above: int) -> None:
    """Let the names of a directory be on the disk."""
    with _opened(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=above)) as handle:
        os.fsync(handle)


def _write_all(handle: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written


def _read_direct(handle: int, offset: int, length: int) -> bytes:
    """In whole blocks, into memory that is aligned as direct I/O wants it."""
    start = offset // _BLOCK * _BLOCK
    end = -(-(offset + length) // _BLOCK) * _BLOCK
    with mmap.mmap(-1, end - start) as buffer:
        got = os.preadv(handle, [buffer], start)
        return buffer[offset - start : min(got, offset - start + length)]


@contextlib.contextmanager
def _fresh(root: str, path: str) -> Iterator[tuple[int, bool]]:
    """A file to be read past the page cache, and whether its file system can."""
    try:
        with _file(root, path, os.O_RDONLY | os.O_DIRECT) as handle:
            yield handle, True
            return
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    with _file(root, path, os.O_RDONLY) as handle:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        yield handle, False


# ---- what can be asked -----------------------------------------------------------------------------------------------


def read(root: str, path: str, most: int) -> Answer:
    with _file(root, path, os.O_RDONLY) as handle:
        if os.fstat(handle).st_size > most:
            raise OSError(errno.EFBIG, "")
        data = bytearray()
        while piece := os.read(handle, most + 1 - len(data)):
            data += piece
            if len(data) > most:
                raise OSError(errno.EFBIG, "")
        return None, bytes(data)


def read_at(root: str, path: str, offset: int, length: int) -> Answer:
    with _fresh(root, path) as (handle, direct):
        return None, _read_direct(handle, offset, length) if direct else os.pread(handle, length, offset)


def read_all(root: str, path: str, suffix: str) -> Answer:
    found: list[tuple[str, int]] = []
    data = bytearray()
    with _directory(root, path) as handle:
        for directory in _names(handle):
            try:
                inner = _enter(handle, directory)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):  # a file, a link, or gone meanwhile
                    continue
                raise
            with _opened(inner):
                for name in _names(inner):
                    if name.endswith(suffix) and (piece := _piece(inner, name)) is not None:
                        found.append((_text(f"{path}/{directory}/{name}").lstrip("/"), len(piece)))
                        data += piece
    return found, bytes(data)


def _piece(above: int, name: str) -> bytes | None:
    try:
        with _opened(os.open(name, os.O_RDONLY | _PLAIN, dir_fd=above)) as handle:
            return os.read(handle, _PIECE_MAX) if stat.S_ISREG(os.fstat(handle).st_mode) else None
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENXIO, errno.ELOOP):  # ENXIO: a socket
            return None
        raise


def create(root: str, path: str, data: bytes, size: int, mode: int) -> Answer:
    with _parent(root, path) as (above, name):
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN, mode, dir_fd=above)
        try:
            with _opened(handle):
                _give(handle, above)
                os.fchmod(handle, mode)
                _write_all(handle, data, 0)
                if size > len(data):
                    os.ftruncate(handle, size)
                os.fsync(handle)
            _keep(above)
        except OSError:
            os.unlink(name, dir_fd=above)
            raise
    return None, b""


def replace(root: str, path: str, data: bytes, mode: int) -> Answer:
    with _parent(root, path) as (above, name):
        fresh = f"{name}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=above)  # left by a host that died
        try:
            with _opened(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN, mode, dir_fd=above)) as handle:
                _give(handle, above)
                os.fchmod(handle, mode)
                _write_all(handle, data, 0)
                os.fsync(handle)
            os.rename(fresh, name, src_dir_fd=above, dst_dir_fd=above)
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh, dir_fd=above)
            raise
        _keep(above)
    return None, b""


def write_at(root: str, path: str, offset: int, data: bytes) -> Answer:
    with _file(root, path, os.O_WRONLY) as handle:
        _write_all(handle, data, offset)
        os.fsync(handle)
    return None, b""


def resize(root: str, path: str, size: int) -> Answer:
    with _file(root, path, os.O_WRONLY) as handle:
        os.ftruncate(handle, size)
        os.fsync(handle)
    return None, b""


def status(root: str, path: str) -> Answer:
    return _status(root, path), b""


def statuses(root: str, paths: list[str]) -> Answer:
    found: list[dict[str, object] | None] = []
    for path in paths:
        try:
            found.append(_status(root, path))
        except FileNotFoundError:
            found.append(None)
    return found, b""


def _status(root: str, path: str) -> dict[str, object]:
    if path:
        with _parent(root, path) as (above, name):
            found = os.lstat(name, dir_fd=above)
    else:
        found = os.stat(root)
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
    return {
        "kind": kinds.get(stat.S_IFMT(found.st_mode), "other"),
        "size": found.st_size,
        "allocated": found.st_blocks * 512,
        "modified": int(found.st_mtime),
        "links": found.st_nlink,
        "mode": stat.S_IMODE(found.st_mode),
        "inode": found.st_ino,
    }


def extents(root: str, path: str, most: int) -> Answer:
    found: list[tuple[int, int]] = []
    with _file(root, path, os.O_RDONLY) as handle:
        size, end = os.fstat(handle).st_size, 0
        while end < size:
            try:
                start = os.lseek(handle, end, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break  # only a hole is left
            end = os.lseek(handle, start, os.SEEK_HOLE) if len(found) < most - 1 else size
            found.append((start, end - start))
    return found, b""


def names(root: str, path: str) -> Answer:
    with _directory(root, path) as handle:
        return [_text(name) for name in _names(handle)], b""


def _text(name: str) -> str:
    """For JSON; bytes that are no UTF-8 are no name of ours."""
    return os.fsencode(name).decode(errors="replace")


def _names(above: int) -> list[str]:
    with _opened(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=above)) as handle:
        return sorted(os.listdir(handle))


def make_directory(root: str, path: str, mode: int) -> Answer:
    at = ""
    for name in path.split("/"):
        with _directory(root, at) as above, contextlib.suppress(FileExistsError):
            os.mkdir(name, mode, dir_fd=above)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            with _opened(os.open(name, flags, dir_fd=above)) as made:
                _give(made, above)
                os.fchmod(made, mode)
            _keep(above)
        at = f"{at}/{name}"
    with _directory(root, path):
        return None, b""


def rename(root: str, old: str, new: str) -> Answer:
    with _parent(root, old) as (above, name), _parent(root, new) as (there, renamed):
        if _rename_no_replace(above, name, there, renamed) == errno.EINVAL:  # NFS cannot promise it: look first
            with contextlib.suppress(FileNotFoundError):
                os.lstat(renamed, dir_fd=there)
                raise OSError(errno.EEXIST, "")
            os.rename(name, renamed, src_dir_fd=above, dst_dir_fd=there)
        _keep(above)
        _keep(there)
    return None, b""


def _rename_no_replace(above: int, name: str, there: int, renamed: str) -> int:
    """0, or EINVAL where the file system does not know how."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(above, os.fsencode(name), there, os.fsencode(renamed), _RENAME_NOREPLACE) == 0:
        return 0
    failed = ctypes.get_errno()
    if failed == errno.EINVAL:
        return failed
    raise OSError(failed, "")


def link(root: str, old: str, new: str) -> Answer:
    with _parent(root, old) as (above, name), _parent(root, new) as (there, second):
        os.link(name, second, src_dir_fd=above, dst_dir_fd=there, follow_symlinks=False)
        _keep(there)
    return None, b""


def make_symlink(root: str, path: str, target: str) -> Answer:
    with _parent(root, path) as (above, name):
        fresh = f"{name}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=above)
        os.symlink(target, fresh, dir_fd=above)
        try:
            os.rename(fresh, name, src_dir_fd=above, dst_dir_fd=above)
        except OSError:
            os.unlink(fresh, dir_fd=above)
            raise
        _keep(above)
    return None, b""


def read_symlink(root: str, path: str) -> Answer:
    with _parent(root, path) as (above, name):
        return _text(os.readlink(name, dir_fd=above)), b""


def remove(root: str, path: str) -> Answer:
    try:
        with _parent(root, path) as (above, name):
            _remove(above, name, 0)
            _keep(above)
    except FileNotFoundError:
        return False, b""
    return True, b""


def _remove(above: int, name: str, depth: int) -> None:
    if depth > _DEPTH_MAX:
        raise OSError(errno.ENAMETOOLONG, "")
    if not stat.S_ISDIR(os.lstat(name, dir_fd=above).st_mode):
        os.unlink(name, dir_fd=above)
        return
    with _opened(os.open(name, _UP, dir_fd=above)) as handle:
        for inner in _names(handle):
            _remove(handle, inner, depth + 1)
    os.rmdir(name, dir_fd=above)


def real_path(root: str) -> Answer:
    return _text(os.path.realpath(root)), b""


def space(root: str) -> Answer:
    found = os.statvfs(root)
    return {
        "total": found.f_blocks * found.f_frsize,
        "available": found.f_bavail * found.f_frsize,
        "read_only": bool(found.f_flag & os.ST_RDONLY),
    }, b""


def probe(root: str, path: str) -> Answer:
    began = time.monotonic()
    with _fresh(root, path) as (handle, direct):
        if direct:
            _read_direct(handle, 0, _BLOCK)
        else:
            os.pread(handle, _BLOCK, 0)
    return time.monotonic() - began, b""


def block_size(root: str) -> Answer:
    with _parent(root, _DIRECT_TEST) as (above, name):
        try:
            return _smallest_direct_write(above, name), b""
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=above)


def _smallest_direct_write(above: int, name: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | _PLAIN
    try:
        handle = os.open(name, flags | os.O_DIRECT, 0o600, dir_fd=above)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        os.close(os.open(name, flags, 0o600, dir_fd=above))  # read-only storage must be told from this
        return 1
    with _opened(handle), mmap.mmap(-1, _BLOCK) as buffer:
        for size in (512, _BLOCK):
            try:
                os.pwrite(handle, memoryview(buffer)[:size], 0)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
            else:
                return size
    return 1


OPERATIONS: dict[str, Callable[..., Answer]] = {
    call.__name__: call
    for call in (
        read, read_at, read_all, create, replace, write_at, resize, status, statuses, extents, names, make_directory,
        rename, link, make_symlink, read_symlink, remove, real_path, space, probe, block_size,
    )
}  # fmt: skip
