# SPDX-License-Identifier: Apache-2.0
"""The tables, as numbered migrations: `PRAGMA user_version` counts the ones a file has seen."""

from __future__ import annotations

import sqlite3
import time

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE events (id INTEGER PRIMARY KEY, record TEXT NOT NULL)",
        "CREATE TABLE tasks (id TEXT PRIMARY KEY, created REAL NOT NULL, ended REAL, body BLOB NOT NULL)",
        "CREATE TABLE audit (id INTEGER PRIMARY KEY, record TEXT NOT NULL, digest BLOB NOT NULL)",
        "CREATE TABLE keys (caller TEXT NOT NULL, key TEXT NOT NULL, made REAL NOT NULL, method TEXT NOT NULL,"
        " digest TEXT NOT NULL, task_id TEXT NOT NULL, answer BLOB, PRIMARY KEY (caller, key))",
        "CREATE INDEX keys_by_age ON keys (made)",
        "CREATE TABLE tokens (name TEXT PRIMARY KEY, role TEXT NOT NULL, digest TEXT NOT NULL,"
        " created REAL NOT NULL, expires REAL, last_used REAL)",
    ),
    ("CREATE TABLE storage (kind TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (kind, key))",),
)


class NewerSchema(Exception):
    """The file was written by a later version of the daemon."""


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a file up to date, all or nothing. Raises NewerSchema."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise NewerSchema
    if version == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    for statement in (s for migration in MIGRATIONS[version:] for s in migration):
        connection.execute(statement)
    if version == 0:
        _number_from_now(connection)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    connection.execute("COMMIT")


def _number_from_now(connection: sqlite3.Connection) -> None:
    """Start the journals' ids above any that a lost file gave out: clients resume by id, and must see the gap.

    Microseconds, because no journal fills faster than that; as an id it stays below 2**53 until the year 2255.
    """
    start = time.time_ns() // 1000
    connection.executemany("INSERT INTO counters VALUES (?, ?)", [("event", start), ("audit", start)])


def take(connection: sqlite3.Connection, counter: str, count: int) -> int:
    """Reserve the next `count` ids; the first of them."""
    (last,) = connection.execute(
        "UPDATE counters SET value = value + ? WHERE name = ? RETURNING value", (count, counter)
    ).fetchone()
    return int(last) - count + 1


def last(connection: sqlite3.Connection, counter: str) -> int:
    """The newest id ever given out."""
    (value,) = connection.execute("SELECT value FROM counters WHERE name = ?", (counter,)).fetchone()
    return int(value)
