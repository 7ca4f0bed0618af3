# SPDX-License-Identifier: Apache-2.0
"""The way to a daemon, over REST. What is reached over a bus has the same shape (`bus`)."""

from __future__ import annotations

import os

from vdsm.client import address, route
from vdsm.client.transport import Refused, Transport, Unreachable

from . import faults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, Protocol

    from vdsm.client.follow import Follower
    from vdsm.client.stream import Stream
    from vdsm.client.transport import Reply

    class Message(Protocol):
        """An event as JSON, or a gap: `event` says which."""

        @property
        def event(self) -> str: ...
        @property
        def data(self) -> str: ...

    class Feed(Protocol):
        """Events for ever; `close` ends it, also for another thread that waits in it."""

        def __iter__(self) -> Iterator[Message]: ...
        def close(self) -> None: ...

    class Door(Protocol):
        """Everything raises Fault."""

        @property
        def name(self) -> str: ...

        def to(self, host: str) -> Door:
            """The way to that host; without a name, to all there are."""
            ...

        def hosts(self) -> list[str]:
            """Names of those it leads to, where it leads to many."""
            ...

        def send(
            self, method: str, verb: Mapping[str, Any], params: Mapping[str, Any], how: How, query: str = ""
        ) -> Reply:
            """The answer to a call, which may be a problem. `query` chooses from the result, as in a URL."""
            ...

        def follow(
            self, since: int | None, wanted: Sequence[tuple[str, str]], on_cut: Callable[[str], None]
        ) -> Feed: ...

        def attach(self, method: str, verb: Mapping[str, Any], params: Mapping[str, Any]) -> Stream:
            """Open the two-way stream of a verb."""
            ...

        def close(self) -> None: ...


QUERY_SECONDS = 60.0
GRACE = 5.0  # seconds beyond --timeout in which the daemon should have said itself that it is over


class How:
    """How to call, beside what to call. `wait`: seconds for a task's end before the task itself is the answer."""

    __slots__ = ("key", "plan", "timeout", "wait")

    def __init__(self, *, plan: bool, key: str, wait: float | None, timeout: float | None) -> None:
        self.plan = plan
        self.key = key
        self.wait = wait
        self.timeout = timeout


class RestDoor:
    """A `Door`."""

    def __init__(self, chosen: Mapping[str, Any]) -> None:
        """To the daemon that the options name. Raises Fault."""
        self._transport = Transport(_address(chosen))
        self.name = str(self._transport.address)

    def close(self) -> None:
        self._transport.close()

    def to(self, host: str) -> Door:
        return self

    def hosts(self) -> list[str]:
        return []

    def send(self, method: str, verb: Mapping[str, Any], params: Mapping[str, Any], how: How, query: str = "") -> Reply:
        http_method, path = verb["http"]
        target, body = route.target(http_method, path, params, plan=how.plan)
        if query:
            target += ("&" if "?" in target else "?") + query
        headers = route.prefer(how.wait) if verb["kind"] == "task" else {}
        if how.key:
            headers["Idempotency-Key"] = how.key
        if how.timeout is not None:
            headers["Request-Timeout"] = f"{how.timeout:.3f}"
        patience = QUERY_SECONDS if verb["kind"] == "query" else None
        if how.timeout is not None:
            patience = how.timeout + GRACE
        try:
            return self._transport.request(
                http_method, target, body=body, headers=headers, timeout=patience, repeatable=True
            )
        except Unreachable as error:
            raise faults.unreachable(self.name, error.reason) from None
        except TimeoutError:
            raise faults.silent(self.name, patience or 0) from None

    def follow(self, since: int | None, wanted: Sequence[tuple[str, str]], on_cut: Callable[[str], None]) -> Feed:
        from vdsm.client.follow import Follower

        def cut(reason: str) -> None:
            on_cut(f"{reason}; trying again")

        return _Feed(Follower(self._transport, since=since, wanted=wanted, on_cut=cut))

    def attach(self, method: str, verb: Mapping[str, Any], params: Mapping[str, Any]) -> Stream:
        from vdsm.client.stream import Stream

        target, _ = route.target("GET", verb["http"][1], params)
        try:
            return Stream(self._transport, target)
        except Refused as error:
            raise faults.refused(error.status, error.body) from None
        except Unreachable as error:
            raise faults.unreachable(self.name, error.reason) from None


class _Feed:
    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    def __iter__(self) -> Iterator[Message]:
        try:
            yield from self._follower
        except Refused as error:
            raise faults.refused(error.status, error.body) from None
        except Unreachable as error:
            raise faults.unreachable(str(error.address), error.reason) from None

    def close(self) -> None:
        self._follower.close()


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
