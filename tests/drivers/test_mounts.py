# SPDX-License-Identifier: Apache-2.0
"""Mounts: one suite for the kernel's and the simulated ones; what is refused; a server that does not answer."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.hung_mount import HungMount
from harness.until import BUSY
from vdsm.contract.errors_storage import ForeignMount, MountError, MountRefused
from vdsm.core.ports.mounts import Mounts, MountWish
from vdsm.drivers.filesystem.mounts import LinuxMounts, checked
from vdsm.drivers.simulated.mounts import SimulatedMounts


class Lab:
    """The driver, a source that can be mounted, and a place for it."""

    def __init__(self, mounts: Mounts, source: str, place: str) -> None:
        self.mounts = mounts
        self.wish = MountWish(source=source, target=f"{place}/mnt/vdsmtest:_a b", type="ext4", options="noatime")


@pytest.fixture(params=["linux", "simulated"])
def lab(request: pytest.FixtureRequest, open_path: Path) -> Iterator[Lab]:
    if request.param == "simulated":
        yield Lab(SimulatedMounts(), "/file", "/rhev")
        return
    file = open_path / "file system"
    with file.open("wb") as handle:
        handle.truncate(8 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", file], check=True)
    made = Lab(LinuxMounts(), str(file), str(open_path))
    yield made
    subprocess.run(["umount", "-q", made.wish.target], check=False)
    made.mounts.close()


def other(wish: MountWish) -> MountWish:
    return MountWish(source="/elsewhere", target=wish.target, type=wish.type)


async def test_mount_and_unmount_twice(lab: Lab) -> None:
    for _ in range(2):
        await lab.mounts.mount(lab.wish)
    (there,) = [one for one in await lab.mounts.list() if one.target == lab.wish.target]
    assert there.type == "ext4"
    assert {"nosuid", "nodev", "noexec", "nosymfollow", "noatime"} <= set(there.options)
    for _ in range(2):
        await lab.mounts.unmount(lab.wish)
    assert lab.wish.target not in [one.target for one in await lab.mounts.list()]


async def test_nothing_is_mounted_over_what_a_link_leads_to_and_the_directory_goes_with_the_mount(
    open_path: Path,
) -> None:
    mounts, wish = LinuxMounts(), MountWish(source="vdsmtest", target=f"{open_path}/mnt/x", type="tmpfs")
    (open_path / "mnt").mkdir()
    (open_path / "mnt/x").symlink_to(open_path)
    with pytest.raises(MountError, match="symbolic link"):
        await mounts.mount(wish)
    (open_path / "mnt/x").unlink()
    await mounts.mount(wish)
    await mounts.unmount(wish)
    assert list((open_path / "mnt").iterdir()) == []
    (open_path / "mnt/x").mkdir()
    (open_path / "mnt/x/file").touch()
    await mounts.unmount(wish)
    assert (open_path / "mnt/x/file").exists(), "only an empty one"
    mounts.close()


def test_a_password_is_not_repeated() -> None:
    with pytest.raises(MountRefused) as refused:
        checked(wish(options="password=hush"))
    assert "hush" not in str(refused.value)


async def test_what_is_mounted_by_others_is_left_alone(lab: Lab) -> None:
    await lab.mounts.mount(lab.wish)
    with pytest.raises(ForeignMount, match="file"):
        await lab.mounts.mount(other(lab.wish))
    for force in (False, True):
        with pytest.raises(ForeignMount):
            await lab.mounts.unmount(other(lab.wish), force=force)
    assert lab.wish.target in [one.target for one in await lab.mounts.list()]


async def test_one_in_use_is_let_go_by_force_only(open_path: Path) -> None:
    mounts, wish = LinuxMounts(), MountWish(source="vdsmtest", target=f"{open_path}/mnt", type="tmpfs")
    await mounts.mount(wish)
    with (open_path / "mnt/file").open("w"):
        with pytest.raises(MountError, match="busy"):
            await mounts.unmount(wish)
        await mounts.unmount(wish, force=True)
    assert wish.target not in [one.target for one in await mounts.list()]
    mounts.close()


async def test_what_cannot_be_mounted(open_path: Path) -> None:
    mounts = LinuxMounts()
    with pytest.raises(MountError, match="absent"):
        await mounts.mount(MountWish(source=f"{open_path}/absent", target=f"{open_path}/mnt", type="ext4"))
    mounts.close()


async def test_a_dead_one_does_not_hold_the_list_nor_being_let_go(open_path: Path) -> None:
    mounts, dead = LinuxMounts(), open_path / "dead"
    dead.mkdir()
    hung = HungMount(dead)
    try:
        began = time.monotonic()
        assert str(dead) in [one.target for one in await mounts.list()]
        wish = MountWish(source="server:/export", target=str(dead), type="nfs")
        with pytest.raises(ForeignMount, match="vdsmtest"):
            await mounts.unmount(wish, force=True)
        assert time.monotonic() - began < 5 * BUSY
    finally:
        hung.mend()
        mounts.close()


# ---- what is refused -------------------------------------------------------------------------------------------------


def wish(source: str = "server:/export", target: str = "/rhev/mnt/x", **rest: str) -> MountWish:
    return MountWish(source=source, target=target, **({"type": "nfs"} | rest))


@pytest.mark.parametrize("options", ["", "soft,nosharecache", "vers=4.2,timeo=100,retrans=3,addr=[fe80::1%eth0]", "ro"])
def test_options_that_are_fine(options: str) -> None:
    assert checked(wish(options=options)) == f"{options},nosuid,nodev,noexec".lstrip(",")


@pytest.mark.parametrize(
    "option",
    [
        "bind",
        "suid",
        "rw,exec",
        "DEV",
        "loop=/dev/loop1",
        "x-mount.mkdir",
        "helper=nfs",
        "a b",
        "a\nb",
        "a\\",
        "user=me",
        "credentials=/etc/shadow",
        "password=hush",
        "é",
        '"',
        "$(id)",
        "o" * 5000,
    ],
)
def test_options_that_are_refused(option: str) -> None:
    with pytest.raises(MountRefused):
        checked(wish(options=f"soft,{option}"))


@pytest.mark.parametrize(
    "kind", ["fuse", "fuse.sshfs", "overlay", "proc", "auto", "none", "", "-t", "NFS", "a/b", "x" * 40]
)
def test_types_that_are_refused(kind: str) -> None:
    with pytest.raises(MountRefused):
        checked(wish(type=kind))


@pytest.mark.parametrize(
    "source", ["", "-oexec", "server", "/export", "server:export", "a b:/c", "server:/a\nb", "a;b:/c"]
)
def test_sources_that_are_refused(source: str) -> None:
    with pytest.raises(MountRefused):
        checked(wish(source=source))


@pytest.mark.parametrize("target", ["", "/", "/rhev", "rhev/mnt", "/rhev/../etc", "/rhev//x", "/rhev/./x", "/rhev/x/"])
def test_places_that_are_refused(target: str) -> None:
    with pytest.raises(MountRefused):
        checked(wish(target=target))
