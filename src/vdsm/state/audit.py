# SPDX-License-Identifier: Apache-2.0
"""The audit trail as a hash chain: implements `AuditLog`.

A record's digest covers its text and the digest before it, so a record that was edited, removed or put between others
breaks the chain. The digest of the newest record that retention dropped is kept as the anchor of the oldest one left.
"""

from __future__ import annotations

import hashlib
import sqlite3

import msgspec

from vdsm.contract import codec
from vdsm.contract.audit import AuditRecord

from . import schema
from .database import Database

_NO_DIGEST = bytes(32)


class Broken(Exception):
    """The chain does not hold; the text says where."""


class Audit:
    def __init__(self, database: Database, keep: int) -> None:
        self._database = database
        self._keep = keep

    async def append(self, record: AuditRecord) -> None:
        """`record.id` is ignored; the log numbers its records."""
        await self._database.write(lambda connection: self._append(connection, record))

    def _append(self, connection: sqlite3.Connection, record: AuditRecord) -> None:
        id_ = schema.take(connection, "audit", 1)
        before = connection.execute("SELECT digest FROM audit WHERE id = ?", (id_ - 1,)).fetchone()
        text = codec.to_json(msgspec.structs.replace(record, id=id_)).decode()
        digest = _chain(before[0] if before else _anchor(connection), text)
        connection.execute("INSERT INTO audit VALUES (?, ?, ?)", (id_, text, digest))
        self._drop(connection, id_ - self._keep)

    def _drop(self, connection: sqlite3.Connection, last: int) -> None:
        row = connection.execute("SELECT digest FROM audit WHERE id = ?", (last,)).fetchone()
        if row:
            connection.execute("INSERT OR REPLACE INTO facts VALUES ('audit-anchor', ?)", row)
            connection.execute("DELETE FROM audit WHERE id <= ?", (last,))

    async def read(self, since: int, limit: int) -> list[AuditRecord]:
        rows = await self._database.read(
            lambda connection: connection.execute(
                "SELECT record FROM audit WHERE id > ? ORDER BY id LIMIT ?", (since, limit)
            ).fetchall()
        )
        return [codec.from_json(text, AuditRecord) for (text,) in rows]

    async def verify(self) -> int:
        """Walk the chain; the number of records. Raises Broken."""
        return await self._database.read(_verify)


def _verify(connection: sqlite3.Connection) -> int:
    before, count, expected = _anchor(connection), 0, None
    for id_, text, digest in connection.execute("SELECT id, record, digest FROM audit ORDER BY id"):
        if expected not in (None, id_):
            raise Broken(f"audit record {expected} is missing")
        if _chain(before, text) != digest:
            raise Broken(f"audit record {id_} or the one before it was changed")
        before, count, expected = digest, count + 1, id_ + 1
    newest = schema.last(connection, "audit")
    if expected not in (None, newest + 1):
        raise Broken(f"audit records {expected} to {newest} are missing")
    return count


def _anchor(connection: sqlite3.Connection) -> bytes:
    row = connection.execute("SELECT value FROM facts WHERE name = 'audit-anchor'").fetchone()
    return bytes(row[0]) if row else _NO_DIGEST


def _chain(before: bytes, text: str) -> bytes:
    return hashlib.sha256(before + text.encode()).digest()
