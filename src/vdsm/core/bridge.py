# SPDX-License-Identifier: Apache-2.0
"""The one door. A binding is given a `Bridge` and cannot tell whether it is local or another host's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol, TypeVar

from vdsm.contract import AnyVerb, ByteStream
from vdsm.contract.events import EventFilter, EventRecord, Gap
from vdsm.contract.outcome import Outcome

from .caller import Caller

R = TypeVar("R")


class Bridge(Protocol):
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
        """Do what the verb says.

        `params` by wire name, as plain data. `plan`: only say the steps. `wait`: for a TASK verb the seconds to wait
        for its end before the outcome is the task itself (None: to the end; 0: not at all). `deadline`: seconds
        for the call and every outside call in it. `text_numbers`: also take "42" for 42.

        Raises Problem: one the verb declares, or one of the call itself.
        """
        ...

    async def open(
        self,
        verb: AnyVerb,
        params: Mapping[str, object],
        caller: Caller,
        *,
        flow_id: str = "",
        text_numbers: bool = False,
    ) -> ByteStream:
        """Open a STREAM verb's two-way stream. Raises Problem."""
        ...

    def subscribe(
        self, wanted: EventFilter, caller: Caller, *, since: int | None = None
    ) -> AsyncIterator[EventRecord | Gap]:
        """Events after the id `since` (0: the oldest kept; None: from now on), in order, for ever.

        A `Gap` stands for events that are no longer kept. A slow reader delays nobody. Raises AccessDenied at once.
        """
        ...
