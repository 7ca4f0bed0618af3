# SPDX-License-Identifier: Apache-2.0
"""Bearer tokens, by the digest of their secret: implements `TokenLog`."""

from __future__ import annotations

import sqlite3

from vdsm.contract.access import Role
from vdsm.core.ports.store import StoredToken

from .database import Database


class Tokens:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, token: StoredToken) -> None:
        def put(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO tokens VALUES (?, ?, ?, ?, ?, ?)",
                (token.name, token.role.value, token.digest, token.created, token.expires, token.last_used),
            )

        await self._database.write(put)

    async def all(self) -> list[StoredToken]:
        rows = await self._database.read(
            lambda connection: connection.execute(
                "SELECT name, role, digest, created, expires, last_used FROM tokens ORDER BY created, name"
            ).fetchall()
        )
        return [
            StoredToken(
                name=name, role=Role(role), digest=digest, created=created, expires=expires, last_used=last_used
            )
            for name, role, digest, created, expires, last_used in rows
        ]

    async def delete(self, name: str) -> None:
        def delete(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM tokens WHERE name = ?", (name,))

        await self._database.write(delete)
