# SPDX-License-Identifier: Apache-2.0
"""Another host's bridge, over a message bus: what a binding needs to serve that host as if it were this one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from vdsm.client.exchange import Options, strict
from vdsm.contract import AnyVerb, ByteStream
from vdsm.contract.errors import StreamNotCarried
from vdsm.contract.events import EventFilter, EventRecord, Gap
from vdsm.contract.outcome import Outcome

from . import calls
from .console import Console
from .events import follow


class RemoteBridge:
    """Has the shape of the core's `Bridge`. The host sees one caller: the user that the console is to the broker.

    So `caller` has been checked by whoever calls; it is not sent, for a host believes no name in a message. Several may
    share a console.
    """

    def __init__(self, console: Console, host: str) -> None:
        self._console = console
        self._host = host

    async def call(
        self,
        verb: AnyVerb,
        params: Mapping[str, object],
        caller: object,
        *,
        plan: bool = False,
        wait: float | None = None,
        deadline: float | None = None,
        flow_id: str = "",
        idempotency_key: str = "",
        text_numbers: bool = False,
    ) -> Outcome[object]:
        """Do what the verb says, there. Raises Problem."""
        options = Options(plan=plan, wait=wait, deadline=deadline, flow_id=flow_id, idempotency_key=idempotency_key)
        sent = strict(verb, params) if text_numbers else params
        return await calls.call(self._console, self._host, verb, sent, options)

    async def open(
        self,
        verb: AnyVerb,
        params: Mapping[str, object],
        caller: object,
        *,
        flow_id: str = "",
        text_numbers: bool = False,
    ) -> ByteStream:
        """A bus carries messages, no streams. Raises StreamNotCarried."""
        raise StreamNotCarried(method=verb.method)

    def subscribe(
        self, wanted: EventFilter, caller: object, *, since: int | None = None
    ) -> AsyncIterator[EventRecord | Gap]:
        """Events of that host after the id `since`, for ever, across cuts between us. Raises Problem.

        Also of one that is not there yet: they begin when it is.
        """
        return follow(self._console, self._host, wanted, since=since, patient=True)
