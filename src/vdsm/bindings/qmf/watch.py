# SPDX-License-Identifier: Apache-2.0
"""One class of objects, looked at again and again: what has changed since everybody was told is told."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Mapping

import msgspec

from vdsm.contract.errors import Problem
from vdsm.core.caller import Caller
from vdsm.protocols.qmf2.model import DataObject, ObjectId

from .objects import Objects
from .schema import DataClass
from .voice import Voice

log = logging.getLogger(__name__)

_REST_S = 0.5  # after a look: what changes mostly changes again, and one look serves all of it
_REST = 9  # times the length of the look, if that is more


class Told(msgspec.Struct, frozen=True):
    """Of one object: digests of what everybody was told."""

    properties: bytes
    statistics: bytes


class Watch:
    """`interval` is in seconds."""

    def __init__(self, kind: DataClass, objects: Objects, audience: Caller, voice: Voice, interval: float) -> None:
        self._kind = kind
        self._objects = objects
        self._audience = audience
        self._voice = voice
        self._interval = interval
        self._told: dict[str, Told] = {}
        self._wanted = asyncio.Event()
        self._everything = True
        self._trouble = ""
        statistics = frozenset(p.name for p in kind.schema.properties if p.statistic)
        self._statistics = statistics

    def look(self, *, everything: bool = False) -> None:
        """Soon; with `everything` all is told, changed or not."""
        self._everything = self._everything or everything
        self._wanted.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            began = time.monotonic()
            self._wanted.clear()
            if self._voice.heard:
                await self._look()
            await asyncio.sleep(max(_REST_S, _REST * (time.monotonic() - began)))
            try:
                async with asyncio.timeout(self._interval):
                    await self._wanted.wait()
            except TimeoutError:
                pass

    async def _look(self) -> None:
        everything, self._everything = self._everything, False
        try:
            found = await self._objects.read(self._kind, self._audience)
        except Problem as problem:
            self._note(f"{problem}")
            self._everything = everything
            return
        except Exception:  # a defect in one look must not be the end of all looks
            log.exception("%s objects cannot be told on the bus", self._kind.noun.name)
            return
        self._note("")
        told = {name: self._digests(each.values) for name, each in found.items()}
        news = [each for name, known in found.items() if (each := self._news(name, known, told[name], everything))]
        gone = [self._gone(name) for name in self._told.keys() - found.keys()]
        if self._voice.data(self._kind.schema.id, [*news, *gone]):
            self._told = told
        else:
            self._everything = True  # nobody can say which part was not taken
        for each in gone:
            self._objects.forget(each.id.name if each.id else "")

    def _news(self, name: str, known: DataObject, now: Told, everything: bool) -> DataObject | None:
        before = self._told.get(name)
        if before is None or everything or before.properties != now.properties:
            return known
        if before.statistics == now.statistics:
            return None
        # Whole properties or none: a console takes any it gets for all there are.
        brief = {key: value for key, value in known.values.items() if key in self._statistics}
        return msgspec.structs.replace(known, values=brief)

    def _gone(self, name: str) -> DataObject:
        return DataObject(
            id=ObjectId(name, self._voice.agent),
            schema=self._kind.schema.id,
            deleted_ns=time.time_ns(),
        )

    def _digests(self, values: Mapping[str, object]) -> Told:
        properties = [(key, value) for key, value in values.items() if key not in self._statistics]
        statistics = [(key, value) for key, value in values.items() if key in self._statistics]
        return Told(_digest(properties), _digest(statistics))

    def _note(self, trouble: str) -> None:
        """Once, not at every look."""
        if trouble and trouble != self._trouble:
            log.warning("%s objects cannot be told on the bus: %s", self._kind.noun.name, trouble)
        self._trouble = trouble


_plain = msgspec.json.Encoder(enc_hook=int)  # the widths of the wire


def _digest(values: object) -> bytes:
    return hashlib.blake2b(_plain.encode(values), digest_size=12).digest()
