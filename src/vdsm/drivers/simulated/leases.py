# SPDX-License-Identifier: Apache-2.0
"""The `Leases` port in memory: several hosts, one board of leases between them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from vdsm.contract.errors import Problem
from vdsm.contract.errors_storage import (
    AcquireHostIdFailure,
    AcquireLockFailure,
    ClusterLockInitError,
    LockManagerUnavailable,
    ReleaseHostIdFailure,
    SanlockInquireError,
    SanlockLVBError,
)
from vdsm.core.ports.leases import Lease, LeaseState, Lockspace

from .faults import Faults
from .tree import Tree

_Place = tuple[str, int]
_RECORD = struct.Struct("<IIII5Q48s48sQ8xI2xH336x")
_HOST_ID, _LEASE, _CLEARED = 0x12212010, 0x06152010, 0x11282016
_HOSTS = 2000
_SUMMED = 168


@dataclass(slots=True)
class _Written:
    """A lease on the storage."""

    lockspace: str
    name: str
    version: int = 0
    owner: int = 0
    value: bytes = b""


@dataclass(slots=True)
class Board:
    """What the hosts' storage says."""

    spaces: dict[_Place, str] = field(default_factory=dict)
    hosts: dict[tuple[str, int], SimulatedLeases] = field(default_factory=dict)
    leases: dict[_Place, _Written] = field(default_factory=dict)


