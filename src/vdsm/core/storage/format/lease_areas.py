# SPDX-License-Identifier: Apache-2.0
"""What sanlock writes at the head of a lease, as far as it is read here. The rest of a lease is its own affair.

A host id's record fills one sector of `ids`; a lease begins with its record and is as long as the domain's alignment.
Measured with sanlock 3.8: records it wrote, and where a value it was given came to lie.
"""

from __future__ import annotations

import contextlib
import struct

import msgspec

from .lines import Malformed

RECORD_BYTES = 512
VALUE_BYTES = 512
_HOST_ID, _LEASE, _CLEARED = 0x12212010, 0x06152010, 0x11282016
_RECORD = struct.Struct("<IIII5Q48s48sQ8xI2xH")
_GENERATION = range(40, 48)
_SUMMED = 168  # bytes before the checksum
# Before it its record, requests, and a sector for each of 2000 hosts, however many a lease of that length has room for.
_VALUE_SECTOR = 2002


class LeaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One record. A time of 0: nobody holds it."""

    lockspace: str
    resource: str  # of a host id: the host's name
    owner: int
    generation: int  # how often that host has taken its id
    version: int  # how often the lease was taken
    time: int  # of the owner's clock
    io_timeout: int  # seconds


def host_id(data: bytes) -> LeaseRecord | None:
    """Of `ids`; None where nothing was written. Raises Malformed."""
    return _decode(data, _HOST_ID)


def host_ids(data: bytes, sector: int) -> list[LeaseRecord]:
    """Of a whole `ids`: those that some host has taken, now or before. What is damaged is left out."""
    found = []
    for start in range(0, len(data) - RECORD_BYTES + 1, sector):
        if any(data[start + _GENERATION.start : start + _GENERATION.stop]):
            with contextlib.suppress(Malformed):
                if (record := _decode(data[start : start + RECORD_BYTES], _HOST_ID)) is not None:
                    found.append(record)
    return found


def lease(data: bytes) -> LeaseRecord | None:
    """None where there is none. Raises Malformed."""
    return _decode(data, _LEASE)


def value_offset(alignment: int, sector: int) -> int | None:
    """Where the value that goes with a lease lies, from the lease's beginning.

    None where that is beyond its end: sanlock 3.8 reads and writes there all the same, over other leases.
    """
    offset = _VALUE_SECTOR * sector
    return offset if offset + sector <= alignment else None


def _decode(data: bytes, magic: int) -> LeaseRecord | None:
    if not any(data[:4]) or data[:4] == _CLEARED.to_bytes(4, "little"):
        return None
    if len(data) < RECORD_BYTES:
        raise Malformed(f"it is cut off after {len(data)} bytes")
    found, _, _, _, _, _, owner, generation, version, space, name, time, checksum, io_timeout = _RECORD.unpack_from(
        data
    )
    if found != magic:
        raise Malformed("there is something else in its place")
    if checksum != _crc32c(data[:_SUMMED]):
        raise Malformed("its checksum is not that of what it says")
    return LeaseRecord(
        lockspace=_text(space),
        resource=_text(name),
        owner=owner,
        generation=generation,
        version=version,
        time=time,
        io_timeout=io_timeout,
    )


def _text(padded: bytes) -> str:
    text = padded.partition(b"\0")[0]
    if not text.isascii() or not text.decode("ascii").isprintable():
        raise Malformed("it has a name that is not printable")
    return text.decode("ascii")


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def _crc32c(data: bytes) -> int:
    """As sanlock computes it: it leaves out the last complement."""
    sum_ = 0xFFFFFFFE
    for byte in data:
        sum_ = (sum_ >> 8) ^ _TABLE[(sum_ ^ byte) & 0xFF]
    return sum_
