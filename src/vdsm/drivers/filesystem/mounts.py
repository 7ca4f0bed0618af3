# SPDX-License-Identifier: Apache-2.0
"""The `Mounts` port: mount(8), umount(8) and the kernel's own list."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from vdsm.contract.errors_storage import ForeignMount, MountError, MountRefused
from vdsm.core.ports.mounts import Mounted, MountWish
from vdsm.drivers.files import clean, read_bytes
from vdsm.drivers.pool import Pool
from vdsm.drivers.process import Limits, Programs

log = logging.getLogger(__name__)

_TABLE = Path("/proc/self/mountinfo")
_PATIENCE_S = 120.0  # mount.nfs itself tries for two minutes
_LOOK_S = 10.0
_LIMITS = Limits(cpu_s=30, memory_bytes=1 << 30, output_bytes=1 << 16)
_AT_ONCE = 16
_ALWAYS = "nosuid,nodev,noexec"
_NO_LINKS = "nosymfollow"
_TYPE = re.compile(r"[a-z][a-z0-9_.-]{0,31}")
_OPTION = re.compile(r"[A-Za-z0-9_.:=/@+%\[\]-]{1,256}")
_OPTIONS_MAX = 4096
_NFS = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_.-]+):/\S*")
# Not storage, or a program of the caller's choice (fuse) or something mounted already (overlay) in its place.
_NO_STORAGE = re.compile(
    r"fuse.*|overlay|aufs|autofs|proc|sysfs|dev.*|cgroup.*|securityfs|selinuxfs|debugfs|tracefs|configfs|bpf|mqueue"
    r"|binfmt_misc|pstore|efivarfs|hugetlbfs|nsfs|rpc_pipefs|nfsd|auto|none|swap"
)
# They mount something else than was said, take powers back that `_ALWAYS` takes away, or read or show secrets.
_REFUSED = re.compile(
    r"r?bind|move|remount|loop|suid|dev|exec|symfollow|users?|owner|group|u?helper|r?(shared|private|slave|unbindable)"
    r"|cred|credentials|pass|password|username|offset|sizelimit|x-.*",
    re.IGNORECASE,
)
_ESCAPE = re.compile(r"\\([0-7]{3})")


class LinuxMounts:
    """The `Mounts` port."""

    def __init__(self) -> None:
        self._pool = Pool("mounts", workers=4)
        self._programs = Programs("mount", at_once=_AT_ONCE)

    async def list(self) -> Sequence[Mounted]:
        return await self._pool.run("listing mounts", mounted, most=_LOOK_S)

    async def mount(self, wish: MountWish) -> None:
        options = checked(wish)
        target = await self._resolve(wish)
        if (there := await self._at(target)) is not None:
            if not _same(there, wish):
                raise ForeignMount(target=wish.target, found=_name(there.source))
            return
        await self._pool.run("making a directory", lambda: _make(wish, target), most=_LOOK_S)
        words = ["mount", "-t", wish.type, "-o", options, "--", wish.source, target]
        await self._run(wish, words)
        await self._follow_no_links(
            wish, ["mount", "-i", "-c", "-o", f"remount,bind,{options},{_NO_LINKS}", "--", target]
        )
        there = await self._at(target)
        if there is None or not _same(there, wish):
            found = "nothing" if there is None else there.source
            raise MountError(what=wish.source, target=wish.target, reason=f"afterwards {found} is mounted there")

    async def _follow_no_links(self, wish: MountWish, words: Sequence[str]) -> None:
        """qemu-img opens files by their paths: a directory swapped for a link meanwhile must not lead out of there.

        Of the mount, not of the file system: mount.nfs does not know the option.
        """
        try:
            await self._run(wish, words)
        except MountError as failed:  # by kernels before 5.10
            log.warning("symbolic links on %s are followed: %s", wish.source, failed)

    async def unmount(self, wish: MountWish, *, force: bool = False) -> None:
        checked(wish)
        target = await self._resolve(wish)
        there = await self._at(target)
        if there is not None and not _same(there, wish):
            raise ForeignMount(target=wish.target, found=_name(there.source))
        if there is not None:
            # -c: the kernel knows the path already, and looking it up would hang on a dead server
            await self._run(wish, ["umount", "-c", *(["-f", "-l"] if force else []), "--", target])
        if await self._at(target) is None:
            await self._pool.run("removing a directory", lambda: _remove(target), most=_LOOK_S)

    def close(self) -> None:
        self._pool.close()
        self._programs.close()

    async def _resolve(self, wish: MountWish) -> str:
        """The target as the kernel names it; what is mounted on it is not touched."""
        directory, name = os.path.split(wish.target)
        above = await self._pool.run("looking at a directory", lambda: os.path.realpath(directory), most=_LOOK_S)
        return os.path.join(above, name)

    async def _at(self, target: str) -> Mounted | None:
        there = [one for one in await self.list() if one.target == target]
        return there[-1] if there else None

    async def _run(self, wish: MountWish, words: Sequence[str]) -> None:
        done = await self._programs.run(words, most=_PATIENCE_S, limits=_LIMITS)
        if done.status:
            said = clean(done.err.decode(errors="replace").strip().partition("\n")[0], 512)
            reason = said or f"{words[0]} ended with status {done.status}"
            raise MountError(what=wish.source, target=wish.target, reason=reason)


def checked(wish: MountWish) -> str:
    """The options to mount with. Raises MountRefused."""
    if not _TYPE.fullmatch(wish.type) or _NO_STORAGE.fullmatch(wish.type):
        raise MountRefused(what=wish.source, reason=f"{wish.type!r} is not a type of storage")
    if not wish.source or not wish.source.isprintable() or wish.source.startswith("-"):
        raise MountRefused(what=repr(wish.source), reason="that is no name of a file system")
    if wish.type in ("nfs", "nfs4") and not _NFS.fullmatch(wish.source):
        raise MountRefused(what=wish.source, reason="an NFS address is server:/path")
    names = wish.target.split("/")
    if names[0] or len(names) < 3 or any(n in ("", ".", "..") or not n.isprintable() for n in names[1:]):
        raise MountRefused(what=wish.source, reason=f"{wish.target!r} is no place for it")
    options = [option for option in wish.options.split(",") if option]
    if len(wish.options) > _OPTIONS_MAX:
        raise MountRefused(what=wish.source, reason="its options are too long")
    for option in options:
        name = option.partition("=")[0]
        if not _OPTION.fullmatch(option) or _REFUSED.fullmatch(name):
            # A password is not repeated, also where it stands alone.
            raise MountRefused(what=wish.source, reason=f"the option {name[:40]!r} is not allowed")
    return ",".join([*options, _ALWAYS])


def mounted() -> list[Mounted]:
    """What the kernel lists, in the order it was mounted."""
    found = []
    for line in read_bytes(_TABLE).decode(errors="replace").splitlines():
        first, _, second = line.partition(" - ")
        place, what = first.split(" "), second.split(" ")
        if len(place) > 5 and len(what) > 1:
            source = _plain(what[1])
            found.append(
                Mounted(source=source, target=_plain(place[4]), type=_plain(what[0]), options=place[5].split(","))
            )
    return found


def _plain(text: str) -> str:
    """Without the kernel's escapes."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text)


def _same(there: Mounted, wish: MountWish) -> bool:
    kinds = (wish.type, f"{wish.type}4", f"fuse.{wish.type}", wish.type.removesuffix("4"))
    return there.type in kinds and _name(there.source) == _name(wish.source)


def _name(source: str) -> str:
    """One name for one source: a file behind its loop device, a device behind its link, an export without last `/`."""
    if source.startswith("/dev/loop"):
        behind = read_bytes(Path("/sys/block", os.path.basename(source), "loop/backing_file")).decode(errors="replace")
        return behind.strip() or source
    if source.startswith("/"):
        return os.path.realpath(source)
    server, colon, path = source.partition(":/")
    return f"{server}{colon}{re.sub('/+', '/', path).strip('/')}" if colon else source


def _make(wish: MountWish, target: str) -> None:
    try:
        os.makedirs(target, mode=0o755, exist_ok=True)
        if os.path.islink(target):  # it would be mounted over what the link leads to
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    except OSError as error:
        raise MountError(what=wish.source, target=wish.target, reason=str(error.strerror)) from None


def _remove(target: str) -> None:
    """Only a directory that is empty: whatever else is there is not ours."""
    with contextlib.suppress(OSError):
        os.rmdir(target)
