# SPDX-License-Identifier: Apache-2.0
"""How often the daemon has started: what tells others that it is not the one they spoke with before."""

from __future__ import annotations

import sqlite3
import time

from .database import Database

_NAME = "start"


class Starts:
    def __init__(self, database: Database, *, kept: bool) -> None:
        self._database = database
        self._kept = kept

    async def count(self) -> int:
        """One more than at the start before; where nothing is kept that remembers it, the clock."""
        if not self._kept:
            return int(time.time())
        return await self._database.write(_count)


def _count(connection: sqlite3.Connection) -> int:
    (value,) = connection.execute(
        "INSERT INTO counters VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
        (_NAME,),
    ).fetchone()
    return int(value)
