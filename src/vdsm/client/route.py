# SPDX-License-Identifier: Apache-2.0
"""A call as an HTTP request: where each parameter goes. Standard library only."""

from __future__ import annotations

import json
import uuid
from urllib.parse import quote, urlencode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = "/api/v1"


def target(method: str, path: str, params: Mapping[str, object], *, plan: bool = False) -> tuple[str, bytes | None]:
    """The request's target and body; `params` by wire name as plain data, those that are None are left out."""
    rest = {name: value for name, value in params.items() if value is not None}
    parts = []
    for part in path.split("/"):
        if part.startswith("{"):
            # A "." or ".." alone would be taken for a step in the path by what is between us and the daemon.
            text = quote(str(rest.pop(part[1:-1])), safe="")
            part = text.replace(".", "%2E") if text in (".", "..") else text
        parts.append(part)
    query: list[tuple[str, str]] = [("plan", "true")] if plan else []
    body = None
    if method == "GET":
        query += [(name, _text(item)) for name, value in rest.items() for item in _items(value)]
    elif rest:
        body = json.dumps(rest, ensure_ascii=False).encode("utf-8", "surrogatepass")
    elif method != "DELETE":
        body = b"{}"
    where = ROOT + "/".join(parts)
    return (f"{where}?{urlencode(query)}" if query else where), body


def new_key() -> str:
    """An idempotency key: makes a call that changes something safe to send again."""
    return str(uuid.uuid4())


def prefer(wait: float | None) -> dict[str, str]:
    """How long the daemon should wait for a task's end before it answers with the task; None: to the end."""
    if wait is None:
        return {}
    return {"Prefer": f"wait={wait:g}" if wait else "respond-async"}


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
