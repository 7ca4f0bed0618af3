# SPDX-License-Identifier: Apache-2.0
"""What the package ships for systemd: units that systemd itself accepts, and that confine the daemon."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "packaging/systemd"
SERVICE = (UNITS / "vdsmd.service").read_text()


def value(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", SERVICE, re.MULTILINE)


@pytest.fixture
def installed(tmp_path: Path) -> list[str]:
    """The units with a program that is there on any machine."""
    for unit in UNITS.iterdir():
        (tmp_path / unit.name).write_text(unit.read_text().replace("/usr/bin/vdsmd", "/bin/true"))
    return sorted(str(unit) for unit in tmp_path.iterdir())


def test_systemd_finds_no_fault(installed: list[str]) -> None:
    done = subprocess.run(["systemd-analyze", "verify", *installed], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_daemon_is_confined(installed: list[str]) -> None:
    (service,) = (unit for unit in installed if unit.endswith(".service"))
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=30", service]  # 3.0 of 10
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_what_the_daemon_relies_on() -> None:
    assert value("Type") == ["notify"]
    assert value("RestartPreventExitStatus") == ["2"]
    assert value("KillMode") == ["mixed"]
    drain_at_most = 300  # seconds, of [daemon] drain_seconds
    assert int(value("TimeoutStopSec")[0]) > drain_at_most
    assert value("StateDirectoryMode") == ["0755"], "QEMU's user must reach the images in it"


def test_the_package_ships_them() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    shipped = set(wheel["shared-data"])
    assert {f"packaging/systemd/{unit.name}" for unit in UNITS.iterdir()} | {"packaging/vdsmd.toml"} <= shipped
    assert all((ROOT / source).is_file() for source in shipped)
