# SPDX-License-Identifier: Apache-2.0
"""sanlock: leases on shared storage."""

from .leases import SanlockLeases

__all__ = ["SanlockLeases"]
