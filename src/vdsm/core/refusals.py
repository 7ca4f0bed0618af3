# SPDX-License-Identifier: Apache-2.0
"""Who was turned away at a door, before there was a call: audited too, but never as fast as somebody may knock."""

from __future__ import annotations

import asyncio
import logging
import time

import msgspec

from vdsm.contract.audit import AuditRecord
from vdsm.contract.errors import Problem, StateUnavailable

from .caller import Caller
from .entries import SHOWN
from .ports.store import AuditLog

_log = logging.getLogger(__name__)

_OTHERS = "others"


class Refusals:
    """The first of its kind is written at once, what is like it within a window is only counted, and told at its end.

    A kind is a caller, a channel, an address and a problem. While they go on the windows grow, so that a flood, however
    many addresses it comes from, writes a bounded number of lines an hour.
    """

    KINDS = 32  # told apart in one window; further ones are counted together
    LONGEST = 3600.0  # seconds a window lasts

    def __init__(self, audit: AuditLog | None, shortest: float = 60.0) -> None:
        """Without `audit` they are only in the log."""
        self._audit = audit
        self._shortest = shortest
        self._counted: dict[tuple[str, ...], tuple[AuditRecord, int]] = {}  # the last of each kind, and how many
        self._seconds = shortest
        self._closing: asyncio.TimerHandle | None = None
        self._writing: set[asyncio.Task[None]] = set()

    def note(self, problem: Problem, what: str, *, identity: str, channel: str, peer: str, flow_id: str = "") -> None:
        """`what` was asked for; `identity` is as far as the caller is known, `peer` its address."""
        record = AuditRecord(
            id=0,
            time=time.time(),
            caller=identity[:SHOWN],
            channel=channel,
            peer=peer,
            method=what[:SHOWN],
            arguments="{}",
            verdict=problem.slug,
            duration=0.0,
            flow_id=flow_id,
        )
        kind: tuple[str, ...] = (record.caller, channel, peer, problem.slug)
        if kind not in self._counted and len(self._counted) >= self.KINDS:
            record = msgspec.structs.replace(record, caller=_OTHERS, channel="", peer="", flow_id="")
            kind = (_OTHERS, problem.slug)
        first = kind not in self._counted
        self._counted[kind] = record, 0 if first else self._counted[kind][1] + 1
        if first:
            self._write(record, f"{problem}")
        if self._closing is None:
            self._closing = asyncio.get_running_loop().call_later(self._seconds, self._close_window)

    def note_caller(self, problem: Problem, what: str, caller: Caller) -> None:
        """The same of one who is known."""
        self.note(problem, what, identity=caller.identity, channel=caller.channel, peer=caller.peer)

    async def close(self) -> None:
        """Write what was counted."""
        if self._closing is not None:
            self._closing.cancel()
            self._close_window()
        await asyncio.gather(*self._writing)

    def _close_window(self) -> None:
        self._closing = None
        more = [(record, count) for record, count in self._counted.values() if count]
        self._counted.clear()
        for record, count in more:
            self._write(msgspec.structs.replace(record, arguments=f'{{"more":{count}}}'), f"{count} more like it")
        self._seconds = min(self._seconds * 2, self.LONGEST) if more else self._shortest

    def _write(self, record: AuditRecord, said: str) -> None:
        _log.warning("turned away at %s: %s: %s", record.method, record.caller, said)
        if self._audit is None:
            return
        task = asyncio.get_running_loop().create_task(self._append(self._audit, record))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _append(self, audit: AuditLog, record: AuditRecord) -> None:
        try:
            await audit.append(record)
        except StateUnavailable as problem:
            _log.error("not audited: %s (%s)", msgspec.json.encode(record).decode(), problem)
