# SPDX-License-Identifier: Apache-2.0
"""The `Leases` port by Debian's sanlock: worker processes speak to its library, and are what holds the leases.

Each lockspace has one of its own: sanlock ends whoever holds a lease there when it is lost, and a call about storage
that hangs holds up the next one on the same connection.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec

from vdsm.contract.errors import InvalidParams, Problem
from vdsm.contract.errors_storage import (
    AcquireHostIdFailure,
    AcquireLockFailure,
    ClusterLockInitError,
    LockManagerUnavailable,
    ReleaseHostIdFailure,
    ReleaseLockFailure,
    SanlockInquireError,
    SanlockLVBError,
)
from vdsm.core.ports.leases import Lease, LeaseState, Lockspace
from vdsm.drivers.worker import Program, Worker

_PYTHON = ("/usr/bin/python3", "-I")  # whose packages python3-sanlock is among
_PATIENCE_S = 60.0
_JOIN_S = 300.0  # the last holder of a host id must be known to be dead: 60 s and 14 times the 10 s of io_timeout
_THREADS = 8
_WRITING = ("format_lockspace", "format_lease")  # which hold nothing
_NO_LOCKSPACE = ""
_JOINS = 6  # at once: sanlock itself serves 8 calls, and who joins on dead storage must leave some to the others
_NAME_MAX = 48  # bytes, in sanlock's format


class SanlockLeases:
    """`run_directory` is that of a sanlock other than the system's."""

    def __init__(self, *, run_directory: str = "") -> None:
        self._lost: Callable[[Collection[Lease]], None] = lambda leases: None
        self._held: dict[tuple[str, str], Lease] = {}
        self._joining = asyncio.Semaphore(_JOINS)
        environment = {"SANLOCK_RUN_DIR": run_directory} if run_directory else {}
        self._program = Program(
            module="vdsm.drivers.workers.leases", threads=_THREADS, python=_PYTHON, environment=environment
        )
        self._workers: dict[str, Worker] = {}

    def watch(self, lost: Callable[[Collection[Lease]], None]) -> None:
        self._lost = lost

    async def format_lockspace(self, space: Lockspace, *, io_timeout: int = 10) -> None:
        args = {"alignment": space.alignment, "sector": space.sector, "io_timeout": io_timeout}
        await self._call(
            space.name,
            "format_lockspace",
            lambda reason: ClusterLockInitError(lease=space.name, reason=reason),
            _space(space) | args,
        )

    async def format_lease(self, lease: Lease) -> None:
        await self._call(
            lease.lockspace,
            "format_lease",
            lambda reason: ClusterLockInitError(lease=lease.name, reason=reason),
            _whole(lease),
        )

    async def clear_lease(self, lease: Lease) -> None:
        await self._call(
            lease.lockspace,
            "clear_lease",
            lambda reason: ClusterLockInitError(lease=lease.name, reason=reason),
            _whole(lease),
        )

    async def join(self, space: Lockspace, host_id: int, *, io_timeout: int = 10) -> None:
        async with self._joining:
            await self._call(
                space.name,
                "join",
                lambda reason: AcquireHostIdFailure(host_id=host_id, lockspace=space.name, reason=reason),
                _space(space) | {"host_id": host_id, "io_timeout": io_timeout},
                seconds=_JOIN_S,
            )

    async def leave(self, space: Lockspace, host_id: int) -> None:
        await self._call(
            space.name,
            "leave",
            lambda reason: ReleaseHostIdFailure(host_id=host_id, lockspace=space.name, reason=reason),
            _space(space) | {"host_id": host_id},
            seconds=_JOIN_S,
        )
        if (worker := self._workers.pop(space.name, None)) is not None:
            await worker.close()

    async def joined(self, space: Lockspace, host_id: int) -> bool:
        found = await self._call(
            space.name,
            "joined",
            lambda reason: AcquireHostIdFailure(host_id=host_id, lockspace=space.name, reason=reason),
            _space(space) | {"host_id": host_id},
        )
        return bool(found)

    async def acquire(self, lease: Lease, host_id: int, *, with_value: bool = False) -> None:
        await self._call(
            lease.lockspace,
            "acquire",
            lambda reason: AcquireLockFailure(lease=lease.name, reason=reason),
            _place(lease) | {"with_value": with_value},
        )
        self._held[lease.lockspace, lease.name] = lease

    async def write_value(self, lease: Lease, value: bytes) -> None:
        await self._call(
            lease.lockspace,
            "write_value",
            lambda reason: SanlockLVBError(lease=lease.name, reason=reason),
            _place(lease),
            data=value,
        )

    async def release(self, lease: Lease, host_id: int) -> None:
        await self._call(
            lease.lockspace,
            "release",
            lambda reason: ReleaseLockFailure(lease=lease.name, reason=reason),
            _place(lease),
        )
        self._held.pop((lease.lockspace, lease.name), None)

    async def state(self, lease: Lease) -> LeaseState:
        found = await self._call(
            lease.lockspace, "state", lambda reason: SanlockInquireError(lease=lease.name, reason=reason), _whole(lease)
        )
        return msgspec.convert(found, LeaseState)

    async def held(self) -> Sequence[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        for name in list(self._workers):
            part = await self._call(name, "held", lambda reason: LockManagerUnavailable(reason=reason), {})
            found += msgspec.convert(part, list[tuple[str, str]])
        return found

    async def close(self) -> None:
        self._held.clear()
        await asyncio.gather(*(worker.close() for worker in self._workers.values()))
        self._workers.clear()

    def _worker(self, lockspace: str, op: str) -> Worker:
        if op in _WRITING and lockspace not in self._workers:  # of a domain that is being made
            lockspace = _NO_LOCKSPACE
        if lockspace not in self._workers:
            self._workers[lockspace] = Worker(
                "sanlock",
                self._program,
                broken=lambda reason: LockManagerUnavailable(reason=reason),
                ended=lambda: self._end(lockspace),
            )
        return self._workers[lockspace]

    def _end(self, lockspace: str) -> None:
        """The worker is gone, and with it all it held."""
        if lost := [lease for lease in self._held.values() if lease.lockspace == lockspace]:
            for lease in lost:
                del self._held[lease.lockspace, lease.name]
            self._lost(lost)

    async def _call(
        self,
        lockspace: str,
        op: str,
        problem: Callable[[str], Problem],
        args: dict[str, object],
        *,
        data: bytes = b"",
        seconds: float = _PATIENCE_S,
    ) -> Any:
        try:
            return (await self._worker(lockspace, op).call(op, args, data, seconds))[0]
        except OSError as error:
            reason = error.strerror or f"error {error.errno}"
            if error.errno == errno.ENOPKG:
                raise LockManagerUnavailable(reason=reason) from None
            raise problem(reason) from None


def _space(space: Lockspace) -> dict[str, object]:
    return {"name": _name(space.name), "path": space.path, "offset": space.offset}


def _place(lease: Lease) -> dict[str, object]:
    return {
        "lockspace": _name(lease.lockspace),
        "name": _name(lease.name),
        "path": lease.path,
        "offset": lease.offset,
    }


def _whole(lease: Lease) -> dict[str, object]:
    return {**_place(lease), "alignment": lease.alignment, "sector": lease.sector}


def _name(name: str) -> str:
    if not name.isascii() or not name.isprintable() or not 0 < len(name) <= _NAME_MAX or ":" in name or "\\" in name:
        raise InvalidParams(
            reason=f"{name!r} is no name of a lease: it has 1 to {_NAME_MAX} ASCII characters, none of them : or \\"
        )
    return name
