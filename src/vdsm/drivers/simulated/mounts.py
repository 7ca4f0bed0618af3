# SPDX-License-Identifier: Apache-2.0
"""The `Mounts` port over the tree in memory: a mount makes its directory, and that is all."""

from __future__ import annotations

from collections.abc import Sequence

from vdsm.contract.errors_storage import ForeignMount, MountError
from vdsm.core.ports.mounts import Mounted, MountWish

from .faults import Faults
from .tree import Tree


class SimulatedMounts:
    """Sources and types are whatever the caller says; the real driver refuses more."""

    def __init__(self, tree: Tree | None = None, faults: Faults | None = None) -> None:
        self.tree = tree or Tree()
        self.mounted: list[Mounted] = []
        self._faults = faults or Faults()

    async def list(self) -> Sequence[Mounted]:
        return list(self.mounted)

    async def mount(self, wish: MountWish) -> None:
        await self._meet("mount", wish)
        if not self._is_there(wish):
            self.tree.directory(wish.target)
            options = [*filter(None, wish.options.split(",")), "nosuid", "nodev", "noexec"]
            self.mounted.append(Mounted(source=wish.source, target=wish.target, type=wish.type, options=options))

    async def unmount(self, wish: MountWish, *, force: bool = False) -> None:
        await self._meet("unmount", wish)
        if self._is_there(wish):
            self.mounted = [one for one in self.mounted if one.target != wish.target]

    def close(self) -> None:
        pass

    def _is_there(self, wish: MountWish) -> bool:
        there = [one for one in self.mounted if one.target == wish.target]
        if there and (there[-1].source, there[-1].type) != (wish.source, wish.type):
            raise ForeignMount(target=wish.target, found=there[-1].source)
        return bool(there)

    async def _meet(self, method: str, wish: MountWish) -> None:
        await self._faults.suffer(
            method, lambda reason: MountError(what=wish.source, target=wish.target, reason=reason)
        )
