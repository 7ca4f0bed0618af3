# SPDX-License-Identifier: Apache-2.0
"""The `Mounts` port over the tree in memory: what a source holds is below its target while it is mounted."""

from __future__ import annotations

from collections.abc import Sequence

from vdsm.contract.errors_storage import ForeignMount, MountError
from vdsm.core.ports.mounts import Mounted, MountWish

from .faults import Faults
from .tree import Node, Tree


class SimulatedMounts:
    """Sources and types are whatever the caller says; the real driver refuses more."""

    def __init__(self, tree: Tree | None = None, faults: Faults | None = None) -> None:
        self.tree = tree or Tree()
        self.mounted: list[Mounted] = []
        self._faults = faults or Faults()
        self.away: dict[str, dict[str, Node]] = {}  # by source: what it holds while it is not mounted

    async def list(self) -> Sequence[Mounted]:
        return list(self.mounted)

    async def mount(self, wish: MountWish) -> None:
        await self._meet("mount", wish)
        if not self._is_there(wish):
            self.tree.directory(wish.target)
            held = self.away.pop(wish.source, {})
            self.tree.nodes |= {wish.target + name: node for name, node in held.items()}
            options = [*filter(None, wish.options.split(",")), "nosuid", "nodev", "noexec", "nosymfollow"]
            self.mounted.append(Mounted(source=wish.source, target=wish.target, type=wish.type, options=options))

    async def unmount(self, wish: MountWish, *, force: bool = False) -> None:
        await self._meet("unmount", wish)
        if self._is_there(wish):
            self.lose(wish.target)
        if not self.tree.below(wish.target):
            self.tree.nodes.pop(wish.target, None)

    def lose(self, target: str) -> None:
        """Unmount it behind everybody's back."""
        (there,) = [one for one in self.mounted if one.target == target]
        self.mounted.remove(there)
        inside = self.tree.below(target)
        self.away[there.source] = {name.removeprefix(target): self.tree.nodes.pop(name) for name in inside}

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
