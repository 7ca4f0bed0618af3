# SPDX-License-Identifier: Apache-2.0
"""Every port in memory, with faults on demand: for tests, for scale, and for `vdsmd --simulate`."""

from .faults import Faults
from .hypervisor import SimulatedHypervisor
from .images import SimulatedImages

__all__ = ["Faults", "SimulatedHypervisor", "SimulatedImages"]
