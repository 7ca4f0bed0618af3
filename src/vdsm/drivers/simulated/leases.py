# SPDX-License-Identifier: Apache-2.0
"""The `Leases` port in memory: several hosts, one board of leases between them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from vdsm.contract.errors_storage import (
    AcquireHostIdFailure,
    AcquireLockFailure,
    ClusterLockInitError,
    LockManagerUnavailable,
    ReleaseHostIdFailure,
    SanlockInquireError,
)
from vdsm.core.ports.leases import Lease, LeaseState, Lockspace

from .faults import Faults

_Place = tuple[str, int]


@dataclass(slots=True)
class _Written:
    """A lease on the storage."""

    lockspace: str
    name: str
    version: int = 0
    owner: int = 0


@dataclass(slots=True)
class Board:
    """What the hosts' storage says."""

    spaces: dict[_Place, str] = field(default_factory=dict)
    hosts: dict[tuple[str, int], SimulatedLeases] = field(default_factory=dict)
    leases: dict[_Place, _Written] = field(default_factory=dict)


class SimulatedLeases:
    """One host's lock manager."""

    def __init__(self, board: Board | None = None, faults: Faults | None = None) -> None:
        self.board = board or Board()
        self._faults = faults or Faults()
        self._held: dict[tuple[str, str], Lease] = {}
        self._lost: Callable[[Collection[Lease]], None] = lambda leases: None

    def lose(self) -> None:
        """Let the storage be lost for too long."""
        lost = list(self._held.values())
        for lease in lost:
            self.board.leases[lease.path, lease.offset].owner = 0
        self._held.clear()
        self.board.hosts = {place: host for place, host in self.board.hosts.items() if host is not self}
        if lost:
            self._lost(lost)

    def watch(self, lost: Callable[[Collection[Lease]], None]) -> None:
        self._lost = lost

    async def format_lockspace(self, space: Lockspace, *, io_timeout: int = 10) -> None:
        await self._faults.suffer(
            "format_lockspace", lambda reason: ClusterLockInitError(lease=space.name, reason=reason)
        )
        self.board.spaces[space.path, space.offset] = space.name

    async def format_lease(self, lease: Lease) -> None:
        await self._faults.suffer("format_lease", lambda reason: ClusterLockInitError(lease=lease.name, reason=reason))
        self.board.leases[lease.path, lease.offset] = _Written(lockspace=lease.lockspace, name=lease.name)

    async def join(self, space: Lockspace, host_id: int, *, io_timeout: int = 10) -> None:
        def problem(reason: str) -> AcquireHostIdFailure:
            return AcquireHostIdFailure(host_id=host_id, lockspace=space.name, reason=reason)

        await self._faults.suffer("join", problem)
        if self.board.spaces.get((space.path, space.offset)) != space.name:
            raise problem("No such lockspace there")
        if self.board.hosts.setdefault((space.name, host_id), self) is not self:
            raise problem("another host has it")

    async def leave(self, space: Lockspace, host_id: int) -> None:
        def problem(reason: str) -> ReleaseHostIdFailure:
            return ReleaseHostIdFailure(host_id=host_id, lockspace=space.name, reason=reason)

        await self._faults.suffer("leave", problem)
        if any(lockspace == space.name for lockspace, _ in self._held):
            raise problem("Device or resource busy")
        if self.board.hosts.get((space.name, host_id)) is self:
            del self.board.hosts[space.name, host_id]

    async def joined(self, space: Lockspace, host_id: int) -> bool:
        return self.board.hosts.get((space.name, host_id)) is self

    async def acquire(self, lease: Lease, host_id: int) -> None:
        def problem(reason: str) -> AcquireLockFailure:
            return AcquireLockFailure(lease=lease.name, reason=reason)

        await self._faults.suffer("acquire", problem)
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

    async def release(self, lease: Lease, host_id: int) -> None:
        await self._faults.suffer("release", lambda reason: LockManagerUnavailable(reason=reason))
        if self._held.pop((lease.lockspace, lease.name), None) is not None:
            self.board.leases[lease.path, lease.offset].owner = 0

    async def state(self, lease: Lease) -> LeaseState:
        written = self.board.leases.get((lease.path, lease.offset))
        if written is None or (written.lockspace, written.name) != (lease.lockspace, lease.name):
            raise SanlockInquireError(lease=lease.name, reason="Lease is not there")
        return LeaseState(version=written.version, owners=[written.owner] if written.owner else [])

    async def held(self) -> Sequence[tuple[str, str]]:
        return list(self._held)

    async def close(self) -> None:
        for lease in list(self._held.values()):
            self.board.leases[lease.path, lease.offset].owner = 0
        self._held.clear()
