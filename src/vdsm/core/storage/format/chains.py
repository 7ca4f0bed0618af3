# SPDX-License-Identifier: Apache-2.0
"""The volumes of a domain as its metadata files tell them: which image, in which order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from vdsm.contract.storage_words import BLANK, VolumeLegality, VolumeRole, VolumeStatus

from . import layout, volume_meta
from .lines import Malformed, is_uuid
from .volume_meta import VolumeMeta

_ALIAS = "DiskAlias"
_UPLOAD = "Upload"  # of a disk that waits for its content: how long that is
_NAME_MAX = 128


class _Words(msgspec.Struct):
    """A volume's description, as managers write it."""

    alias: str = msgspec.field(name=_ALIAS, default="")
    upload: int = msgspec.field(name=_UPLOAD, default=0)


@dataclass(slots=True)
class Image:
    """All volumes in one image's directory: those that can be read, and why the others cannot."""

    id: str
    volumes: dict[str, VolumeMeta] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def own(self) -> list[str]:
        """Its volumes without the links to another image's template."""
        return sorted(self.faults.keys() | {name for name, meta in self.volumes.items() if meta.image == self.id})

    def template(self) -> str:
        """The volume of this image that others go on from; empty: it is no template."""
        return next(
            (n for n, meta in self.volumes.items() if meta.role is VolumeRole.SHARED and meta.image == self.id), ""
        )

    def chain(self) -> list[str]:
        """The ids of its volumes, the one that is written to first, without what is left over. Raises Malformed."""
        for volume, fault in self.faults.items():
            raise Malformed(f"the metadata of volume {volume} cannot be used: {fault}")
        leaves = [name for name, meta in self.volumes.items() if meta.role is VolumeRole.LEAF]
        if len(leaves) > 1:  # what was merged into another is ILLEGAL until it is deleted
            leaves = [name for name in leaves if self.volumes[name].legality is VolumeLegality.LEGAL]
        if not leaves and len(self.volumes) == 1 and (template := self.template()):
            leaves = [template]
        if len(leaves) != 1:
            raise Malformed(f"it has {len(leaves)} volumes that are written to, not one")
        found: list[str] = []
        at = leaves[0]
        while at != BLANK:
            if at in found:
                raise Malformed("its volumes go round in a circle")
            if at not in self.volumes:
                raise Malformed(f"its volume {at} is missing")
            found.append(at)
            at = self.volumes[at].parent
        for name in sorted(self.volumes.keys() - set(found)):
            if self.volumes[name].legality is not VolumeLegality.ILLEGAL:
                raise Malformed(f"its volume {name} is in no chain")
        return found

    def left_over(self) -> list[str]:
        """Its ILLEGAL volumes that are in its chain no more: what merges leave. Raises Malformed."""
        return sorted(self.volumes.keys() - set(self.chain()))

    def status(self) -> tuple[VolumeStatus, str]:
        """How it stands, and why."""
        try:
            chain = self.chain()
        except Malformed as fault:
            return VolumeStatus.INVALID, str(fault)
        for name in chain:
            match self.volumes[name].legality:
                case VolumeLegality.ILLEGAL:
                    return VolumeStatus.ILLEGAL, f"its volume {name} was not finished"
                case VolumeLegality.FAKE:
                    return VolumeStatus.ILLEGAL, f"its template {name} is not in this domain"
        return VolumeStatus.OK, ""

    def top(self) -> VolumeMeta | None:
        """The volume that is written to; of an image without a chain, any that can be read."""
        try:
            return self.volumes[self.chain()[0]]
        except Malformed:
            return next(iter(self.volumes.values()), None)


def ids_of(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Image and volume of each `.meta` file, images being removed left out."""
    return (ids for path in paths if (ids := _ids(path)) is not None)


def _ids(path: str) -> tuple[str, str] | None:
    directory, _, name = path.rpartition("/")
    image_id, volume_id = directory.rpartition("/")[2], name.removesuffix(layout.META)
    return (image_id, volume_id) if is_uuid(image_id) and is_uuid(volume_id) else None


def images_of(domain_id: str, files: Mapping[str, bytes]) -> dict[str, Image]:
    """From every `.meta` file of a domain, by its path: the images, those being removed left out."""
    found: dict[str, Image] = {}
    for path, data in files.items():
        if (ids := _ids(path)) is None:
            continue
        image_id, volume_id = ids
        image = found.setdefault(image_id, Image(image_id))
        try:
            meta = volume_meta.decode(data)
            if meta.domain != domain_id:
                raise Malformed(f"it is of the domain {meta.domain}")
            if meta.image != image_id and meta.role is not VolumeRole.SHARED:  # a template's is its own image's
                raise Malformed(f"it is of the image {meta.image}")
        except Malformed as fault:
            image.faults[volume_id] = str(fault)
        else:
            image.volumes[volume_id] = meta
    return found


def name_of(image: Image) -> str:
    """What people call the disk: its alias, else its id."""
    top = image.top()
    return (alias(top) if top else "") or image.id


def alias(meta: VolumeMeta) -> str:
    """The name in a volume's description; empty if there is none."""
    return "".join(c for c in _words(meta).alias[:_NAME_MAX] if c.isprintable())


def upload_of(meta: VolumeMeta) -> int:
    """How many bytes a disk waits for; 0: for none."""
    return max(_words(meta).upload, 0)


def _words(meta: VolumeMeta) -> _Words:
    try:
        return msgspec.json.decode(meta.description, type=_Words)
    except (msgspec.DecodeError, RecursionError):
        return _Words()


def description(name: str, upload: int = 0) -> str:
    """As managers write it, so that they show the name too."""
    waits = {_UPLOAD: upload} if upload else {}
    return msgspec.json.encode({_ALIAS: name, "DiskDescription": "", **waits}).decode()
