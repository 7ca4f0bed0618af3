# SPDX-License-Identifier: Apache-2.0
"""Access for a bridge that does not know our callers: to the host they are all one, the gateway."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import AsyncIterator, Mapping

from vdsm.contract import AnyVerb, ByteStream
from vdsm.contract.access import Privilege
from vdsm.contract.codec import from_plain
from vdsm.contract.errors import AccessDenied, Problem
from vdsm.contract.events import EventFilter, EventRecord, Gap
from vdsm.contract.outcome import Outcome
from vdsm.core import flow
from vdsm.core.bridge import Bridge
from vdsm.core.caller import Caller
from vdsm.core.entries import GuardedFields
from vdsm.core.ports.meter import Meter

log = logging.getLogger(__name__)


class GuardedBridge:
    """A `Bridge` that asks first whether the caller may. The host notes the gateway; who it was is in this log."""

    def __init__(self, bridge: Bridge, meter: Meter) -> None:
        self._bridge = bridge
        self._meter = meter
        self._guarded: dict[str, GuardedFields] = {}

    async def call(
        self,
        verb: AnyVerb,
        params: Mapping[str, object],
        caller: Caller,
        *,
        plan: bool = False,
        wait: float | None = None,
        deadline: float | None = None,
        flow_id: str = "",
        idempotency_key: str = "",
        text_numbers: bool = False,
    ) -> Outcome[object]:
        """See `Bridge.call`."""
        flow_id = flow_id or flow.new()
        begun, verdict = time.perf_counter(), "ok"
        mark = flow.current.set(flow_id)
        try:
            self._admit(verb, params, caller, text_numbers)
            outcome = await self._bridge.call(
                verb,
                params,
                caller,
                plan=plan,
                wait=wait,
                deadline=deadline,
                flow_id=flow_id,
                idempotency_key=_own_key(caller, idempotency_key),
                text_numbers=text_numbers,
            )
            verdict = "accepted" if outcome.detached else "ok"
            return outcome
        except Problem as problem:
            verdict = problem.slug
            raise
        finally:
            if verb.mutates or verdict == AccessDenied.slug:
                log.info("%s for %s over %s: %s", verb.method, caller.identity, caller.channel, verdict)
            flow.current.reset(mark)
            self._meter.observe(verb.method, verdict, time.perf_counter() - begun)

    async def open(
        self,
        verb: AnyVerb,
        params: Mapping[str, object],
        caller: Caller,
        *,
        flow_id: str = "",
        text_numbers: bool = False,
    ) -> ByteStream:
        """See `Bridge.open`."""
        self._admit(verb, params, caller, text_numbers)
        return await self._bridge.open(verb, params, caller, flow_id=flow_id, text_numbers=text_numbers)

    def subscribe(
        self, wanted: EventFilter, caller: Caller, *, since: int | None = None
    ) -> AsyncIterator[EventRecord | Gap]:
        """See `Bridge.subscribe`."""
        if not caller.may(Privilege.EVENT_READ):
            raise AccessDenied(caller=caller.identity, privilege=Privilege.EVENT_READ, method="the event stream")
        return self._bridge.subscribe(wanted, caller, since=since)

    def _admit(self, verb: AnyVerb, params: Mapping[str, object], caller: Caller, text_numbers: bool) -> None:
        """Raises AccessDenied; InvalidParams, since what may not be read cannot be judged."""
        self._check(verb, verb.needs, caller)
        guarded = self._guarded.get(verb.method)
        if guarded is None:
            guarded = self._guarded[verb.method] = GuardedFields.of(verb.params)
        if guarded:
            for privilege in guarded.needs(from_plain(params, verb.params, text_numbers=text_numbers)):
                self._check(verb, privilege, caller)

    def _check(self, verb: AnyVerb, privilege: Privilege, caller: Caller) -> None:
        if not caller.may(privilege):
            raise AccessDenied(caller=caller.identity, privilege=privilege, method=verb.method)


def _own_key(caller: Caller, key: str) -> str:
    """The host keeps one set of keys for all that comes from us; each caller of ours has its own."""
    return hashlib.sha256(f"{caller.identity}\0{key}".encode()).hexdigest() if key else ""
