# SPDX-License-Identifier: Apache-2.0
"""What a host tells everybody on the bus: that it lives, how its objects change, what happens.

Each class of objects is looked after by a task of its own, so that one that cannot be read delays no other. What the
broker does not take is told again: objects at the next look, events from the journal by their id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from vdsm.contract.events import EventRecord
from vdsm.core.bridge import Bridge
from vdsm.core.caller import Caller

from .attributes import Attributes
from .events import EventStream
from .objects import Objects, may_read
from .options import AgentOptions
from .schema import Schemata
from .users import CHANNEL
from .voice import Voice
from .watch import Watch


class Publisher:
    """`since` is the id of the last event that need not be told."""

    def __init__(
        self, bridge: Bridge, voice: Voice, schemata: Schemata, objects: Objects, attributes: Attributes,
        options: AgentOptions, since: int,
    ) -> None:  # fmt: skip
        self._voice = voice
        self._attributes = attributes
        self._options = options
        self._beat = asyncio.Event()
        self._telling: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._located: asyncio.TimerHandle | None = None
        self._events: EventStream | None = None
        self._watches: dict[str, Watch] = {}  # by the field of an event that names an object of the class
        if options.audience is not None:
            audience = Caller(identity="bus", channel=CHANNEL, role=options.audience)
            for kind in schemata.classes.values():
                if may_read(kind, audience):
                    watch = Watch(kind, objects, audience, voice, options.publish_s)
                    self._watches[kind.noun.event_field] = watch
            self._events = EventStream(bridge, schemata, voice, audience, since, self._seen)

    def start(self) -> None:
        for work in (self._heartbeats(), *(watch.run() for watch in self._watches.values())):
            self._begin(work)

    def up(self) -> None:
        """The bus can be heard again: whoever listens there knows nothing of us, or nothing new."""
        self._beat.set()
        for watch in self._watches.values():
            watch.look(everything=True)
        if self._events is not None:
            self._telling = self._begin(self._events.run())

    def down(self) -> None:
        if self._telling is not None:
            self._telling.cancel()

    def located(self) -> None:
        """A console looks for hosts: in a moment it is told of everything, as many consoles as there may be at once."""
        if self._located is None:
            self._located = asyncio.get_running_loop().call_later(self._options.after_locate_s, self._tell_all)

    async def close(self) -> None:
        """With a last heartbeat."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._located is not None:
            self._located.cancel()
        self._attributes.state = "stopping"
        self._voice.heartbeat(self._attributes.now())

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _tell_all(self) -> None:
        self._located = None
        for watch in self._watches.values():
            watch.look(everything=True)

    def _seen(self, record: EventRecord) -> None:
        """An event has been told: what it is about may look otherwise now."""
        self._attributes.last_event = record.id
        named = [self._watches[field] for field in record.data.__struct_fields__ if field in self._watches]
        for watch in named or self._watches.values():
            watch.look()

    async def _heartbeats(self) -> None:
        while True:
            self._beat.clear()
            if self._voice.heard:
                self._voice.heartbeat(self._attributes.now())
            try:
                async with asyncio.timeout(self._options.heartbeat_s):
                    await self._beat.wait()
            except TimeoutError:
                pass
