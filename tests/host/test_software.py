# SPDX-License-Identifier: Apache-2.0
"""Versions in the published form."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdsm.contract.host_capabilities import OsName
from vdsm.core.host.software import cluster_levels, os_tag, os_version, own_package, package_info, packages
from vdsm.core.ports.machine import SystemRelease
from vdsm.drivers.simulated.facts import FACTS

PUBLISHED = re.compile(r"[0-9][0-9.]*-[0-9.]+\.[A-Za-z][0-9A-Za-z.]*")
DEBIAN = SystemRelease(id="debian", version="12", point="5", pretty_name="Debian GNU/Linux 12 (bookworm)")


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1:7.2+dfsg-7+deb12u18+b3", ("7.2", "7.deb12u18.b3")),
        ("9.0.0-4+deb12u2", ("9.0.0", "4.deb12u2")),
        ("0.15.1-1", ("0.15.1", "1.deb12")),
        ("2.38", ("2.38", "0.deb12")),
        ("6.1.0-18-amd64", ("6.1.0", "18.amd64")),
        ("6.18.44-fc-v669", ("6.18.44", "0.fc.v669")),
        ("5.14.0-427.13.1.el9_4.x86_64", ("5.14.0", "427.13.1.el9.4.x86.64")),
        ("4.0~rc1-1", ("4.0", "1.deb12")),
        ("5.10-0ubuntu1", ("5.10", "0.ubuntu1")),
        ("", ("0", "0.deb12")),
    ],
)
def test_package_versions(version: str, expected: tuple[str, str]) -> None:
    info = package_info(version, "deb12")
    assert (info.version, info.release) == expected


@given(st.text())
def test_any_version_fits_the_published_form(version: str) -> None:
    info = package_info(version, "deb12")
    assert PUBLISHED.fullmatch(f"{info.version}-{info.release}")


def test_vdsm_itself_is_read_by_the_published_rule() -> None:
    own = own_package("deb12")
    assert re.fullmatch(r"vdsm-[0-9]+(\.[0-9]+)*-[0-9.]+\.deb12", f"vdsm-{own.version}-{own.release}")


@pytest.mark.parametrize(
    ("system", "tag"),
    [
        (DEBIAN, "deb12"),
        (SystemRelease(id="rocky", version="9"), "el9"),
        (SystemRelease(id="fedora", version="40"), "fc40"),
        (SystemRelease(id="opensuse-leap", version="15"), "opensuseleap15"),
        (SystemRelease(), "os"),
        (SystemRelease(id="1+1", version="2"), "os112"),
    ],
)
def test_os_tags(system: SystemRelease, tag: str) -> None:
    assert os_tag(system) == tag


def test_os_names() -> None:
    debian = os_version(DEBIAN)
    assert (debian.name, debian.version, debian.release) == (OsName.DEBIAN, "12", "5")
    other = os_version(SystemRelease(id="gentoo", version="2", pretty_name="Gentoo"))
    assert (other.name, other.pretty_name) == (OsName.UNKNOWN, "Gentoo")


def test_packages_prefer_what_is_installed_over_what_runs() -> None:
    found = packages({"libvirt-daemon": "10.0.0-2"}, "6.1.0-18-amd64", FACTS, DEBIAN)
    assert (found["libvirt"].version, found["libvirt"].release) == ("10.0.0", "2.deb12")
    assert found["qemu-kvm"].version == FACTS.qemu_version
    assert (found["kernel"].version, found["kernel"].release) == ("6.1.0", "18.amd64")
    assert set(found) == {"vdsm", "kernel", "libvirt", "qemu-kvm"}


@pytest.mark.parametrize(
    ("libvirt", "machines", "levels"),
    [
        ("9.0.0", ["pc-q35-7.2", "pc-q35-4.1"], ["4.4", "4.5", "4.6", "4.7"]),
        ("7.0.0", ["pc-i440fx-2.12"], ["4.4", "4.5", "4.6"]),
        ("11.0.0", ["pc-q35-rhel9.6.0"], ["4.4", "4.5", "4.6", "4.7", "4.8"]),
        ("9.0.0", ["pc-q35-7.2"], []),
        ("5.0.0", ["pc-q35-4.1"], []),
        ("", ["pc-q35-4.1"], []),
    ],
)
def test_cluster_levels(libvirt: str, machines: list[str], levels: list[str]) -> None:
    facts = msgspec.structs.replace(FACTS, libvirt_version=libvirt, machine_types=machines)
    assert cluster_levels(facts) == levels
