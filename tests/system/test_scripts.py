# SPDX-License-Identifier: Apache-2.0
"""scripts/run and scripts/guest as a person runs them, where nothing runs yet."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.machines import WORDS
from harness.private_libvirt import Namespace, machines

ROOT = Path(__file__).parents[2]
GUEST = "vdsm-guest"


@pytest.fixture
def empty_host() -> Iterator[Namespace]:
    """This host without any libvirtd and without anything that vdsm left behind."""
    if os.geteuid() != 0:
        pytest.skip("mounts of its own take root")
    made = Namespace("/var/lib/vdsm", "/var/log/vdsm", "/etc/vdsm")
    yield made
    subprocess.run([*made.inside, ROOT / "scripts/run", "--stop"], stdin=subprocess.DEVNULL, capture_output=True)
    made.close("none but those of scripts/run, which --stop ended")


def run(host: Namespace, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*host.inside, ROOT / "scripts/run", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900,
    )  # fmt: skip


def pids(host: Namespace) -> list[str]:
    return [host.run("cat", f"/run/{file}.pid") for file in ("vdsm/vdsmd", "libvirtd", "virtlogd")]


def test_run_twice_look_and_stop_twice(empty_host: Namespace) -> None:
    before = len(machines(GUEST))  # of somebody who runs it outside
    first = run(empty_host)
    assert first.returncode == 0, first.stdout + first.stderr
    assert WORDS in first.stdout, "the guest's own words"
    assert f"hostname={GUEST}" not in first.stdout
    assert all(pids(empty_host))
    assert len(machines(GUEST)) == before + 1

    running = pids(empty_host)
    second = run(empty_host)
    assert second.returncode == 0, second.stdout + second.stderr
    assert WORDS in second.stdout
    assert "Starting" not in second.stdout
    assert "Installing" not in second.stdout
    assert pids(empty_host) == running, "what is fine is left alone"
    assert len(machines(GUEST)) == before + 1

    looked = run(empty_host, "--status")
    assert looked.returncode == 0
    assert GUEST in looked.stdout

    for _ in range(2):
        stopped = run(empty_host, "--stop")
        assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert len(machines(GUEST)) == before
    assert not empty_host.run("virsh", "-c", "qemu:///system", "list"), "it had started libvirtd, so it stops it"
    assert run(empty_host, "--status").returncode == 3


def test_an_unknown_argument_is_refused() -> None:
    done = subprocess.run([ROOT / "scripts/run", "--sotp"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--stop" in done.stderr


def test_the_guest_is_made_once(guest: Path) -> None:
    made = {file.name: file.stat().st_mtime_ns for file in guest.iterdir()}
    assert {"vmlinuz", "initrd.gz"} <= set(made)
    again = subprocess.run([ROOT / "scripts/guest"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert again.returncode == 0
    assert again.stdout == ""
    assert {file.name: file.stat().st_mtime_ns for file in guest.iterdir()} == made
