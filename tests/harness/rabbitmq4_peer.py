# SPDX-License-Identifier: Apache-2.0
"""As much of RabbitMQ 4 as a bus meets, which Debian does not have yet: queues made through /management, addresses of
version 2. Nothing but such queues can be listened to, and a message goes where its own address says."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from proton import Link, Receiver, Sender, Terminus
from proton import Message as ProtonMessage

from .qpidd_peer import EXCHANGES, Peer, QpiddPeer, Queue

MANAGEMENT = "/management"
BODY = {"durable": False, "exclusive": True, "auto_delete": True}


class RabbitMQ4Peer(QpiddPeer):
    product, version = "RabbitMQ", "4.1.3"

    def __init__(self) -> None:
        super().__init__()
        self.connection = _Peer4
        self.declared: dict[str, list[tuple[str, str]]] = {}  # queues, and what they are bound to
        self.requests: list[tuple[str, str]] = []
        self.answers: dict[str, Queue] = {}  # of each pair of links

    def take(self, node: str | None, raw: bytes) -> None:
        message = ProtonMessage()
        message.decode(raw)
        match (node or message.address or "").split("/"):
            case ["", "exchanges", exchange, key] if exchange in EXCHANGES:
                self.route(exchange, unquote(key), raw)
            case ["", "queues", queue] if unquote(queue) in self.queues:
                self.queues[unquote(queue)]("", "", raw)
            case _:
                self.dropped.append(message.address or "")

    def manage(self, pair: str, raw: bytes) -> None:
        """One request of HTTP in AMQP."""
        request = ProtonMessage()
        request.decode(raw)
        assert request.reply_to == "$me"
        assert request.id
        self.requests.append((str(request.subject), str(request.address)))
        status, body = self._done(str(request.subject), str(request.address), request.body)
        answer = ProtonMessage(body, subject=status, correlation_id=request.id, properties={"http:response": "1.1"})
        self.answers[pair].put("", "", answer.encode())

    def _done(self, method: str, path: str, body: Any) -> tuple[str, Any]:
        match method, path.split("/"):
            case "PUT", ["", "queues", name] if {key: body[key] for key in BODY} == BODY:
                self.declared[unquote(name)] = []
                return "201", {"name": unquote(name)}
            case "POST", ["", "bindings"] if body["destination_queue"] in self.declared:
                if body["source"] not in EXCHANGES:
                    return "404", f"no exchange '{body['source']}' in vhost '/'"
                self.declared[body["destination_queue"]].append((body["source"], body["binding_key"]))
                return "204", None
        return "400", "bad request"


class _Peer4(Peer):
    broker: RabbitMQ4Peer

    def accept_sender(self, link: Receiver) -> None:
        node = link.remote_target.address
        if node is not None and node != MANAGEMENT:
            self.refuse(link, node)
            return
        self.accept(link)
        link.flow(100)

    def accept_receiver(self, link: Sender) -> None:
        node = link.remote_source.address or ""
        name = unquote(node.removeprefix("/queues/"))
        if node != MANAGEMENT and name not in self.broker.declared:
            self.refuse(link, node)
            return
        self.accept(link)
        queue = self.receivers[link] = Queue(self, self.broker, link, link.name if node == MANAGEMENT else name, True)
        if node == MANAGEMENT:
            self.broker.answers[link.name] = queue
            return
        self.broker.queues[name] = queue.put
        for exchange, key in self.broker.declared[name]:
            self.broker.bind(exchange, key, queue.put)

    def accept(self, link: Link) -> None:
        link.source.copy(link.remote_source)
        link.target.copy(link.remote_target)
        if link.remote_target.type != Terminus.UNSPECIFIED:
            link.target.type = Terminus.TARGET
        link.open()

    def take(self, link: Receiver, raw: bytes) -> None:
        if link.remote_target.address == MANAGEMENT:
            self.broker.manage(link.name, raw)
        else:
            super().take(link, raw)
