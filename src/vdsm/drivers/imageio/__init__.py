# SPDX-License-Identifier: Apache-2.0
"""ovirt-imageio: images over HTTPS for whoever has a ticket."""

from .daemon import Door
from .transfers import ImageioTransfers

__all__ = ["Door", "ImageioTransfers"]
