# SPDX-License-Identifier: Apache-2.0
"""A volume's metadata as it lies beside the volume: at most 512 bytes, sorted lines, `EOF` last."""

from __future__ import annotations

import msgspec

from vdsm.contract.storage_words import (
    BLANK,
    LARGEST_VOLUME,
    DiskContentType,
    VolumeAllocation,
    VolumeFormat,
    VolumeLegality,
    VolumeRole,
)

from .lines import Fields, Malformed, split

SIZE = 512
DESCRIPTION_BYTES = 210
GENERATIONS = 1000  # a generation counts from 0 to 999 and begins anew
LAST_SEQUENCE = 2**32 - 1
_END = "EOF"
_DISK_TYPES = {"1": DiskContentType.DATA, "2": DiskContentType.DATA, **{kind.value: kind for kind in DiskContentType}}


class VolumeMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What the host knows of a volume that the volume itself does not say."""

    domain: str
    image: str
    parent: str = BLANK
    capacity: int  # bytes
    created: int  # seconds since 1970
    description: str = ""
    disk_type: DiskContentType = DiskContentType.DATA
    format: VolumeFormat
    allocation: VolumeAllocation
    role: VolumeRole = VolumeRole.LEAF
    legality: VolumeLegality = VolumeLegality.LEGAL
    generation: int = 0
    sequence: int = 0
    rest: dict[str, str] = {}  # what another host wrote and this one does not know

    def next_generation(self) -> int:
        return (self.generation + 1) % GENERATIONS


def encode(meta: VolumeMeta) -> bytes:
    """Raises ValueError for what cannot be written so that it is read the same."""
    if len(meta.description.encode()) > DESCRIPTION_BYTES:
        raise ValueError(f"a volume's description has at most {DESCRIPTION_BYTES} bytes")
    lines = {
        **meta.rest,
        "CAP": str(meta.capacity),
        "CTIME": str(meta.created),
        "DESCRIPTION": meta.description,
        "DISKTYPE": meta.disk_type.value,
        "DOMAIN": meta.domain,
        "FORMAT": meta.format.value,
        "GEN": str(meta.generation),
        "IMAGE": meta.image,
        "LEGALITY": meta.legality.value,
        "PUUID": meta.parent,
        "SEQ": str(meta.sequence),
        "TYPE": meta.allocation.value,
        "VOLTYPE": meta.role.value,
    }
    data = "".join(f"{key}={lines[key]}\n" for key in sorted(lines)).encode() + f"{_END}\n".encode()
    if len(data) > SIZE:
        raise ValueError(f"a volume's metadata has at most {SIZE} bytes")
    if decode(data) != meta:  # a newline in the description, say
        raise ValueError("a volume's metadata has a value that cannot be written")
    return data


def decode(data: bytes) -> VolumeMeta:
    """Raises Malformed."""
    fields = Fields(split(_lines(data)))
    disk_type = fields.text("DISKTYPE", DiskContentType.DATA.value)
    if disk_type not in _DISK_TYPES:
        raise Malformed(f"its DISKTYPE is {disk_type[:40]!r}")
    return VolumeMeta(
        capacity=fields.number("CAP", 0, LARGEST_VOLUME),
        created=fields.number("CTIME", 0, 2**63 - 1),
        description=fields.text("DESCRIPTION", ""),
        disk_type=_DISK_TYPES[disk_type],
        domain=fields.uuid("DOMAIN"),
        format=fields.word("FORMAT", VolumeFormat),
        generation=fields.number("GEN", 0, GENERATIONS - 1, 0),
        image=fields.uuid("IMAGE"),
        legality=fields.word("LEGALITY", VolumeLegality),
        parent=fields.uuid("PUUID"),
        sequence=fields.number("SEQ", 0, LAST_SEQUENCE, 0),
        allocation=fields.word("TYPE", VolumeAllocation),
        role=fields.word("VOLTYPE", VolumeRole),
        rest=fields.rest(),
    )


def _lines(data: bytes) -> list[str]:
    if len(data) > SIZE:
        raise Malformed(f"it is longer than {SIZE} bytes")
    try:
        text = data.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        raise Malformed("it is not UTF-8") from None
    lines = text.split("\n")
    if _END not in lines:
        raise Malformed("it is cut short: it has no line EOF")
    return lines[: lines.index(_END)]
