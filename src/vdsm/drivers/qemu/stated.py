# SPDX-License-Identifier: Apache-2.0
"""Nothing is opened whose headers do not name exactly the files that the caller stated."""

from __future__ import annotations

import os
from collections.abc import Iterator

from vdsm.contract.errors import InvalidParams
from vdsm.contract.errors_storage import FileMissing, ImageVerificationError
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.ports.disks import Image, Reference

from . import chain
from .chain import Look, Missing, read_chain
from .qcow2 import Refused
from .tool import QemuImg

_LINKED = "it is reached by a symbolic link"


async def read_reference(tool: QemuImg, image: Image) -> Reference | None:
    """Raises FileMissing, ImageVerificationError."""
    try:
        found = await tool.look(image.lane, image.path, lambda: _reference(image))
    except Missing as missing:
        raise FileMissing(file=missing.path) from None
    except Refused as refused:
        raise ImageVerificationError(file=image.path, reason=str(refused)) from None
    return None if found is None else Reference(path=found[0], format=found[1])


async def read_stated(tool: QemuImg, image: Image) -> list[Look]:
    """The headers of the image and its backing files. Raises FileMissing, ImageVerificationError."""
    if not image.path.startswith("/"):  # else QEMU would take what stands before a colon for a protocol
        raise InvalidParams(reason=f"{image.path!r} is not an absolute path")
    try:
        return await tool.look(image.lane, image.path, lambda: _confirmed(image))
    except Missing as missing:
        if missing.path in [layer.path for layer in layers(image)]:
            raise FileMissing(file=missing.path) from None
        reason = f"it refers to {missing.path}, which is not there"
        raise ImageVerificationError(file=image.path, reason=reason) from None
    except Refused as refused:
        raise ImageVerificationError(file=image.path, reason=str(refused)) from None


def _reference(image: Image) -> tuple[str, DiskFormat] | None:
    if os.path.realpath(image.path) != image.path:
        raise Refused(_LINKED)
    return chain.read_reference(image.path, image.format)


def layers(image: Image | None) -> Iterator[Image]:
    while image is not None:
        yield image
        image = image.backing


def _confirmed(image: Image) -> list[Look]:
    """The chain as its headers tell it. Raises Refused when it is not what was stated."""
    looks, data_files = read_chain(image.path, image.format)
    if data_files:
        raise Refused("it keeps its data in another file")
    stated = list(layers(image))
    if looks[0].path != image.path:
        raise Refused(_LINKED)
    for look, layer in zip(looks, stated, strict=False):
        if look.path != layer.path or (look.header is None) != (layer.format is DiskFormat.RAW):
            raise Refused(f"its backing file is {look.path}, not {layer.path} of the format {layer.format}")
    if len(looks) > len(stated):
        raise Refused(f"it has a backing file, {looks[len(stated)].path}")
    if len(looks) < len(stated):
        raise Refused(f"it does not have the backing file {stated[len(looks)].path}")
    return looks
