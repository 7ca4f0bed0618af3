# SPDX-License-Identifier: Apache-2.0
"""The header of a qcow2 file, read without trust: what it refers to, and whether it can be true.

Done before qemu-img sees the file, which would follow a data file wherever it points (CVE-2024-4467). The format is
docs/interop/qcow2.txt of QEMU.
"""

from __future__ import annotations

import struct

import msgspec

HEADER_MAX = 1 << 21  # the header and its extensions are in the first cluster, which has at most 2 MiB

_MAGIC = b"QFI\xfb"
_FIXED = struct.Struct(">4sIQIIQIIQQIIQ")  # the part that versions 2 and 3 share
_FIXED_V3 = struct.Struct(">QQQII")
_NAME_MAX = 1023
_CLUSTER_BITS = range(9, 22)
_TABLE_MAX = 32 * 1024 * 1024  # bytes of an L1 table: QEMU's own limit
_REFCOUNT_MAX = 8 * 1024 * 1024

_DATA_FILE = 1 << 2
_EXTENDED_L2 = 1 << 4
_UNDERSTOOD = 1 << 0 | _DATA_FILE | 1 << 3 | _EXTENDED_L2  # dirty, data file, compression type, extended L2 entries
_CORRUPT = 1 << 1

_BACKING_FORMAT = 0xE2792ACA
_DATA_FILE_NAME = 0x44415441


class Refused(Exception):
    """Why the header cannot be believed, or not be used."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    virtual_size: int
    backing_file: str = ""
    backing_format: str = ""
    data_file: str = ""


def read_header(start: bytes, file_size: int) -> Header:
    """From the first `HEADER_MAX` bytes of a file of `file_size` bytes. Raises Refused."""
    if len(start) < _FIXED.size or start[:4] != _MAGIC:
        raise Refused("it is not of the format qcow2")
    _, version, name_at, name_length, cluster_bits, size, crypt, l1_size, l1_at, refcount_at, refcounts, *_ = (
        _FIXED.unpack_from(start)
    )
    if version not in (2, 3):
        raise Refused(f"qcow2 version {version} is not known")
    if cluster_bits not in _CLUSTER_BITS:
        raise Refused("its header is damaged: the cluster size")
    if crypt:
        raise Refused("it is encrypted")
    features, length = _features(start, version)
    cluster = 1 << cluster_bits
    _check_table("L1 table", l1_at, l1_size * 8, min(_TABLE_MAX, file_size), file_size)
    _check_table("refcount table", refcount_at, refcounts * cluster, _REFCOUNT_MAX, file_size)
    entries = cluster // (16 if features & _EXTENDED_L2 else 8)
    if l1_size * entries * cluster < size:
        raise Refused("its header is damaged: the tables do not cover its size")
    extensions = _extensions(start, length, name_at or cluster)
    data_file = _text(extensions.get(_DATA_FILE_NAME, b"")) if features & _DATA_FILE else ""
    if features & _DATA_FILE and not data_file:
        raise Refused("it wants a data file and does not name it")
    return Header(
        virtual_size=size,
        backing_file=_name(start, name_at, name_length, cluster),
        backing_format=_text(extensions.get(_BACKING_FORMAT, b"")),
        data_file=data_file,
    )


def _features(start: bytes, version: int) -> tuple[int, int]:
    """The features a reader must understand, and the header's length."""
    if version == 2:
        return 0, _FIXED.size
    if len(start) < _FIXED.size + _FIXED_V3.size:
        raise Refused("its header is cut off")
    features, _, _, _, length = _FIXED_V3.unpack_from(start, _FIXED.size)
    if features & _CORRUPT:
        raise Refused("it is marked as corrupt; `qemu-img check -r` may repair it")
    if features & ~_UNDERSTOOD:
        raise Refused("it needs features that are not known")
    if not _FIXED.size + _FIXED_V3.size <= length <= len(start):
        raise Refused("its header is damaged: its length")
    return features, length


def _check_table(what: str, offset: int, length: int, most: int, file_size: int) -> None:
    if length > most or offset + length > file_size:
        raise Refused(f"its {what} is beyond the end of the file: it is cut off or damaged")


def _extensions(start: bytes, offset: int, end: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    end = min(end, len(start))
    while offset + 8 <= end:
        kind, length = struct.unpack_from(">II", start, offset)
        offset += 8
        if kind == 0:
            break
        if offset + length > end:
            raise Refused("its header is damaged: an extension")
        found[kind] = start[offset : offset + length]
        offset += (length + 7) // 8 * 8
    return found


def _name(start: bytes, offset: int, length: int, cluster: int) -> str:
    if not offset:
        return ""
    if length > _NAME_MAX or offset + length > min(cluster, len(start)):
        raise Refused("its header is damaged: the name of the backing file")
    return _text(start[offset : offset + length])


def _text(name: bytes) -> str:
    try:
        text = name.decode()
    except UnicodeDecodeError:
        text = "\0"
    if not text.isprintable():
        raise Refused("it refers to a file whose name is not printable")
    return text
