# SPDX-License-Identifier: Apache-2.0
"""File systems of storage: what is in them, and where they are mounted."""

from .files import LinuxFiles
from .mounts import LinuxMounts

__all__ = ["LinuxFiles", "LinuxMounts"]
