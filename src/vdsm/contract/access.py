# SPDX-License-Identifier: Apache-2.0
"""Who may do what: privileges are named by verbs, roles are sets of privileges, as data."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType


class Privilege(enum.StrEnum):
    """What a verb needs. One privilege, one kind of power."""

    HOST_READ = "host.read"
    HOST_ADMIN = "host.admin"
    VM_READ = "vm.read"
    VM_POWER = "vm.power"  # start, stop, pause, reset
    VM_CONFIG = "vm.config"  # create, define, change, remove
    VM_CONSOLE = "vm.console"  # see the screen, type on the serial line, set tickets
    VM_RAW_XML = "vm.raw-xml"  # hand a whole libvirt document to the host
    STORAGE_READ = "storage.read"
    STORAGE_DISKS = "storage.disks"  # make, change and remove disks and their volumes
    STORAGE_ADMIN = "storage.admin"  # make, connect and remove domains and pools
    TASK_READ = "task.read"
    TASK_CONTROL = "task.control"
    EVENT_READ = "event.read"
    AUDIT_READ = "audit.read"
    ACCESS_ADMIN = "access.admin"  # tokens


class Role(enum.StrEnum):
    """What an administrator gives to a certificate, a token or a local user."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


_VIEWER = frozenset(
    {Privilege.HOST_READ, Privilege.VM_READ, Privilege.STORAGE_READ, Privilege.TASK_READ, Privilege.EVENT_READ}
)
_OPERATOR = _VIEWER | {
    Privilege.VM_POWER,
    Privilege.VM_CONFIG,
    Privilege.VM_CONSOLE,
    Privilege.STORAGE_DISKS,
    Privilege.TASK_CONTROL,
}

ROLES: Mapping[Role, frozenset[Privilege]] = MappingProxyType(
    {Role.VIEWER: _VIEWER, Role.OPERATOR: _OPERATOR, Role.ADMIN: frozenset(Privilege)}
)
