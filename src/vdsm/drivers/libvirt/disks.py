# SPDX-License-Identifier: Apache-2.0
"""Disks of running machines: layers, merging, plugging. Every function blocks and runs in a thread of a line.

Measured with libvirt 9.0 and QEMU 7.2, machines with a definition: libvirt keeps the definition's disks in step with
the running ones through snapshot, commit and pivot, each at the moment it happens, and names every layer of a running
disk in its document, by the directory of the layer above.
"""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping

import libvirt

from vdsm.contract.errors import FreezeGuestFSFailed, HypervisorError, NonResponsiveGuestAgent, ThawGuestFSFailed
from vdsm.core.ports.hypervisor import CommitJob

from . import problems
from .domains import find

_NO_AGENT = {
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,  # no agent's channel in the document
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
    libvirt.VIR_ERR_AGENT_UNSYNCED,
}
_LAYERS = (
    libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
    | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT
    | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
    | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
)
_ACTIVE = libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT


# ---- the guest's file systems ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _patient(domain: libvirt.virDomain, seconds: float) -> Iterator[None]:
    """libvirt would wait for an agent that is busy without end. Without an agent there is nothing to set."""
    with contextlib.suppress(libvirt.libvirtError):
        domain.agentSetResponseTimeout(max(1, round(seconds)), 0)
    try:
        yield
    finally:
        with contextlib.suppress(libvirt.libvirtError):
            domain.agentSetResponseTimeout(libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0)


def _agent_problem(domain: libvirt.virDomain, error: libvirt.libvirtError) -> NonResponsiveGuestAgent | None:
    if problems.code(error) in _NO_AGENT:
        return NonResponsiveGuestAgent(vm=domain.name(), reason=problems.reason(error))
    return None


def freeze(conn: libvirt.virConnect, vm_id: str, patience: float) -> None:
    """Raises NonResponsiveGuestAgent, FreezeGuestFSFailed."""
    domain = find(conn, vm_id)
    try:
        with _patient(domain, patience):
            domain.fsFreeze()
    except libvirt.libvirtError as error:
        if problems.is_general(error) or not domain.isActive():
            raise
        failed = FreezeGuestFSFailed(vm=domain.name(), reason=problems.reason(error))
        raise _agent_problem(domain, error) or failed from None


def thaw(conn: libvirt.virConnect, vm_id: str, patience: float) -> None:
    """Raises NonResponsiveGuestAgent, ThawGuestFSFailed."""
    domain = find(conn, vm_id)
    try:
        with _patient(domain, patience):
            domain.fsThaw()
    except libvirt.libvirtError as error:
        if problems.is_general(error) or not domain.isActive():
            raise
        failed = ThawGuestFSFailed(vm=domain.name(), reason=problems.reason(error))
        raise _agent_problem(domain, error) or failed from None


# ---- layers ----------------------------------------------------------------------------------------------------------


def add_layers(conn: libvirt.virConnect, vm_id: str, layers: Mapping[str, str], quiesce: float | None) -> None:
    """Raises NonResponsiveGuestAgent."""
    domain = find(conn, vm_id)
    if not domain.isActive():  # libvirt would change the definition
        raise HypervisorError(what="taking a snapshot", reason="domain is not running")
    document = ET.Element("domainsnapshot")
    disks = ET.SubElement(document, "disks")
    for drive in _drives(domain):
        if drive not in layers:
            ET.SubElement(disks, "disk", name=drive, snapshot="no")
            continue
        disk = ET.SubElement(disks, "disk", name=drive, snapshot="external", type="file")
        ET.SubElement(disk, "driver", type="qcow2")
        ET.SubElement(disk, "source", file=layers[drive])
    text = ET.tostring(document, encoding="unicode")
    if quiesce is None:
        domain.snapshotCreateXML(text, _LAYERS)
        return
    try:
        with _patient(domain, quiesce):
            domain.snapshotCreateXML(text, _LAYERS | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE)
    except libvirt.libvirtError as error:
        if (silent := _agent_problem(domain, error)) is not None:
            raise silent from None
        raise


def _drives(domain: libvirt.virDomain) -> list[str]:
    return [target.get("dev", "") for target in ET.XML(domain.XMLDesc(0)).findall("devices/disk/target")]


def begin_commit(conn: libvirt.virConnect, vm_id: str, drive: str, *, top: str, base: str, bandwidth: int) -> None:
    """Names of layers in images stay relative, as their storage has them."""
    domain = find(conn, vm_id)
    disk = _disk(domain, drive)
    source = None if disk is None else disk.find("source")
    flags = libvirt.VIR_DOMAIN_BLOCK_COMMIT_RELATIVE
    if source is not None and source.get("file") == top:
        flags |= libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE
    domain.blockCommit(drive, base, top, bandwidth, flags)


def commit_job(conn: libvirt.virConnect, vm_id: str, drive: str) -> CommitJob | None:
    domain = find(conn, vm_id)
    info = domain.blockJobInfo(drive, 0)
    if not info:
        return None
    active = info["type"] == _ACTIVE
    disk = _disk(domain, drive) if active else None
    mirror = None if disk is None else disk.find("mirror")
    return CommitJob(
        active=active,
        ready=mirror is not None and mirror.get("ready") == "yes",  # the numbers alone are equal a little too early
        cur=info["cur"],
        end=info["end"],
        bandwidth=info["bandwidth"],
    )


def end_commit(conn: libvirt.virConnect, vm_id: str, drive: str, *, pivot: bool) -> None:
    domain = find(conn, vm_id)
    if domain.blockJobInfo(drive, 0):
        domain.blockJobAbort(drive, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT if pivot else 0)


def resize(conn: libvirt.virConnect, vm_id: str, drive: str, size: int) -> None:
    find(conn, vm_id).blockResize(drive, size, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)


# ---- plugging --------------------------------------------------------------------------------------------------------


def attach(conn: libvirt.virConnect, vm_id: str, xml: str) -> None:
    domain = find(conn, vm_id)
    flags = libvirt.VIR_DOMAIN_AFFECT_LIVE
    if domain.isPersistent():
        flags |= libvirt.VIR_DOMAIN_AFFECT_CONFIG
    domain.attachDeviceFlags(xml, flags)


def ask_detach(conn: libvirt.virConnect, vm_id: str, drive: str) -> None:
    domain = find(conn, vm_id)
    disk = _disk(domain, drive)
    if disk is None:
        return
    try:
        domain.detachDeviceFlags(ET.tostring(disk, encoding="unicode"), libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError as error:
        # It was asked before and has not answered: "already in the process of unplug".
        if problems.code(error) not in (libvirt.VIR_ERR_OPERATION_FAILED, libvirt.VIR_ERR_DEVICE_MISSING):
            raise
        if "unplug" not in problems.reason(error) and _disk(domain, drive) is not None:
            raise HypervisorError(what="unplugging", reason=problems.reason(error)) from None


def drop(conn: libvirt.virConnect, vm_id: str, drive: str) -> None:
    domain = find(conn, vm_id)
    if not domain.isPersistent():
        return
    disk = _disk(domain, drive, libvirt.VIR_DOMAIN_XML_INACTIVE)
    if disk is not None:
        domain.detachDeviceFlags(ET.tostring(disk, encoding="unicode"), libvirt.VIR_DOMAIN_AFFECT_CONFIG)


def _disk(domain: libvirt.virDomain, drive: str, document: int = 0) -> ET.Element | None:
    for disk in ET.XML(domain.XMLDesc(document)).findall("devices/disk"):
        target = disk.find("target")
        if target is not None and target.get("dev") == drive:
            return disk
    return None
