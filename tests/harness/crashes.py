# SPDX-License-Identifier: Apache-2.0
"""A daemon in memory that stops dead at a chosen moment, and the next one on the same disks.

Moments are before each change of a file or an image, and each boundary of a task. What is dead changes
nothing any more, whatever its code would still clean up.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from harness.memory_host import ADMIN, MemoryHost
from vdsm.contract import AnyVerb
from vdsm.core.run import TaskRow
from vdsm.drivers.simulated.tree import Tree

_FILE_CHANGES = ("create", "replace", "write_at", "resize", "make_directory", "rename", "link", "remove")
_IMAGE_CHANGES = ("create", "convert", "commit", "rebase", "resize", "add_bitmap", "remove_bitmap")


class Killed(BaseException):
    """In the place of SIGKILL: nothing in the daemon may handle it."""


class Mortal:
    """A host on what another left, that dies at the `moment`-th moment of one call; 0: never. `passed` counts them."""

    def __init__(self, directory: Path, tree: Tree, moment: int) -> None:
        self.directory = directory
        self.host = MemoryHost(directory, tree=tree, at_boundary=self._boundary)
        self._moment, self.passed, self._armed, self._dead = moment, 0, False, False
        for driver, names in ((self.host.storage_files, _FILE_CHANGES), (self.host.disk_images, _IMAGE_CHANGES)):
            for name in names:
                setattr(driver, name, self._around(getattr(driver, name)))

    def _pass(self) -> None:
        if self._armed:
            self.passed += 1
            self._dead = self._dead or self.passed == self._moment
        if self._dead:
            raise Killed

    def _boundary(self, row: TaskRow) -> None:
        self._pass()

    def _around(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(method)
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            self._pass()
            return await method(*args, **kwargs)

        return wrapped

    async def die(self, verb: AnyVerb, params: dict[str, Any]) -> bool:
        """Call a verb. Whether it was the end."""
        await self.host.open()
        self._armed = True
        call = asyncio.create_task(self.host.bridge.call(verb, params, ADMIN))
        await asyncio.wait([call], timeout=20)
        assert call.done()
        if not self._dead:
            await call
        else:
            call.exception()
        self._dead = True
        for part in (self.host.storage, self.host.table, self.host.journal, self.host.store):
            await part.close()
        return self.passed == self._moment


async def next_daemon(dead: Mortal) -> MemoryHost:
    """On the same disks, when it has finished or undone what it found."""
    host = MemoryHost(dead.directory, tree=dead.host.tree)
    await host.open()
    await asyncio.wait_for(host.tasks.settled(), 20)
    return host


class Before:
    """What a daemon left when it ended in peace, to be taken up again and again."""

    def __init__(self, directory: Path, tree: Tree) -> None:
        self._directory = directory
        self._tree = tree
        self._rounds = 0

    def again(self, moment: int) -> Mortal:
        self._rounds += 1
        directory = self._directory.with_name(f"{self._directory.name}-{self._rounds}")
        shutil.copytree(self._directory, directory)
        return Mortal(directory, copy.deepcopy(self._tree), moment)
