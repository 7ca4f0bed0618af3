# SPDX-License-Identifier: Apache-2.0
"""Versions in the published form: packages, releases, and the levels a cluster may have with this host in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from vdsm import __version__
from vdsm.contract.host_capabilities import OsName, OsVersion, SoftwarePackageInfo
from vdsm.core.ports.hypervisor import HypervisorFacts
from vdsm.core.ports.machine import SystemRelease

_NUMBERS = re.compile(r"[0-9]+(\.[0-9]+)*")

SUPPORTED_ENGINES = ["4.2", "4.3", "4.4", "4.5"]

# Published name -> the distribution's names, the first that is installed counts.
_PACKAGES = {
    "libvirt": ("libvirt-daemon", "libvirt-daemon-common"),
    "qemu-kvm": ("qemu-system-x86", "qemu-system-arm", "qemu-system-ppc", "qemu-system-misc"),
    "qemu-img": ("qemu-utils",),
    "spice-server": ("libspice-server1",),
    "librbd1": ("librbd1",),
    "glusterfs-cli": ("glusterfs-cli", "glusterfs-client"),
    "openvswitch": ("openvswitch-switch",),
    "nmstate": ("nmstate",),
    "sanlock": ("sanlock",),
}
PACKAGE_NAMES = tuple(name for names in _PACKAGES.values() for name in names)

_OS_NAMES = {"debian": OsName.DEBIAN, "fedora": OsName.FEDORA, "rhel": OsName.RHEL}
_OS_TAGS = {"debian": "deb", "fedora": "fc", "rhel": "el", "centos": "el", "rocky": "el", "almalinux": "el"}

# Level -> the libvirt of the release the level was made for.
_LEVELS = {"4.4": (6, 0), "4.5": (6, 6), "4.6": (7, 0), "4.7": (8, 0), "4.8": (10, 0)}
# One of these must be among the machine types for a level to accept the host; 4.8 wants those of RHEL.
_MACHINES = ("pc-q35-4.1", "pc-i440fx-2.12", "pc-q35-rhel9.6.0", "pc-i440fx-rhel7.6.0")
_MACHINES_48 = ("pc-q35-rhel9.6.0", "pc-i440fx-rhel7.6.0")


def os_version(system: SystemRelease) -> OsVersion:
    return OsVersion(
        name=_OS_NAMES.get(system.id, OsName.UNKNOWN),
        version=system.version,
        release=system.point,
        pretty_name=system.pretty_name,
    )


def os_tag(system: SystemRelease) -> str:
    """`deb12`, `el9`; a release of a package ends with it where it has no letters of its own."""
    tag = re.sub("[^a-z0-9]", "", f"{_OS_TAGS.get(system.id, system.id)}{system.version}".lower())
    return tag if tag[:1].isalpha() else f"os{tag}"


def package_info(version: str, tag: str) -> SoftwarePackageInfo:
    """`1:7.2+dfsg-7+deb12u18` -> 7.2, 7.deb12u18.

    Readers expect `<digits and dots>-<digits and dots>.<text>` and drop what differs.
    """
    upstream, _, revision = version.rpartition(":")[2].partition("-")
    number = _NUMBERS.match(upstream)
    words = re.sub(r"[^0-9A-Za-z]+", ".", revision).strip(".")
    count = _NUMBERS.match(words)
    digits = count[0] if count else ""
    text = words[len(digits) :].strip(".")
    return SoftwarePackageInfo(version=number[0] if number else "0", release=f"{digits or '0'}.{text or tag}")


def own_package(tag: str) -> SoftwarePackageInfo:
    """vdsm itself; a release before the final one counts from 0."""
    final = re.fullmatch(r"[0-9.]+", __version__) is not None
    return package_info(f"{__version__}-{1 if final else 0}", tag)


def packages(
    installed: Mapping[str, str], kernel_release: str, facts: HypervisorFacts, system: SystemRelease
) -> dict[str, SoftwarePackageInfo]:
    tag = os_tag(system)
    found = {"vdsm": own_package(tag), "kernel": package_info(kernel_release, tag)}
    running = {"libvirt": facts.libvirt_version, "qemu-kvm": facts.qemu_version}
    for published, names in _PACKAGES.items():
        version = next((installed[name] for name in names if name in installed), running.get(published, ""))
        if version:
            found[published] = package_info(version, tag)
    return found


def cluster_levels(facts: HypervisorFacts) -> list[str]:
    """The levels whose machine types and libvirt are here."""
    running = tuple(int(n) for n in re.findall("[0-9]+", facts.libvirt_version)[:2])
    return [
        level
        for level, needed in _LEVELS.items()
        if running >= needed and _has_any(facts.machine_types, _MACHINES_48 if level == "4.8" else _MACHINES)
    ]


def _has_any(there: Iterable[str], wanted: Iterable[str]) -> bool:
    return not set(there).isdisjoint(wanted)
