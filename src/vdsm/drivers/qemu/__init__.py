# SPDX-License-Identifier: Apache-2.0
"""QEMU's own tools."""

from .disks import QemuDisks
from .images import QemuImages
from .servers import QemuServers

__all__ = ["QemuDisks", "QemuImages", "QemuServers"]
