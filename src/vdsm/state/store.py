# SPDX-License-Identifier: Apache-2.0
"""The logs over one file, opened and closed together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .audit import Audit
from .database import Database
from .events import Events
from .keys import Keys
from .starts import Starts
from .storage import StorageRecords
from .tasks import Tasks
from .tokens import Tokens


@dataclass(frozen=True, slots=True)
class Retention:
    """How many records are kept; the oldest go first."""

    events: int = 100_000
    audit: int = 100_000


class Store:
    """What survives a restart. Without a directory nothing does: for simulated hosts."""

    def __init__(self, directory: Path | None, retention: Retention | None = None) -> None:
        retention = retention or Retention()
        self.database = Database(directory)
        self.events = Events(self.database, retention.events)
        self.tasks = Tasks(self.database)
        self.audit = Audit(self.database, retention.audit)
        self.keys = Keys(self.database)
        self.tokens = Tokens(self.database)
        self.storage = StorageRecords(self.database)
        self.starts = Starts(self.database, kept=directory is not None)

    @property
    def clean(self) -> bool:
        """Whether the daemon before this one closed the file; false after a crash."""
        return self.database.clean

    async def open(self) -> None:
        """Raises StateUnavailable."""
        await self.database.open()

    async def close(self) -> None:
        await self.database.close()
