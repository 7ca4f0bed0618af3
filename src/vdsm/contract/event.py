# SPDX-License-Identifier: Apache-2.0
"""The journal of events. Following it live is `Bridge.subscribe`, offered by each protocol in its own way."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ._verb import Kind, verb
from .access import Privilege
from .events import EventRecord, Gap, Severity
from .types import EventId, Output

NOUN = "Event"


class EventPage(Output, frozen=True, kw_only=True):
    """A stretch of the journal, oldest first."""

    events: list[EventRecord]
    last: EventId  # pass it as `since` for the next stretch
    gap: Gap | None = None


@verb(kind=Kind.QUERY, needs=Privilege.EVENT_READ, since="1.0", http="GET /events/history", command="event list")
def list_(
    *,
    since: EventId = 0,
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000,
    types: list[str] = [],  # noqa: B006 a declaration, not a function
    subjects: list[str] = [],  # noqa: B006
    severities: list[Severity] = [],  # noqa: B006
) -> EventPage:
    """Events after `since`; 0 is the oldest the journal still keeps."""
