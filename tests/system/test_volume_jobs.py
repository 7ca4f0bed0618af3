# SPDX-License-Identifier: Apache-2.0
"""Jobs on the data of volumes, with qemu-img on real files: what is read stays, also through kill -9 in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from pathlib import Path

import pytest

from harness import cut_short
from harness.daemon import Daemon
from harness.until import until
from vdsm.client import Host, Unreachable
from vdsm.contract.disk import DiskInfo
from vdsm.contract.sdm import CopyDataEndpoint
from vdsm.contract.storage_words import VolumeLegality
from vdsm.contract.task import State
from vdsm.contract.vm_params import DiskFormat

MIB = 1 << 20
SIZE = 128 * MIB  # so that qemu-img takes some tenths of a second


def fill(path: str, form: str, *, at: int, length: int) -> None:
    """With noise, as a guest would."""
    noise = Path(path).parent.parent.parent.parent / "noise"
    if not noise.exists():
        noise.write_bytes(os.urandom(SIZE))
    words = ["qemu-io", "-f", form, "-c", f"write -q -s {noise} {at} {length}", path]
    subprocess.run(words, check=True, capture_output=True)


def same(one: str, one_form: str, two: str, two_form: str) -> bool:
    words = ["qemu-img", "compare", "-f", one_form, "-F", two_form, one, two]
    compared = subprocess.run(words, check=False, capture_output=True)
    assert compared.returncode in (0, 1), compared.stderr  # 1: they differ
    return compared.returncode == 0


def sound(path: str) -> bool:
    return subprocess.run(["qemu-img", "check", "-f", "qcow2", path], check=False, capture_output=True).returncode == 0


def meta(disk: DiskInfo) -> str:
    return Path(f"{disk.path}.meta").read_text()


def endpoint(disk: DiskInfo) -> CopyDataEndpoint:
    return CopyDataEndpoint(sd_id=disk.storage_id, img_id=disk.id, vol_id=disk.chain[0].id)


def ended(host: Host) -> State:
    """How the newest task ended, once all have."""
    until("every task has ended", lambda: all(task.state.ended for task in host.task.list()), seconds=60)
    return host.task.list()[0].state


def dies(daemon: Daemon, path: str) -> None:
    """`path` is of a qcow2 image."""
    assert daemon.process.wait(60) == -signal.SIGKILL
    # Its words are gone before its files are closed: what counts is the locks on those, of the whole chain.
    reading = ["qemu-io", "-r", "-f", "qcow2", "-c", "read 0 512", path]
    listing = ["ps", "-ww", "-eo", "args"]
    until(
        "qemu-img is gone with it",
        lambda: (
            path not in subprocess.run(listing, capture_output=True, text=True, check=True).stdout
            and subprocess.run(reading, capture_output=True).returncode == 0
        ),
    )


def test_killed_in_the_middle_of_a_copy(daemon: Daemon) -> None:
    daemon.start(program=(cut_short.__file__, "convert"))
    with daemon.connect() as host:
        storage = host.storage.init(f"{daemon.storage}/vm")
        source = host.disk.create("source", size=SIZE)
        target = host.disk.create("target", size=SIZE, format=DiskFormat.QCOW2)
        fill(source.path, "raw", at=0, length=SIZE)
        with pytest.raises(Unreachable):
            host.sdm.copy_data(str(uuid.uuid4()), endpoint(source), endpoint(target))
    dies(daemon, target.path)
    assert "LEGALITY=ILLEGAL" in meta(target)
    assert "GEN=0" in meta(target)
    daemon.start()
    with daemon.connect() as host:
        assert ended(host) is State.DONE
        assert "LEGALITY=LEGAL" in meta(target)
        assert "GEN=1" in meta(target)
        assert same(source.path, "raw", target.path, "qcow2")
        assert [row for row in host.storage.check(storage.id) if "dom_md" not in row.where] == []


@pytest.mark.parametrize("form", DiskFormat)
def test_killed_in_the_middle_of_a_merge(daemon: Daemon, form: DiskFormat, tmp_path: Path) -> None:
    daemon.start(program=(cut_short.__file__, "commit"))
    with daemon.connect() as host:
        storage = host.storage.init(f"{daemon.storage}/vm")
        made = host.disk.create("d", size=SIZE, format=form)
        fill(made.path, form, at=0, length=8 * MIB)
        names = sorted(Path(made.path).parent.iterdir())
        snapped = host.disk.snapshot(made.id)
        fill(snapped.path, "qcow2", at=4 * MIB, length=SIZE - 4 * MIB)
        flat = tmp_path / "flat"
        subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", snapped.path, flat], check=True)
        with pytest.raises(Unreachable):
            host.disk.merge(made.id)
    dies(daemon, snapped.path)
    assert VolumeLegality.ILLEGAL in meta(made)
    assert same(snapped.path, "qcow2", str(flat), "raw"), "through the chain it reads as ever"
    daemon.start()
    with daemon.connect() as host:
        assert ended(host) is State.DONE
        (volume,) = host.disk.get_info(made.id).chain
        assert volume.id == made.chain[0].id
        assert sorted(Path(made.path).parent.iterdir()) == names
        assert same(made.path, form, str(flat), "raw")
        assert form is DiskFormat.RAW or sound(made.path)
        assert [row for row in host.storage.check(storage.id) if "dom_md" not in row.where] == []
