# SPDX-License-Identifier: Apache-2.0
"""How disks of running machines are named, and what is done to them."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from .storage_words import LARGEST_VOLUME, DomainId, ImageId, PoolId, VolumeId
from .types import END, Input
from .vm_params import Disk, DomainXml

CdImage = Annotated[
    str,
    Meta(
        pattern=r"^(/[^\x00-\x1f\x7f]{0,4094}|[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,127}|[0-9a-f-]{36}(/[0-9a-f-]{36}){2})?"
        + END,
        description="Of a disc image: its absolute path, the name or id of a disk of this host's storage, or the ids "
        "DOMAIN/IMAGE/VOLUME of a volume; empty to eject.",
        examples=["/var/lib/vdsm/images/debian.iso"],
    ),
]

NewSize = Annotated[int, Meta(ge=1, le=LARGEST_VOLUME, description="Bytes that the guest sees.")]
Bandwidth = Annotated[int, Meta(ge=0, le=1_000_000, description="MiB per second; 0: as fast as it goes.")]
AgentSeconds = Annotated[int, Meta(le=86_400, description="Whole seconds.")]


class VolumeRef(Input, frozen=True, kw_only=True):
    """A volume of this host's storage, by its ids."""

    domain_id: DomainId = msgspec.field(name="domainID")
    image_id: ImageId = msgspec.field(name="imageID")
    volume_id: VolumeId = msgspec.field(name="volumeID")
    pool_id: PoolId | None = msgspec.field(name="poolID", default=None)


class SnapshotDrive(Input, frozen=True, kw_only=True):
    """A disk and the volume it goes on in, which was made for it and has the present one as its parent."""

    domain_id: DomainId = msgspec.field(name="domainID")
    image_id: ImageId = msgspec.field(name="imageID")
    base_volume_id: VolumeId = msgspec.field(name="baseVolumeID")
    volume_id: VolumeId = msgspec.field(name="volumeID")


class HotplugDisk(Input, frozen=True, kw_only=True):
    """A disk in types, or, in `xml`, as a manager says it: a <hotplug> or <hotunplug> with its <disk>."""

    disk: Disk | None = None
    xml: DomainXml | None = None

    def __post_init__(self) -> None:
        if (self.disk is None) is (self.xml is None):
            raise ValueError("either disk or xml is given")
