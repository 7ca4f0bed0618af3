# SPDX-License-Identifier: Apache-2.0
"""QEMU's own tools."""

from .disks import QemuDisks
from .images import QemuImages

__all__ = ["QemuDisks", "QemuImages"]
