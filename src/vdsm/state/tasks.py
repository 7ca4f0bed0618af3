# SPDX-License-Identifier: Apache-2.0
"""Tasks, as opaque bodies: implements `TaskLog`."""

from __future__ import annotations

import sqlite3

from vdsm.core.ports.store import StoredTask

from .database import Database


class Tasks:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, task: StoredTask) -> None:
        """Insert or replace."""

        def put(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO tasks VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
                " SET created = excluded.created, ended = excluded.ended, body = excluded.body",
                (task.id, task.created, task.ended, task.body),
            )

        await self._database.write(put)

    async def load(self) -> list[StoredTask]:
        """All of them, oldest first."""
        rows = await self._database.read(
            lambda connection: connection.execute(
                "SELECT id, created, ended, body FROM tasks ORDER BY created, rowid"
            ).fetchall()
        )
        return [StoredTask(id=id_, created=created, ended=ended, body=body) for id_, created, ended, body in rows]

    async def delete(self, task_id: str) -> None:
        def delete(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM tasks WHERE id = ?", (task_id,))

        await self._database.write(delete)
