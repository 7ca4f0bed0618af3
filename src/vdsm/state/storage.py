# SPDX-License-Identifier: Apache-2.0
"""Which storage the host uses: implements `StorageLog`."""

from __future__ import annotations

import sqlite3

from .database import Database


class StorageRecords:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, kind: str, key: str, body: bytes) -> None:
        def put(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO storage VALUES (?, ?, ?)", (kind, key, body))

        await self._database.write(put)

    async def all(self, kind: str) -> list[bytes]:
        rows = await self._database.read(
            lambda connection: connection.execute(
                "SELECT body FROM storage WHERE kind = ? ORDER BY key", (kind,)
            ).fetchall()
        )
        return [body for (body,) in rows]

    async def delete(self, kind: str, key: str) -> None:
        def delete(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM storage WHERE kind = ? AND key = ?", (kind, key))

        await self._database.write(delete)
