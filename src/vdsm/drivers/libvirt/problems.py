# SPDX-License-Identifier: Apache-2.0
"""libvirt's errors as the contract's problems."""

from __future__ import annotations

import re

import libvirt

from vdsm.contract.errors import (
    DeadlineExceeded,
    HypervisorError,
    HypervisorUnavailable,
    NonResponsiveGuestAgent,
    NoSuchVM,
    Problem,
)
from vdsm.contract.errors_domains import ImageInUse

# Said by the client's half of libvirt when the server's half is not there.
_TRANSPORT = {libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE}
_BROKEN = {
    libvirt.VIR_ERR_INTERNAL_ERROR,  # "client socket is closed"
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_AUTH_FAILED,
    libvirt.VIR_ERR_AUTH_CANCELLED,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE,
}
_NO_CONNECTION = {libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_INVALID_CONN}
_AGENT = {
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
    libvirt.VIR_ERR_AGENT_UNSYNCED,
}
# What QEMU says of an image that another program has open.
_LOCKED = re.compile(r"Failed to get (?:shared )?\"[\w ]+\" lock Is another process using the image \[(.+?)\]")
_LOCK_S = 30  # libvirt waits so long for whatever else is being done with the domain


def reason(error: libvirt.libvirtError) -> str:
    """libvirt's own words, on one line."""
    return " ".join((error.get_error_message() or str(error)).split())


def code(error: libvirt.libvirtError) -> int:
    return int(error.get_error_code() or 0)


def is_lost(error: libvirt.libvirtError) -> bool:
    """Whether it is the connection that failed, not the call."""
    return code(error) in _NO_CONNECTION or (error.get_error_domain() in _TRANSPORT and code(error) in _BROKEN)


def is_general(error: libvirt.libvirtError) -> bool:
    """Whether it means the same whatever was asked."""
    return is_lost(error) or code(error) in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_TIMEOUT)


def problem(error: libvirt.libvirtError, what: str, vm: str = "") -> Problem:
    """The problem for an error in `what`, done to `vm`."""
    if is_lost(error):
        return HypervisorUnavailable(reason=reason(error))
    match code(error):
        case libvirt.VIR_ERR_NO_DOMAIN:
            return NoSuchVM(vm=vm)
        case libvirt.VIR_ERR_OPERATION_TIMEOUT:
            return DeadlineExceeded(what=what, seconds=_LOCK_S)
        case number if number in _AGENT:
            return NonResponsiveGuestAgent(vm=vm, reason=reason(error))
    if locked := _LOCKED.search(reason(error)):
        return ImageInUse(path=locked[1])
    return HypervisorError(what=what, reason=reason(error))
