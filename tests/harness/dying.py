# SPDX-License-Identifier: Apache-2.0
"""Hosts in memory that die at any moment of what they do, and others that start from what they left."""

from __future__ import annotations

import copy
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from harness.memory_host import MemoryHost
from vdsm.core.run import TaskRow
from vdsm.drivers.simulated.disks import SimulatedDisks
from vdsm.drivers.simulated.files import SimulatedFiles

FILE_CHANGES = ("create", "replace", "make_directory", "rename", "remove")
IMAGE_CHANGES = (
    "create", "convert", "commit", "rebase", "resize", "amend", "sparsify", "add_bitmap", "remove_bitmap",
    "merge_bitmap",
)  # fmt: skip


class Killed(BaseException):
    """In the place of SIGKILL: nothing in the daemon may handle it."""


class Blows:
    """Dies at the `at`-th moment after `arm`; 0: never."""

    def __init__(self) -> None:
        self.at = 0
        self.passed = 0

    @classmethod
    def of(cls, monkeypatch: pytest.MonkeyPatch) -> Blows:
        """Every change to a simulated file or image is a moment, and so is every boundary of a host of `begin`."""
        made = cls()
        for owner, changes in ((SimulatedFiles, FILE_CHANGES), (SimulatedDisks, IMAGE_CHANGES)):
            for change in changes:
                monkeypatch.setattr(owner, change, made.before(getattr(owner, change)))
        return made

    def arm(self, at: int) -> None:
        self.at, self.passed = at, 0

    def moment(self, row: TaskRow | None = None) -> None:
        self.passed += 1
        if self.passed == self.at:
            raise Killed

    def before(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(method)
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.moment()
            return await method(*args, **kwargs)

        return wrapped


async def begin(home: Path, like: MemoryHost | None = None, blows: Blows | None = None) -> MemoryHost:
    """A daemon on what another left."""
    tree = copy.deepcopy(like.tree) if like is not None else None
    host = MemoryHost(home, at_boundary=blows.moment if blows else None, tree=tree)
    await host.open()
    return host


async def stop_dead(host: MemoryHost) -> None:
    """What it was doing is as it is on disk."""
    await host.storage.close()
    await host.table.close()
    await host.journal.close()
    await host.store.close()
