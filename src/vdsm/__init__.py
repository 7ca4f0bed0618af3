# SPDX-License-Identifier: Apache-2.0
"""vdsm: a virtualization host daemon."""

__version__ = "1.0.0.dev0"
