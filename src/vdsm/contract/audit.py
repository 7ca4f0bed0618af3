# SPDX-License-Identifier: Apache-2.0
"""The audit trail: every change and every refusal, with who asked, how, for what, and what came of it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ._verb import Kind, verb
from .access import Privilege
from .types import Output, UnixTime

NOUN = "Audit"


class AuditRecord(Output, frozen=True, kw_only=True):
    """One call, or one that was turned away before it was one. Secrets in `arguments` are `***`."""

    id: int
    time: UnixTime
    caller: str
    channel: str
    peer: str = ""  # the address it came from, if from another host
    method: str
    arguments: str  # JSON; of callers who were turned away, how many more there were of the kind
    verdict: str  # ok, accepted, or the slug of the problem
    duration: float  # seconds
    flow_id: str


@verb(kind=Kind.QUERY, needs=Privilege.AUDIT_READ, since="1.0", http="GET /audit")
def list_(
    *, since: Annotated[int, Meta(ge=0)] = 0, limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000
) -> list[AuditRecord]:
    """Audited calls after record `since`, oldest first."""
