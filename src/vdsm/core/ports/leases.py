# SPDX-License-Identifier: Apache-2.0
"""Leases on shared storage, as sanlock keeps them: who may be which host, and who may touch what.

A lockspace is a domain's id and its `ids` file; a host joins it under a host id. A lease is a named place in a file;
the daemon holds it until it releases it or ends, or until the storage is lost for too long. Every method may raise
LockManagerUnavailable and DeadlineExceeded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import msgspec


class Lockspace(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    path: str
    offset: int = 0
    alignment: int = 1 << 20  # bytes of one lease: 1, 2, 4 or 8 MiB
    sector: int = 512  # 512 or 4096


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    lockspace: str
    name: str
    path: str
    offset: int
    alignment: int = 1 << 20
    sector: int = 512


class LeaseState(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds it: host ids, none when it is free; `version` grows each time it is taken."""

    version: int
    owners: list[int]


class Leases(Protocol):
    def watch(self, lost: Callable[[Collection[Lease]], None]) -> None:
        """Call `lost` on the event loop when leases that were held are not any more: all work under them must stop."""

    async def format_lockspace(self, space: Lockspace, *, io_timeout: int = 10) -> None:
        """Write an empty one. sanlock must be installed, it need not run. Raises ClusterLockInitError."""

    async def format_lease(self, lease: Lease) -> None:
        """Write a free one, whatever was there; its value is zeros. As `format_lockspace`."""

    async def clear_lease(self, lease: Lease) -> None:
        """Afterwards there is none. Raises ClusterLockInitError."""

    async def join(self, space: Lockspace, host_id: int, *, io_timeout: int = 10) -> None:
        """Take a host id: takes some times `io_timeout`. Joined already is fine. Raises AcquireHostIdFailure."""

    async def leave(self, space: Lockspace, host_id: int) -> None:
        """Not joined is fine. Raises ReleaseHostIdFailure."""

    async def joined(self, space: Lockspace, host_id: int) -> bool:
        """Whether the host id is held at this moment; losing the storage loses it."""

    async def acquire(self, lease: Lease, host_id: int, *, with_value: bool = False) -> None:
        """Take it for the daemon; one it holds already is fine. Raises AcquireLockFailure: another holds it."""

    async def write_value(self, lease: Lease, value: bytes) -> None:
        """Of one held with its value: at most a sector; it is on the disk once the lease is released.

        Raises SanlockLVBError.
        """

    async def release(self, lease: Lease, host_id: int) -> None:
        """One it does not hold is fine. Raises ReleaseLockFailure."""

    async def state(self, lease: Lease) -> LeaseState:
        """From the disk. Raises SanlockInquireError."""

    async def held(self) -> Sequence[tuple[str, str]]:
        """Lockspace and name of every lease the daemon holds."""

    async def close(self) -> None: ...
