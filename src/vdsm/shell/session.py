# SPDX-License-Identifier: Apache-2.0
"""One person's dealings with one daemon: the connection, the common options, calls as plain data."""

from __future__ import annotations

import json
import os

from vdsm.client import address, route
from vdsm.client.transport import Transport, Unreachable

from . import faults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from vdsm.client.transport import Reply

    from .index import Index

QUERY_SECONDS = 60.0
GRACE = 5.0  # seconds beyond --timeout in which the daemon should have said itself that it is over


class Session:
    """`common` are the options given before the command; those after it come with each call."""

    def __init__(self, index: Index, common: Mapping[str, Any]) -> None:
        self.index = index
        self.common = dict(common)
        self._transport: Transport | None = None
        self._where: tuple[Any, ...] | None = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def transport(self, given: Mapping[str, Any]) -> Transport:
        """The connection to the daemon that the options name. Raises Fault."""
        chosen = {**self.common, **given}
        where = tuple(chosen.get(n) for n in ("url", "socket", "token_file", "ca", "cert", "key"))
        if self._transport is None or where != self._where:
            self.close()
            self._where = where
            self._transport = Transport(_address(chosen))
        return self._transport

    def send(
        self,
        method: str,
        params: Mapping[str, Any],
        given: Mapping[str, Any] | None = None,
        *,
        key: str = "",
        wait: float | None = None,
        extra: str = "",
    ) -> Reply:
        """Call a verb and return the answer, which may be a problem. `extra` goes into the query. Raises Fault."""
        given = given or {}
        verb = self.index["verbs"][method]
        http_method, path = verb["http"]
        plan = bool(given.get("plan"))
        target, body = route.target(http_method, path, params, plan=plan)
        if extra:
            target += ("&" if "?" in target else "?") + extra
        headers = route.prefer(wait) if verb["kind"] == "task" else {}
        if verb["kind"] in ("action", "task") and not plan:
            headers["Idempotency-Key"] = key or route.new_key()
        timeout: float | None = {**self.common, **given}.get("timeout")
        if timeout is not None:
            headers["Request-Timeout"] = f"{timeout:.3f}"
        patience = timeout + GRACE if timeout is not None else QUERY_SECONDS if verb["kind"] == "query" else None
        transport = self.transport(given)
        try:
            return transport.request(http_method, target, body=body, headers=headers, timeout=patience, repeatable=True)
        except Unreachable as error:
            raise faults.unreachable(str(error.address), error.reason) from None
        except TimeoutError:
            raise faults.silent(str(transport.address), patience or 0) from None

    def ask(self, method: str, params: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> Any:
        """The result of a verb as plain data. Raises Fault."""
        return answer(self.send(method, params, given))

    def objects(self, noun: str, given: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
        """Id and name of each object of a noun. Raises Fault."""
        naming = self.index["nouns"][noun]
        fields = ",".join(filter(None, (naming["id"], naming["name"])))
        connection = {k: v for k, v in (given or {}).items() if k != "plan"}
        rows = answer(self.send(naming["list"], {}, connection, extra=f"fields={fields}"))
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


def _address(chosen: Mapping[str, Any]) -> address.Address:
    if chosen.get("url") and chosen.get("socket"):
        raise faults.usage("--url and --socket exclude each other")
    socket = chosen.get("socket")
    try:
        token = address.read_token(chosen["token_file"]) if chosen.get("token_file") else ""
        return address.find(
            os.path.abspath(socket) if socket else chosen.get("url"),
            ca=chosen.get("ca", ""),
            cert=chosen.get("cert", ""),
            key=chosen.get("key", ""),
            token=token,
        )
    except OSError as error:
        raise faults.usage(f"{error.filename} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise faults.usage(str(error)) from None
