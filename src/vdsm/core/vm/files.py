# SPDX-License-Identifier: Apache-2.0
"""Which files of the host a machine may be given."""

from __future__ import annotations

import asyncio
import os.path
from collections.abc import Callable, Sequence

from vdsm.contract.errors import PathNotAllowed
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.ports.images import ImageFacts, Images


class AllowedFiles:
    """Files below the directories the administrator named, looked at as what they are said to be.

    `more` tells the directories of the host's storage, which come and go.
    """

    def __init__(self, images: Images, directories: Sequence[str], more: Callable[[], Sequence[str]]) -> None:
        self._images = images
        self._directories = [os.path.realpath(d) for d in directories]
        self._more = more

    async def admit(self, path: str, image_format: DiskFormat | None) -> str:
        """The path with its symbolic links resolved. Raises PathNotAllowed, FileUnusable.

        Everything the file refers to (backing files, data files) must be allowed too.
        """
        # Before anything looks at the file; in a thread, since a mount may hang.
        self._confine(await asyncio.to_thread(os.path.realpath, path), path)
        facts = await self._images.inspect(path, image_format)
        self._confine(facts.path, path)
        for reference in facts.references:
            self._confine(reference, f"{reference} (which {path} refers to)")
        return facts.path

    async def look(self, path: str, image_format: DiskFormat) -> ImageFacts:
        """At a file whose place is known to be allowed. Raises FileUnusable."""
        return await self._images.inspect(path, image_format)

    def _confine(self, path: str, shown: str) -> None:
        if not any(path.startswith(f"{directory}/") for directory in (*self._directories, *self._more())):
            raise PathNotAllowed(file=shown, allowed=", ".join(self._directories))
