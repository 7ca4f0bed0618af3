# SPDX-License-Identifier: Apache-2.0
"""Which volume of the storage a path in a machine's document means, by any of the names its directory has."""

from __future__ import annotations

from typing import NamedTuple

from vdsm.core.storage.format.lines import is_uuid
from vdsm.core.storage.repository import Repository


class Spot(NamedTuple):
    domain_id: str
    image_id: str
    volume_id: str


class Spots:
    """`prepared` is the directory of links to images that are in use."""

    def __init__(self, repository: Repository, prepared: str) -> None:
        self._repository = repository
        self._prepared = prepared

    def of(self, path: str) -> Spot | None:
        """Names alone are compared, no link is followed."""
        place, _, volume_id = path.rpartition("/")
        place, _, image_id = place.rpartition("/")
        if not is_uuid(volume_id) or not is_uuid(image_id):
            return None
        for domain in self._repository:
            if place in (*self._repository.ways_to(domain), f"{self._prepared}/{domain.id}"):
                return Spot(domain.id, image_id, volume_id)
        return None
