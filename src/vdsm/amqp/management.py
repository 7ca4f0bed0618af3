# SPDX-License-Identifier: Apache-2.0
"""Queues made by RabbitMQ's own management, as version 4 wants them before a link can be attached to one.

It speaks HTTP in AMQP: requests and answers go over a pair of links to the node /management.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from urllib.parse import quote

from proton import Message, ProtonException

from vdsm.amqp.engine import Channel
from vdsm.amqp.profiles import Receive

NODE = "/management"
QUEUE: dict[str, object] = {
    "durable": False,
    "exclusive": True,  # it ends with the connection
    "auto_delete": True,
    "arguments": {"x-queue-type": "classic", "x-max-length": 50_000, "x-max-length-bytes": 100 << 20},
}
"""As packaging/rabbitmq/definitions.json has it for those that RabbitMQ 3 makes by itself."""

Request = tuple[str, str, dict[str, object]]
"""Method, path, body."""


def requests_for(what: Receive) -> list[Request]:
    """What makes the queue of a listener, and binds it."""
    made: list[Request] = [("PUT", f"/queues/{quote(what.queue, safe='')}", dict(QUEUE))]
    if what.binding:
        exchange, key = what.binding
        binding: dict[str, object] = {
            "source": exchange,
            "destination_queue": what.queue,
            "binding_key": key,
            "arguments": {},
        }
        made.append(("POST", "/bindings", binding))
    return made


class Management:
    """One request after the other. `fail` is told what the broker refuses; nothing goes on after that."""

    def __init__(self, channel: Channel, fail: Callable[[str], None]) -> None:
        self._fail = fail
        self._waiting: deque[Request | Callable[[], None]] = deque()
        self._asked: Request | None = None
        self._sender = channel.pair(NODE, self._read, self._go_on)

    def prepare(self, what: Receive, ready: Callable[[], None]) -> None:
        """`ready` is called when the queue is there."""
        self._waiting += [*requests_for(what), ready]
        self._go_on()

    def _go_on(self) -> None:
        while self._asked is None and self._waiting and self._sender.usable:
            following = self._waiting.popleft()
            if callable(following):
                following()
            else:
                self._asked = following
                self._ask(following)

    def _ask(self, request: Request) -> None:
        method, path, body = request
        # The broker's answer carries the id; ours come one at a time, so that it says nothing new.
        message = Message(body, id=path, address=path, subject=method, reply_to="$me")
        self._sender.send(message.encode(), None, may_wait=True)

    def _read(self, data: bytes) -> Callable[[], None] | None:
        answer = Message()
        try:
            answer.decode(data)
        except (ProtonException, ValueError, OverflowError, TypeError, RecursionError):
            return None
        status, said = str(answer.subject), f"{answer.body!s:.300}"
        return lambda: self._answered(status, said)

    def _answered(self, status: str, said: str) -> None:
        if self._asked is None:
            return
        method, path, _ = self._asked
        if status.startswith("2"):
            self._asked = None
            self._go_on()
        else:
            self._fail(f"RabbitMQ answered {status} to {method} {path}: {said}")
