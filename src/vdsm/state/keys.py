# SPDX-License-Identifier: Apache-2.0
"""Idempotency keys, for 24 hours: implements `KeyLog`."""

from __future__ import annotations

import sqlite3
import time

from vdsm.core.ports.store import Claim

from .database import Database

KEPT_SECONDS = 24 * 3600.0


class Keys:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, caller: str, key: str, claim: Claim) -> Claim | None:
        """Take the key; if it was taken before, the earlier claim."""
        return await self._database.write(lambda connection: _claim(connection, caller, key, claim))

    async def settle(self, caller: str, key: str, claim: Claim) -> None:
        """Keep what came of it."""

        def settle(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE keys SET method = ?, digest = ?, task_id = ?, answer = ? WHERE caller = ? AND key = ?",
                (claim.method, claim.digest, claim.task_id, claim.answer, caller, key),
            )

        await self._database.write(settle)

    async def release(self, caller: str, key: str) -> None:
        """Forget it: the call failed and may be tried again."""

        def release(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM keys WHERE caller = ? AND key = ?", (caller, key))

        await self._database.write(release)


def _claim(connection: sqlite3.Connection, caller: str, key: str, claim: Claim) -> Claim | None:
    now = time.time()
    connection.execute("DELETE FROM keys WHERE made <= ?", (now - KEPT_SECONDS,))
    row = connection.execute(
        "SELECT method, digest, task_id, answer FROM keys WHERE caller = ? AND key = ?", (caller, key)
    ).fetchone()
    if row:
        method, digest, task_id, answer = row
        return Claim(method=method, digest=digest, task_id=task_id, answer=answer)
    connection.execute(
        "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?)",
        (caller, key, now, claim.method, claim.digest, claim.task_id, claim.answer),
    )
    return None
