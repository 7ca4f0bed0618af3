# SPDX-License-Identifier: Apache-2.0
"""Volumes served over NBD on a socket of this host, for transfers and backups."""

from __future__ import annotations

from typing import Annotated

import msgspec

from . import errors as e
from . import errors_domains as ed
from . import errors_storage as es
from ._verb import Kind, Wire, verb
from .access import Privilege
from .storage_words import DomainId, ImageId, VolumeId
from .types import Input, Uuid

NOUN = "NBD"


class NBDServerConfig(Input, frozen=True, kw_only=True):
    """What is served and how; `backing_chain` false serves what the volume itself holds, without those below it."""

    sd_id: DomainId = msgspec.field(name="sd_id")
    img_id: ImageId = msgspec.field(name="img_id")
    vol_id: VolumeId = msgspec.field(name="vol_id")
    readonly: bool = False
    discard: bool = False
    detect_zeroes: bool = msgspec.field(name="detect_zeroes", default=False)
    backing_chain: bool = msgspec.field(name="backing_chain", default=True)
    bitmap: Uuid | None = None


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /nbd-servers/{server_id}",
    published="start_server",
    raises=(
        ed.StorageDomainDoesNotExist, ed.StorageUnusable, ed.VolumeDoesNotExist, ed.DiskUnusable, ed.DiskInUse,
        es.FileMissing, es.StorageBroken, es.PathEscapes, es.ImageOperationFailed, es.ImageVerificationError,
        e.DeadlineExceeded, e.TooBusy, e.ObjectBusy, e.StateUnavailable,
    ),
)  # fmt: skip
def start_server(server_id: Annotated[Uuid, Wire("server_id")], config: NBDServerConfig) -> str:
    """Serve a volume; answers the URL, the same one while it is served. It goes on until it is stopped."""


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_DISKS, since="1.0", http="DELETE /nbd-servers/{server_id}",
    published="stop_server",
    raises=(e.DeadlineExceeded, e.TooBusy, e.ObjectBusy, e.StateUnavailable),
)  # fmt: skip
def stop_server(server_id: Annotated[Uuid, Wire("server_id")]) -> None:
    """Serve it no more. A server that is not there is fine."""
