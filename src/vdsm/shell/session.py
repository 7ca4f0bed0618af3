# SPDX-License-Identifier: Apache-2.0
"""One person's dealings with one daemon: the way to it, the common options, calls as plain data."""

from __future__ import annotations

import json

from vdsm.client.route import new_key

from . import faults
from .door import How, RestDoor
from .options import WAY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from vdsm.client.transport import Reply

    from .door import Door
    from .index import Index


class Session:
    """`common` are the options given before the command; those after it come with each call."""

    def __init__(self, index: Index, common: Mapping[str, Any]) -> None:
        self.index = index
        self.common = dict(common)
        self._door: Door | None = None
        self._where: tuple[Any, ...] | None = None

    def close(self) -> None:
        if self._door is not None:
            self._door.close()
            self._door = None

    def door(self, given: Mapping[str, Any]) -> Door:
        """The way to the daemon that the options name. Raises Fault."""
        chosen = {**self.common, **given}
        host = str(chosen.get("host") or "")
        where = (bool(host), *(chosen.get(name) for name in WAY))
        if self._door is None or where != self._where:
            self.close()
            self._where = where
            self._door = _open(chosen)
        return self._door.to(host)

    def send(
        self,
        method: str,
        params: Mapping[str, Any],
        given: Mapping[str, Any] | None = None,
        *,
        key: str = "",
        wait: float | None = None,
        query: str = "",
    ) -> Reply:
        """Call a verb and return the answer, which may be a problem. `query` chooses from it. Raises Fault."""
        given = given or {}
        verb = self.index["verbs"][method]
        plan = bool(given.get("plan"))
        if verb["kind"] in ("action", "task") and not plan:
            key = key or new_key()
        how = How(plan=plan, key=key, wait=wait, timeout={**self.common, **given}.get("timeout"))
        return self.door(given).send(method, verb, params, how, query)

    def ask(self, method: str, params: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> Any:
        """The result of a verb as plain data. Raises Fault."""
        return answer(self.send(method, params, given))

    def objects(self, noun: str, given: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
        """Id and name of each object of a noun. Raises Fault."""
        naming = self.index["nouns"][noun]
        fields = ",".join(filter(None, (naming["id"], naming["name"])))
        connection = {k: v for k, v in (given or {}).items() if k != "plan"}
        rows = answer(self.send(naming["list"], {}, connection, query=f"fields={fields}"))
        return [(str(row[naming["id"]]), str(row.get(naming["name"], ""))) for row in rows]

    def output(self, given: Mapping[str, Any]) -> str:
        return str({**self.common, **given}.get("output", "table"))


def answer(reply: Reply) -> Any:
    """What an answer holds. Raises Fault for a problem."""
    if reply.is_problem:
        raise faults.refused(reply.status, reply.body)
    if reply.status == 204 or not reply.body:
        return None
    try:
        return json.loads(reply.body)
    except ValueError:
        raise faults.refused(reply.status, reply.body) from None


def _open(chosen: Mapping[str, Any]) -> Door:
    if chosen.get("bus") or chosen.get("host"):
        from .bus import open_door

        return open_door(chosen)
    return RestDoor(chosen)
