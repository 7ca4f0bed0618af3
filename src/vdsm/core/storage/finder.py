# SPDX-License-Identifier: Apache-2.0
"""Finds the domains that lie in a place. What is read there is hostile until it is decoded."""

from __future__ import annotations

from vdsm.contract.errors import DeadlineExceeded, Problem, TooBusy
from vdsm.contract.errors_storage import FileMissing
from vdsm.core.ports.files import Files

from .format import domain_meta, layout
from .format.lines import Malformed, is_uuid
from .records import Connection, Domain

NO_METADATA = "it has no metadata"


class Finder:
    def __init__(self, files: Files) -> None:
        self._files = files

    async def look(self, connection: Connection) -> list[Domain]:
        """The domains of a connection, also those whose metadata is damaged. Raises what the files do."""
        names = [name for name in await self._files.names(connection.root) if is_uuid(name)]
        found = [await self.read(connection, name, connection.known.get(name, "")) for name in names]
        return [domain for domain in found if domain.fault != NO_METADATA or domain.id in connection.known]

    async def read(self, connection: Connection, domain_id: str, name: str) -> Domain:
        """As it stands; `name` for when that cannot be read. Raises DeadlineExceeded, TooBusy."""
        try:
            data = await self._files.read(
                connection.root, f"{domain_id}/{layout.METADATA}", most=domain_meta.LONGEST + 1
            )
            meta = domain_meta.decode(data)
            if meta.uuid != domain_id:
                raise Malformed(f"it says that it is {meta.uuid}")
        except FileMissing:
            return Domain(domain_id, name, connection, fault=NO_METADATA)
        except (DeadlineExceeded, TooBusy):  # which says nothing of the domain: the caller may have had little time
            raise
        except Malformed as fault:
            return Domain(domain_id, name, connection, fault=f"its metadata cannot be used: {fault}")
        except Problem as problem:
            return Domain(domain_id, name, connection, fault=str(problem))
        return Domain(domain_id, meta.description, connection, meta)
