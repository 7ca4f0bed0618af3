# SPDX-License-Identifier: Apache-2.0
"""What happens on a host, in the contract's types."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import msgspec

from vdsm.contract.codec import from_json
from vdsm.contract.events import EVENTS, EventFilter, EventRecord, Gap

from . import exchange
from .follow import Follower
from .transport import Refused, Transport


class Events(Iterator[EventRecord | Gap]):
    """Events for ever, across cuts of the connection and restarts of the daemon.

    A `Gap` stands for events the daemon no longer has. Events of a type that this version lacks are passed over.
    """

    def __init__(
        self,
        transport: Transport,
        wanted: EventFilter,
        *,
        since: int | None = None,
        on_cut: Callable[[str], None] | None = None,
    ) -> None:
        query = [("types", t) for t in wanted.types] + [("subjects", s) for s in wanted.subjects]
        query += [("severities", s.value) for s in wanted.severities]
        self._follower = Follower(transport, since=since, wanted=query, on_cut=on_cut)
        self._messages = iter(self._follower)

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __next__(self) -> EventRecord | Gap:
        """The next one, as soon as there is one. Raises Problem; Unreachable, but only at first."""
        try:
            for message in self._messages:
                item = _typed(message.event, message.data)
                if item is not None:
                    return item
        except Refused as refused:
            raise exchange.problem(refused.status, refused.body) from None
        raise StopIteration

    def close(self) -> None:
        """The end, also for a thread that waits for the next event."""
        self._follower.close()
        with contextlib.suppress(ValueError):  # another thread waits in it; that thread ends it now
            self._messages.close()


def _typed(name: str, data: str) -> EventRecord | Gap | None:
    if name == "gap":
        return from_json(data, Gap)
    try:
        return from_json(data, EventRecord)
    except msgspec.ValidationError:
        if name in EVENTS:
            raise
        return None
