# SPDX-License-Identifier: Apache-2.0
"""Events on the bus, from the journal: each is told until the broker has it, in order, also after an outage."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from vdsm.contract.codec import to_shown
from vdsm.contract.errors import Problem
from vdsm.contract.events import EventFilter, EventRecord, Gap
from vdsm.contract.events import Severity as Grade
from vdsm.core.bridge import Bridge
from vdsm.core.caller import Caller
from vdsm.protocols.qmf2.model import Event

from .schema import GAP, SEVERITIES, Schemata
from .types import to_wire
from .voice import Voice

log = logging.getLogger(__name__)

_WINDOW = 256  # events that the broker has not confirmed yet
_AGAIN = 0.05  # seconds
_TROUBLE_S = 10.0
_PATIENCE_S = 0.5  # by then it is known whether a connection broke


class EventStream:
    """`since` is the id of the last event that need not be told. `seen` is called with each record."""

    def __init__(
        self, bridge: Bridge, schemata: Schemata, voice: Voice, audience: Caller, since: int,
        seen: Callable[[EventRecord], None],
    ) -> None:  # fmt: skip
        self._bridge = bridge
        self._schemata = schemata
        self._voice = voice
        self._audience = audience
        self._seen = seen
        self._open: set[int] = set()  # ids on their way
        self._room = asyncio.Event()
        self.last = since

    async def run(self) -> None:
        """As long as the connection stands; cancelled with it and begun again by the next."""
        if self._open:
            self.last = min(self._open) - 1  # nobody knows whether the broker had them
            self._open.clear()
        while True:
            try:
                await self._follow()
            except Problem as problem:  # the disk does not give what the memory no longer has
                log.warning("events cannot be told on the bus: %s", problem)
            await asyncio.sleep(_TROUBLE_S)

    async def _follow(self) -> None:
        async for item in self._bridge.subscribe(EventFilter(), self._audience, since=self.last):
            number, event = self._event(item)
            await self._tell(number, event)
            self.last = number
            if isinstance(item, EventRecord):
                self._seen(item)

    async def _tell(self, number: int, event: Event) -> None:
        while len(self._open) >= _WINDOW:
            self._room.clear()
            await self._room.wait()
        self._open.add(number)

        connection = self._voice.connection

        def settled(taken: bool) -> None:
            if taken:
                self._close(number)
            else:
                asyncio.get_running_loop().call_later(_PATIENCE_S, give_up)

        def give_up() -> None:
            # Refused, and the connection still stands: nobody listens for it.
            if self._voice.heard and self._voice.connection == connection:
                self._close(number)

        assert event.schema is not None
        while True:
            if self._voice.event(event.schema, event, settled):
                return
            await asyncio.sleep(_AGAIN)

    def _close(self, number: int) -> None:
        self._open.discard(number)
        self._room.set()

    def _event(self, item: EventRecord | Gap) -> tuple[int, Event]:
        if isinstance(item, Gap):
            said = {"eventId": item.until, "time": time.time(), "severity": Grade.WARNING.value, **to_shown(item)}
            return item.until, self._made(GAP, said, Grade.WARNING, time.time_ns())
        plain = to_shown(item)
        values = {**plain.pop("data"), **plain}
        name = values.pop("type")
        values["eventId"] = values.pop("id")
        return item.id, self._made(name, values, item.severity, int(item.time * 1e9))

    def _made(self, name: str, values: Mapping[str, object], grade: Grade, timestamp_ns: int) -> Event:
        schema = self._schemata.events[name]
        unsigned = {p.name for p in schema.properties if p.unsigned}
        return Event(
            schema=schema.id,
            values={key: to_wire(value, unsigned=key in unsigned) for key, value in values.items()},
            timestamp_ns=timestamp_ns,
            severity=SEVERITIES[grade],
        )
