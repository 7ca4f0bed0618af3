# SPDX-License-Identifier: Apache-2.0
"""A volume's format, in the words of storage and in those of machines."""

from __future__ import annotations

from vdsm.contract.storage_words import VolumeFormat
from vdsm.contract.vm_params import DiskFormat

DISK_FORMATS = {VolumeFormat.RAW: DiskFormat.RAW, VolumeFormat.COW: DiskFormat.QCOW2}
VOLUME_FORMATS = {disk: volume for volume, disk in DISK_FORMATS.items()}
