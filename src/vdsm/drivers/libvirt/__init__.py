# SPDX-License-Identifier: Apache-2.0
"""The `Hypervisor` port over libvirt."""

from .hypervisor import LibvirtHypervisor

__all__ = ["LibvirtHypervisor"]
