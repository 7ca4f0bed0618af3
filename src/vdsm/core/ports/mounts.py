# SPDX-License-Identifier: Apache-2.0
"""Remote and local file systems, mounted where storage domains are looked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class MountWish(msgspec.Struct, frozen=True, kw_only=True):
    """What to mount where."""

    source: str  # server:/export, a device, or what the type wants
    target: str  # absolute directory; made if it is missing
    type: str  # nfs, ext4, glusterfs, ...
    options: str = ""  # as for mount -o


class Mounted(msgspec.Struct, frozen=True, kw_only=True):
    """One mount of this host."""

    source: str
    target: str
    type: str
    options: list[str]


class Mounts(Protocol):
    async def list(self) -> Sequence[Mounted]:
        """All of this host's, the topmost last; asks the kernel only, so that a dead server does not hold it."""

    async def mount(self, wish: MountWish) -> None:
        """The same source there already is fine. nosuid, nodev and noexec are added, and
        nosymfollow where the kernel knows it.

        Raises MountRefused (a type or option that is not allowed), ForeignMount (something else is mounted there),
        MountError, DeadlineExceeded.
        """

    async def unmount(self, wish: MountWish, *, force: bool = False) -> None:
        """With its directory, if that is empty. Nothing mounted there is fine. `force`: also when the server is dead
        or the mount in use.

        Raises ForeignMount, MountError, DeadlineExceeded.
        """

    def close(self) -> None: ...
