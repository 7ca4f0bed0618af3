# SPDX-License-Identifier: Apache-2.0
"""The index of a domain's external leases (`xleases`): which name has its lease in which slot.

A slot is as long as the domain's alignment: slot 0 is unused, 1 holds the index, 2 is internal, leases are from 3 on.
The index is a header of 512 bytes and a record of 64 for each slot. Leases themselves are sanlock's.
"""

from __future__ import annotations

import re
import struct

import msgspec

from .lines import Malformed

INDEX_SLOT = 1
INTERNAL_SLOT = 2
FIRST_SLOT = 3
RECORDS = 3960
HEADER_BYTES = 512
RECORD_BYTES = 64
INDEX_BYTES = HEADER_BYTES + RECORDS * RECORD_BYTES
NAME_MAX = 48

_MAGIC = 0x12152016
_VERSION = b"0001"
_CHANGING = b"u"
_AT_REST = b"-"  # any other flag says that a change began and did not end
_HEADER = struct.Struct(">Ix4sx48sx10sxc")
_RECORD = struct.Struct(">48sx11sxccc")
_NUMBER = re.compile(rb"[0-9]+")


class ExternalLeases(msgspec.Struct, frozen=True, kw_only=True):
    """The index, read. With `updating` somebody died while changing it: it must be built anew from the leases."""

    lockspace: str
    changed: int  # seconds since 1970
    records: dict[str, int]  # number of the record by name
    updating: bool = False
    changing: set[str] = set()  # names whose record somebody began to change

    def unsure(self) -> bool:
        """Whether some change did not end."""
        return self.updating or bool(self.changing)

    def free(self) -> int | None:
        """The first record that nobody has; None: it is full."""
        used = set(self.records.values())
        return next((number for number in range(RECORDS) if number not in used), None)


def lease_offset(number: int, alignment: int) -> int:
    """Where in the file the lease of a record lies."""
    return (FIRST_SLOT + number) * alignment


def record_offset(number: int, alignment: int) -> int:
    """Where in the file the record itself lies."""
    return INDEX_SLOT * alignment + HEADER_BYTES + number * RECORD_BYTES


def header(lockspace: str, changed: int, *, updating: bool = False) -> bytes:
    """Its 512 bytes."""
    start = _HEADER.pack(_MAGIC, _VERSION, _name(lockspace), b"%010d" % changed, _CHANGING if updating else _AT_REST)
    return start.ljust(HEADER_BYTES - 1, b"\0") + b"\n"


def record(name: str, number: int, alignment: int, *, changing: bool = False) -> bytes:
    """Its 64 bytes; without a name those of a free one."""
    offset = lease_offset(number, alignment) if name else 0
    flag = _CHANGING if changing else _AT_REST
    return _RECORD.pack(_name(name) if name else b"", b"%011d" % offset, flag, _AT_REST, b"\n")


def empty(lockspace: str, changed: int) -> bytes:
    """A whole index without leases."""
    return header(lockspace, changed) + record("", 0, 1) * RECORDS


def decode(data: bytes, alignment: int) -> ExternalLeases:
    """Raises Malformed."""
    if len(data) < INDEX_BYTES:
        raise Malformed(f"its index is cut off after {len(data)} bytes")
    magic, version, lockspace, changed, flag = _HEADER.unpack_from(data)
    if magic != _MAGIC or version != _VERSION:
        raise Malformed("its index does not begin as one of version 1 does")
    records: dict[str, int] = {}
    changing: set[str] = set()
    for number in range(RECORDS):
        resource, offset, state, _, end = _RECORD.unpack_from(data, HEADER_BYTES + number * RECORD_BYTES)
        if end != b"\n":
            raise Malformed(f"record {number} of its index does not end as one does")
        if not (name := _text(resource)):
            continue
        if name in records:
            raise Malformed(f"its index has {name} twice")
        if _int(offset) != lease_offset(number, alignment):
            raise Malformed(f"its index has {name} at a place that is not that of record {number}")
        records[name] = number
        if state != _AT_REST:
            changing.add(name)
    return ExternalLeases(
        lockspace=_text(lockspace),
        changed=_int(changed),
        records=records,
        updating=flag != _AT_REST,
        changing=changing,
    )


def _name(name: str) -> bytes:
    if not name.isascii() or not name.isprintable() or not 0 < len(name) <= NAME_MAX:
        raise Malformed(f"{name!r} is no name of a lease: it has 1 to {NAME_MAX} ASCII characters")
    return name.encode()


def _text(padded: bytes) -> str:
    text = padded.rstrip(b"\0")
    if not text.isascii() or not text.decode("ascii").isprintable():
        raise Malformed("its index has a name that is not printable")
    return text.decode("ascii")


def _int(digits: bytes) -> int:
    if not _NUMBER.fullmatch(digits):
        raise Malformed("its index has a number that is none")
    return int(digits)
