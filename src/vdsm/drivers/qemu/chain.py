# SPDX-License-Identifier: Apache-2.0
"""A file and what it refers to, read without trust and without QEMU: each by its own header, in its stated format."""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

import msgspec

from vdsm.contract.vm_params import DiskFormat

from .qcow2 import HEADER_MAX, Header, Refused, read_header

_CHAIN_MAX = 32
_BROKEN = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT)


class Missing(Refused):
    """There is no such file."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: No such file or directory")
        self.path = path


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a chain."""

    path: str
    size: int
    header: Header | None  # of a qcow2 file

    @property
    def virtual_size(self) -> int:
        """Bytes a guest sees."""
        return self.size if self.header is None else self.header.virtual_size


def read_chain(path: str, image_format: DiskFormat | None) -> tuple[list[Look], list[str]]:
    """The file and its backing files, the nearest first, and the data files of all. Raises Refused."""
    chain: list[Look] = []
    data_files: list[str] = []
    qcow2 = image_format is DiskFormat.QCOW2
    following: str = path
    while following:
        look = _look(following, qcow2=qcow2)
        if look.path in [seen.path for seen in chain]:
            raise Refused("its backing files go round in a circle")
        if len(chain) == _CHAIN_MAX:
            raise Refused(f"it has more than {_CHAIN_MAX} backing files")
        chain.append(look)
        following = ""
        if look.header is None:
            break
        if look.header.data_file:
            reference, stated = _resolve(look.header.data_file, look.path)
            if stated not in ("", "raw"):
                raise Refused("its data file is not raw")
            data_files.append(_look(reference, qcow2=False).path)
        if look.header.backing_file:
            following, stated = _resolve(look.header.backing_file, look.path)
            qcow2 = _is_qcow2(look.header.backing_format or stated, stated)
    return chain, data_files


def read_reference(path: str, image_format: DiskFormat) -> tuple[str, DiskFormat] | None:
    """The backing file that one file names, which is not looked at. Raises Refused."""
    header = _look(path, qcow2=image_format is DiskFormat.QCOW2).header
    if header is None or not header.backing_file:
        return None
    if header.data_file:
        raise Refused("it keeps its data in another file")
    following, stated = _resolve(header.backing_file, path)
    qcow2 = _is_qcow2(header.backing_format or stated, stated)
    return os.path.normpath(following), DiskFormat.QCOW2 if qcow2 else DiskFormat.RAW


def _is_qcow2(backing_format: str, stated: str) -> bool:
    if backing_format not in ("raw", "qcow2"):
        said = f"says {backing_format!r}" if backing_format else "does not say"
        raise Refused(f"it {said} for the format of its backing file; only raw and qcow2 are allowed")
    if stated not in ("", backing_format):
        raise Refused("it names two formats for its backing file")
    return backing_format == "qcow2"


def _look(path: str, *, qcow2: bool) -> Look:
    """Open a plain file and read what it says of itself. Raises Refused."""
    try:
        real = os.path.realpath(path, strict=True)
        # A pipe must not hold us (NONBLOCK), and opening a device may do something: so ask first, and again once open.
        if not stat.S_ISREG(os.stat(real).st_mode):
            raise Refused("it is not a plain file")
        handle = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Missing(path) from None
    except OSError as error:
        if error.errno in _BROKEN:  # which says nothing of the image
            raise
        raise Refused(f"{path}: {error.strerror}") from None
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise Refused("it is not a plain file")
        header = read_header(file.read(HEADER_MAX), status.st_size) if qcow2 else None
    return Look(path=real, size=status.st_size, header=header)


def _resolve(reference: str, image: str) -> tuple[str, str]:
    """The path a reference inside `image` stands for, and the format if it states one.

    Raises Refused for anything but a file of this host.
    """
    stated = ""
    if reference.startswith("json:"):
        reference, stated = _file_in_json(reference)
    elif reference.startswith("file:"):
        reference = reference.removeprefix("file:")
    elif ":" in reference.partition("/")[0]:  # QEMU takes what stands before the colon for a protocol
        raise Refused(f"it refers to {reference!r}, which is not a file of this host")
    return os.path.join(os.path.dirname(image), reference), stated


def _file_in_json(reference: str) -> tuple[str, str]:
    """File name and format of `json:{"driver": "qcow2", "file": {"driver": "file", "filename": "..."}}`.

    With `"file.driver"` and `"file.filename"` too, and with the file alone.
    """
    refused = Refused("it refers to something by `json:` that is not one file of this host")
    try:
        node: Any = msgspec.json.decode(reference.removeprefix("json:"))
    except (msgspec.DecodeError, RecursionError):
        raise refused from None
    if not isinstance(node, dict):
        raise refused
    stated = ""
    if node.get("driver") in ("raw", "qcow2"):
        stated = node.pop("driver")
        inner = node.pop("file", {})
        if not isinstance(inner, dict) or (inner and node):
            raise refused
        node = inner or {key.removeprefix("file."): value for key, value in node.items()}
    name = node.pop("filename", None)
    if not isinstance(name, str) or not name or node.pop("driver", "file") != "file" or node:
        raise refused
    return name, stated
