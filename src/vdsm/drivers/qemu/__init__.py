# SPDX-License-Identifier: Apache-2.0
"""QEMU's own tools."""

from .images import QemuImages

__all__ = ["QemuImages"]
