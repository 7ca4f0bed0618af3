# SPDX-License-Identifier: Apache-2.0
"""Queries of consoles: for schema, which anybody may have, and for objects, which take a role."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vdsm.core.caller import Caller
from vdsm.protocols.qmf2.model import DataObject, Kind, ObjectId, Query, Schema, SchemaId, What

from .objects import Objects, may_read
from .schema import DataClass, Schemata

Found = tuple[DataObject, ...] | tuple[ObjectId, ...] | tuple[Schema, ...] | tuple[SchemaId, ...]


class Queries:
    def __init__(self, schemata: Schemata, objects: Objects) -> None:
        self._schemata = schemata
        self._objects = objects

    async def answer(self, query: Query, who: Callable[[], Caller]) -> Found:
        """What there is; nothing is an answer too. Raises Problem, as `who` does for a stranger."""
        if query.what is What.SCHEMA:
            return tuple(self._schemata.find(query.schema))
        if query.what is What.SCHEMA_ID:
            return tuple(schema.id for schema in self._schemata.find(query.schema))
        caller = who()
        classes = [kind for kind in self._schemata.classes.values() if _asked(query, kind)]
        if len(classes) > 1:  # whoever asks for everything gets what he may see
            classes = [kind for kind in classes if may_read(kind, caller)]
        found = [each for kind in classes for each in await self._of(kind, query, caller)]
        if query.what is What.OBJECT:
            return tuple(found)
        return tuple(each.id for each in found if each.id is not None)

    async def _of(self, kind: DataClass, query: Query, caller: Caller) -> list[DataObject]:
        found = await self._objects.read(kind, caller)
        return [known for each in found.values() if _wanted(query, known := _without_nulls(each))]


def _asked(query: Query, kind: DataClass) -> bool:
    noun, wanted = kind.noun, query.object_id
    if wanted is not None and wanted.name.partition(":")[0] != noun.name:
        return False
    return query.schema.kind in (None, Kind.DATA) and query.schema.matches(kind.schema.id)


def _wanted(query: Query, each: DataObject) -> bool:
    if query.object_id is not None and not (each.id is not None and query.object_id.names(each.id)):
        return False
    return query.where.holds(each.values)


def _without_nulls(each: DataObject) -> DataObject:
    """A value there is none of is left out, so that a predicate finds it missing."""
    return msgspec.structs.replace(each, values={k: v for k, v in each.values.items() if v is not None})
