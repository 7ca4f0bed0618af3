# SPDX-License-Identifier: Apache-2.0
"""The process that holds the daemon's leases, by Debian's python3-sanlock: so it runs on the system's own Python.

sanlock kills whoever holds a lease that is lost. That is this process, not the daemon, which learns it by its end.
"""

import contextlib
import errno
import importlib
import os
import select
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

from vdsm.drivers.workers.serving import Answer

_HANGS_UP = select.POLLHUP | select.POLLERR | select.POLLRDHUP
_DONE = "init done 0"
_NEVER_ANSWERED = (errno.ENOENT, errno.ECONNREFUSED, errno.EACCES)


class _Door:
    """This process's connection to sanlock, by which it holds leases."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()  # requests and answers on one connection must not mix
        self._handle: int | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[int]:
        with self._mutex:
            if self._handle is None:
                self._handle = _sanlock().register()
                threading.Thread(target=_end_with, args=(self._handle,), daemon=True).start()
            yield self._handle

    @property
    def used(self) -> bool:
        return self._handle is not None


_door = _Door()


def _end_with(handle: int) -> None:
    """When sanlock is gone nothing is held any more."""
    poll = select.poll()
    poll.register(handle, _HANGS_UP)
    poll.poll()
    os._exit(1)


def _sanlock() -> Any:
    try:
        return importlib.import_module("sanlock")
    except ImportError:
        raise OSError(errno.ENOPKG, "Debian's python3-sanlock is not installed") from None


@contextlib.contextmanager
def _said() -> Iterator[Any]:
    """The library, with its errors as OSError: ENOPKG when it or its daemon is not there."""
    sanlock = _sanlock()
    try:
        yield sanlock
    except sanlock.SanlockException as error:
        number, _, text = (*error.args, "", "")[:3]
        if number in _NEVER_ANSWERED and not _alive(sanlock):
            raise OSError(errno.ENOPKG, "its daemon does not run") from None
        raise OSError(number or errno.EIO, text or str(error)) from None


def _alive(sanlock: Any) -> bool:
    try:
        os.close(sanlock.register())
    except sanlock.SanlockException:
        return False
    return True


def _disks(path: str, offset: int) -> list[tuple[str, int]]:
    return [(path, offset)]


# ---- what can be asked -----------------------------------------------------------------------------------------------


def format_lockspace(name: str, path: str, offset: int, alignment: int, sector: int, io_timeout: int) -> Answer:
    _init("-s", f"{name}:0", path, offset, ["-Z", sector, "-A", f"{alignment >> 20}M", "-o", io_timeout])
    return None, b""


def format_lease(lockspace: str, name: str, path: str, offset: int, alignment: int, sector: int) -> Answer:
    _init("-r", f"{lockspace}:{name}", path, offset, ["-Z", sector, "-A", f"{alignment >> 20}M"])
    return None, b""


def _init(kind: str, name: str, path: str, offset: int, options: list[Any]) -> None:
    """By the program, which needs no daemon; why it fails it tells by a number at most."""
    os.close(os.open(path, os.O_RDWR | os.O_NOFOLLOW))
    directory, file = os.path.split(path)  # what may stand in a path cannot stand in a command line's
    words = ["sanlock", "direct", "init", kind, f"{name}:{file}:{offset}", *map(str, options)]
    try:
        done = subprocess.run(words, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except FileNotFoundError:
        raise OSError(errno.ENOPKG, "Debian's sanlock is not installed") from None
    if done.returncode or _DONE not in done.stdout.splitlines():
        raise OSError(errno.EIO, " ".join((done.stdout + done.stderr).split())[:200] or "sanlock failed")


def clear_lease(lockspace: str, name: str, path: str, offset: int, alignment: int, sector: int) -> Answer:
    with _said() as sanlock:
        sanlock.write_resource(
            lockspace.encode(), name.encode(), _disks(path, offset), clear=True, align=alignment, sector=sector
        )
    return None, b""


def join(name: str, host_id: int, path: str, offset: int, io_timeout: int) -> Answer:
    with _said() as sanlock:
        if not sanlock.inq_lockspace(name.encode(), host_id, path, offset=offset, wait=True):
            sanlock.add_lockspace(name.encode(), host_id, path, offset=offset, iotimeout=io_timeout)
    return None, b""


def leave(name: str, host_id: int, path: str, offset: int) -> Answer:
    with _said() as sanlock:
        if sanlock.inq_lockspace(name.encode(), host_id, path, offset=offset, wait=True):
            sanlock.rem_lockspace(name.encode(), host_id, path, offset=offset, unused=True)
    return None, b""


def joined(name: str, host_id: int, path: str, offset: int) -> Answer:
    with _said() as sanlock:
        return sanlock.inq_lockspace(name.encode(), host_id, path, offset=offset) is True, b""


def acquire(lockspace: str, name: str, path: str, offset: int, with_value: bool) -> Answer:
    with _said() as sanlock, _door.open() as handle:
        if (lockspace, name) not in _held(sanlock, handle):
            sanlock.acquire(lockspace.encode(), name.encode(), _disks(path, offset), slkfd=handle, lvb=with_value)
    return None, b""


def write_value(lockspace: str, name: str, path: str, offset: int, data: bytes) -> Answer:
    with _said() as sanlock:
        sanlock.set_lvb(lockspace.encode(), name.encode(), _disks(path, offset), data)
    return None, b""


def release(lockspace: str, name: str, path: str, offset: int) -> Answer:
    if _door.used:
        with _said() as sanlock, _door.open() as handle:
            if (lockspace, name) in _held(sanlock, handle):
                sanlock.release(lockspace.encode(), name.encode(), _disks(path, offset), slkfd=handle)
    return None, b""


def state(lockspace: str, name: str, path: str, offset: int, alignment: int, sector: int) -> Answer:
    with _said() as sanlock:
        found = sanlock.read_resource(path, offset, align=alignment, sector=sector)
        owners = sanlock.read_resource_owners(
            lockspace.encode(), name.encode(), _disks(path, offset), align=alignment, sector=sector
        )
    return {"version": found["version"], "owners": [owner["host_id"] for owner in owners]}, b""


def held() -> Answer:
    if not _door.used:
        return [], b""
    with _said() as sanlock, _door.open() as handle:
        return _held(sanlock, handle), b""


def _held(sanlock: Any, handle: int) -> list[tuple[str, str]]:
    return [(found["lockspace"].decode(), found["resource"].decode()) for found in sanlock.inquire(slkfd=handle)]


OPERATIONS: dict[str, Callable[..., Answer]] = {
    call.__name__: call
    for call in (
        format_lockspace,
        format_lease,
        clear_lease,
        join,
        leave,
        joined,
        acquire,
        write_value,
        release,
        state,
        held,
    )
}