class SimulatedLeases:
    """One host's lock manager. What it writes is seen in the files of `tree`, where they are there."""

    def __init__(self, board: Board | None = None, faults: Faults | None = None, tree: Tree | None = None) -> None:
        self.board = board or Board()
        self._faults = faults or Faults()
        self._tree = tree
        self.installed = True
        self._held: dict[tuple[str, str], Lease] = {}
        self._lost: Callable[[Collection[Lease]], None] = lambda leases: None

    def lose(self) -> None:
        """Let the storage be lost for too long."""
        lost = list(self._held.values())
        for lease in lost:
            self._let_go(lease)
        self._held.clear()
        self.board.hosts = {place: host for place, host in self.board.hosts.items() if host is not self}
        if lost:
            self._lost(lost)

    def watch(self, lost: Callable[[Collection[Lease]], None]) -> None:
        self._lost = lost

    async def format_lockspace(self, space: Lockspace, *, io_timeout: int = 10) -> None:
        await self._suffer("format_lockspace", lambda reason: ClusterLockInitError(lease=space.name, reason=reason))
        self.board.spaces[space.path, space.offset] = space.name
        self._write(space.path, space.offset, _record(_HOST_ID, space.name, hosts=1, io_timeout=io_timeout))
        self._write(space.path, space.offset + space.alignment, b"")

    async def format_lease(self, lease: Lease) -> None:
        await self._suffer("format_lease", lambda reason: ClusterLockInitError(lease=lease.name, reason=reason))
        self.board.leases[lease.path, lease.offset] = written = _Written(lockspace=lease.lockspace, name=lease.name)
        self._show(lease, written)
        self._write(lease.path, lease.offset + lease.alignment, b"")

    async def clear_lease(self, lease: Lease) -> None:
        await self._suffer("clear_lease", lambda reason: ClusterLockInitError(lease=lease.name, reason=reason))
        self.board.leases.pop((lease.path, lease.offset), None)
        self._write(lease.path, lease.offset, _record(_CLEARED, lease.lockspace, lease.name))

    async def join(self, space: Lockspace, host_id: int, *, io_timeout: int = 10) -> None:
        def problem(reason: str) -> AcquireHostIdFailure:
            return AcquireHostIdFailure(host_id=host_id, lockspace=space.name, reason=reason)

        await self._suffer("join", problem)
        if self.board.spaces.get((space.path, space.offset)) != space.name:
            raise problem("No such lockspace there")
        if self.board.hosts.setdefault((space.name, host_id), self) is not self:
            raise problem("another host has it")
        record = _record(
            _HOST_ID, space.name, f"host{host_id}", owner=host_id, generation=1, time=1, io_timeout=io_timeout
        )
        self._write(space.path, space.offset + (host_id - 1) * space.sector, record)

    async def leave(self, space: Lockspace, host_id: int) -> None:
        def problem(reason: str) -> ReleaseHostIdFailure:
            return ReleaseHostIdFailure(host_id=host_id, lockspace=space.name, reason=reason)

        await self._suffer("leave", problem)
        if any(lockspace == space.name for lockspace, _ in self._held):
            raise problem("Device or resource busy")
        if self.board.hosts.get((space.name, host_id)) is self:
            del self.board.hosts[space.name, host_id]
            record = _record(_HOST_ID, space.name, f"host{host_id}", owner=host_id, generation=1)
            self._write(space.path, space.offset + (host_id - 1) * space.sector, record)

    async def joined(self, space: Lockspace, host_id: int) -> bool:
        return self.board.hosts.get((space.name, host_id)) is self

    async def acquire(self, lease: Lease, host_id: int, *, with_value: bool = False) -> None:
        def problem(reason: str) -> AcquireLockFailure:
            return AcquireLockFailure(lease=lease.name, reason=reason)

        await self._suffer("acquire", problem)
        if (lease.lockspace, lease.name) in self._held:
            return
        written = self.board.leases.get((lease.path, lease.offset))
        if self.board.hosts.get((lease.lockspace, host_id)) is not self:
            raise problem("No such device")
        if written is None or (written.lockspace, written.name) != (lease.lockspace, lease.name):
            raise problem("Lease is not there")
        if written.owner:
            raise problem(f"host {written.owner} holds it")
        written.owner = host_id
        written.version += 1
        self._held[lease.lockspace, lease.name] = lease
        self._show(lease, written)

    async def write_value(self, lease: Lease, value: bytes) -> None:
        await self._suffer("write_value", lambda reason: SanlockLVBError(lease=lease.name, reason=reason))
        if (lease.lockspace, lease.name) not in self._held:
            raise SanlockLVBError(lease=lease.name, reason="it is not held")
        self.board.leases[lease.path, lease.offset].value = value

    async def release(self, lease: Lease, host_id: int) -> None:
        await self._suffer("release", lambda reason: LockManagerUnavailable(reason=reason))
        if self._held.pop((lease.lockspace, lease.name), None) is not None:
            self._let_go(lease)

    async def state(self, lease: Lease) -> LeaseState:
        written = self.board.leases.get((lease.path, lease.offset))
        if written is None or (written.lockspace, written.name) != (lease.lockspace, lease.name):
            raise SanlockInquireError(lease=lease.name, reason="Lease is not there")
        return LeaseState(version=written.version, owners=[written.owner] if written.owner else [])

    async def held(self) -> Sequence[tuple[str, str]]:
        return list(self._held)

    async def close(self) -> None:
        for lease in list(self._held.values()):
            self._let_go(lease)
        self._held.clear()

    async def _suffer(self, method: str, problem: Callable[[str], Problem]) -> None:
        if not self.installed:
            raise LockManagerUnavailable(reason="it is not installed")
        await self._faults.suffer(method, problem)

    def _let_go(self, lease: Lease) -> None:
        if (written := self.board.leases.get((lease.path, lease.offset))) is not None:
            written.owner = 0
            self._show(lease, written)

    def _show(self, lease: Lease, written: _Written) -> None:
        record = _record(
            _LEASE, lease.lockspace, lease.name, hosts=_HOSTS, owner=written.owner, version=written.version,
            time=1 if written.owner else 0,
        )  # fmt: skip
        self._write(lease.path, lease.offset, record)
        if written.value:
            self._write(lease.path, lease.offset + (2 + _HOSTS) * lease.sector, written.value)

    def _write(self, path: str, offset: int, data: bytes) -> None:
        """At least as long as `offset` and the data it is afterwards."""
        if self._tree is not None and path in self._tree.nodes:
            node = self._tree.file(path)
            if data:
                node.data.extend(bytes(max(offset + len(data) - len(node.data), 0)))
                node.data[offset : offset + len(data)] = data
            node.size = max(node.size, offset + len(data))


def _record(
    magic: int, space: str, name: str = "", *, hosts: int = 0, owner: int = 0, generation: int = 0, version: int = 0,
    time: int = 0, io_timeout: int = 0,
) -> bytes:  # fmt: skip
    """As sanlock writes one."""

    def packed(checksum: int) -> bytes:
        return _RECORD.pack(
            magic, 0x30004, 0x10, 512, 0, hosts, owner, generation, version, space.encode(), name.encode(), time,
            checksum, io_timeout,
        )  # fmt: skip

    return packed(_crc32c(packed(0)[:_SUMMED]))


def _crc32c(data: bytes) -> int:
    """Without the last complement, as sanlock has it."""
    sum_ = 0xFFFFFFFE
    for byte in data:
        sum_ ^= byte
        for _ in range(8):
            sum_ = (sum_ >> 1) ^ (0x82F63B78 if sum_ & 1 else 0)
    return sum_
