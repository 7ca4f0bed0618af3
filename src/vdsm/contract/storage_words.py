# SPDX-License-Identifier: Apache-2.0
"""Words that the storage nouns share: published enumerations, identifiers, sizes."""

from __future__ import annotations

import enum
from typing import Annotated

from msgspec import Meta

from .types import END, Uuid

PoolId = Uuid
DomainId = Uuid
ImageId = Uuid
VolumeId = Uuid

BLANK = "00000000-0000-0000-0000-000000000000"
"""The id that stands for none: of a volume without a parent, of an unattached domain's pool."""

LARGEST_VOLUME = 1 << 50  # 1 PiB, as for images from outside

Capacity = Annotated[
    int, Meta(ge=1, le=LARGEST_VOLUME, description="Bytes that the guest sees; rounded up to whole 4096.")
]
Description = Annotated[
    str, Meta(pattern=r"^[^\x00-\x1f\x7f]{0,210}" + END, description="One line of at most 210 bytes.")
]


class VolumeFormat(enum.StrEnum):
    """RAW as it is; COW: a qcow2 image, which can have a parent."""

    COW = "COW"
    RAW = "RAW"


class VolumeAllocation(enum.StrEnum):
    PREALLOCATED = "PREALLOCATED"
    SPARSE = "SPARSE"


class VolumeRole(enum.StrEnum):
    """Where in its chain a volume stands."""

    LEAF = "LEAF"
    INTERNAL = "INTERNAL"
    SHARED = "SHARED"  # a template, parent of volumes of other images too


class VolumeLegality(enum.StrEnum):
    """Whether its data may be used; ILLEGAL while something is not finished with it."""

    LEGAL = "LEGAL"
    ILLEGAL = "ILLEGAL"
    FAKE = "FAKE"  # stands for a template that is not in this domain


class VolumeStatus(enum.StrEnum):
    OK = "OK"
    ILLEGAL = "ILLEGAL"
    INVALID = "INVALID"


class DiskContentType(enum.StrEnum):
    """What a volume is for."""

    DATA = "DATA"
    OVFS = "OVFS"  # definitions of a manager's machines
    MEMD = "MEMD"  # memory of a snapshot
    MEMM = "MEMM"  # its configuration
    ISOF = "ISOF"
    HEVD = "HEVD"
    HESD = "HESD"
    HEMD = "HEMD"
    HECI = "HECI"
    SCRD = "SCRD"  # scratch space of a backup


class StorageDomainType(enum.StrEnum):
    """Where a domain lives. This host offers LOCALFS, NFS and POSIXFS."""

    NFS = "NFS"
    FCP = "FCP"
    ISCSI = "ISCSI"
    LOCALFS = "LOCALFS"
    CIFS = "CIFS"
    POSIXFS = "POSIXFS"
    GLUSTERFS = "GLUSTERFS"


class StorageDomainImageClass(enum.StrEnum):
    DATA = "Data"
    ISO = "Iso"
    BACKUP = "Backup"


class StorageDomainRole(enum.StrEnum):
    MASTER = "Master"  # keeps the pool's own metadata
    REGULAR = "Regular"


class StorageDomainStatus(enum.StrEnum):
    """How a domain stands in its pool."""

    ACTIVE = "Active"
    ATTACHED = "Attached"
    UNATTACHED = "Unattached"
    UNKNOWN = "Unknown"
