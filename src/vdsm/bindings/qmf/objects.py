# SPDX-License-Identifier: Apache-2.0
"""The objects of a class, as a caller may see them: what its readings say, put together by id."""

from __future__ import annotations

import time

from vdsm.contract.codec import to_shown
from vdsm.core.bridge import Bridge
from vdsm.core.caller import Caller
from vdsm.protocols.qmf2.model import DataObject, ObjectId

from .nouns import Reading
from .schema import DataClass
from .types import to_wire

_PATIENCE = 30.0  # seconds a reading may take; the drivers' own limits are shorter


class Objects:
    """`agent` is the name this host has on the bus."""

    def __init__(self, bridge: Bridge, agent: str) -> None:
        self._bridge = bridge
        self._agent = agent
        self._created: dict[str, int] = {}  # by object name: when it was seen first

    async def read(self, kind: DataClass, caller: Caller) -> dict[str, DataObject]:
        """By object name; secrets are masked. Raises Problem."""
        values: dict[str, dict[str, object]] = {}
        for reading in kind.noun.readings:
            for object_id, found in await self._rows(reading, caller):
                row = values.setdefault(kind.noun.object_name(object_id), {})
                for name in kind.fields[reading.verb.method]:
                    row.setdefault(name, to_wire(found.get(name), unsigned=name in kind.unsigned))
        now = time.time_ns()
        return {name: self._object(kind, name, row, now) for name, row in values.items()}

    def forget(self, name: str) -> None:
        """It is gone; one of that name that comes later is another."""
        self._created.pop(name, None)

    async def _rows(self, reading: Reading, caller: Caller) -> list[tuple[str, dict[str, object]]]:
        outcome = await self._bridge.call(reading.verb, {}, caller, deadline=_PATIENCE)
        plain = to_shown(outcome.result)
        rows: list[dict[str, object]] = plain if reading.many else [plain]
        return [(str(row.get(reading.id_field, "")), row) for row in rows]

    def _object(self, kind: DataClass, name: str, values: dict[str, object], now: int) -> DataObject:
        return DataObject(
            id=ObjectId(name, self._agent),
            schema=kind.schema.id,
            values=values,
            created_ns=self._created.setdefault(name, now),
            updated_ns=now,
        )


def may_read(kind: DataClass, caller: Caller) -> bool:
    return all(caller.may(verb.needs) for verb in kind.noun.verbs)
