# SPDX-License-Identifier: Apache-2.0
"""What survives a restart. Every method is durable when it returns and raises StateUnavailable when it cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from vdsm.contract.access import Role
from vdsm.contract.audit import AuditRecord
from vdsm.contract.events import AnyEvent, EventRecord, Severity


class EventDraft(msgspec.Struct, frozen=True, kw_only=True):
    """An event that has no id yet."""

    time: float
    notify_time: int
    severity: Severity
    subject: str
    flow_id: str
    data: AnyEvent


class EventLog(Protocol):
    """The journal. Ids rise by one, also over restarts, and are never used twice, even when the state is lost."""

    async def append(self, drafts: Sequence[EventDraft]) -> list[EventRecord]:
        """Write them together, in order, and drop the oldest beyond the retention."""

    async def read(self, since: int, limit: int) -> list[EventRecord]:
        """The oldest `limit` kept events with an id above `since`."""

    async def bounds(self) -> tuple[int, int]:
        """Ids of the oldest and the newest event that are kept; with none kept, (next id, next id - 1)."""


class StoredTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task as the store keeps it: the body is the core's own."""

    id: str
    created: float
    ended: float | None
    body: bytes


class TaskLog(Protocol):
    async def put(self, task: StoredTask) -> None:
        """Insert or replace."""

    async def load(self) -> list[StoredTask]:
        """All of them, oldest first."""

    async def delete(self, task_id: str) -> None: ...


class AuditLog(Protocol):
    async def append(self, record: AuditRecord) -> None:
        """`record.id` is ignored; the log numbers its records."""

    async def read(self, since: int, limit: int) -> list[AuditRecord]: ...


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """An idempotency key in use."""

    method: str
    digest: str  # of the arguments
    task_id: str = ""
    answer: bytes | None = None  # JSON, once the call has succeeded


class KeyLog(Protocol):
    """Idempotency keys, each its caller's own, kept for 24 hours."""

    async def claim(self, caller: str, key: str, claim: Claim) -> Claim | None:
        """Take the key; if it was taken before, the earlier claim."""

    async def settle(self, caller: str, key: str, claim: Claim) -> None:
        """Keep what came of it."""

    async def release(self, caller: str, key: str) -> None:
        """Forget it: the call failed and may be tried again."""


class StoredToken(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    role: Role
    digest: str  # SHA-256 of the secret, which has 256 bits of its own
    created: float
    expires: float | None
    last_used: float | None = None


class TokenLog(Protocol):
    async def put(self, token: StoredToken) -> None: ...

    async def all(self) -> list[StoredToken]: ...

    async def delete(self, name: str) -> None: ...


class StorageLog(Protocol):
    """Which storage this host uses, to be found again after a restart: records of a kind, by a key of their own."""

    async def put(self, kind: str, key: str, body: bytes) -> None:
        """Insert or replace."""

    async def all(self, kind: str) -> list[bytes]: ...

    async def delete(self, kind: str, key: str) -> None: ...
