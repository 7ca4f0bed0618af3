# SPDX-License-Identifier: Apache-2.0
"""How each broker wants to be addressed, as data.

QMF needs broadcasts under keys, one address for each name, and answers. Only the broker of the Qpid project knows these
by the names that QMF gives them; each other one says the same in words of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from vdsm.amqp.places import Direct, Inbox, ReplyTo, Source, Target


@dataclass(frozen=True, slots=True)
class Receive:
    """What a receiving link is attached to. Without an address the broker makes one up."""

    address: str | None
    filter_type: str = ""
    filter_value: str = ""
    capability: str = ""
    queue: str = ""  # to be made first, through the broker's management
    binding: tuple[str, str] | None = None  # and bound to this exchange with this key


@dataclass(frozen=True, slots=True)
class Send:
    """How one message leaves: over the link to `node` (None: the anonymous one), with these two properties."""

    node: str | None
    to: str | None
    subject: str | None


@dataclass(frozen=True, slots=True)
class Way:
    """Templates. An empty `node` is the anonymous link; empty `to` and `subject` are not set."""

    node: str = ""
    to: str = ""
    subject: str = ""

    def filled(self, **words: str) -> Send:
        return Send(*(text.format_map(words) or None for text in (self.node, self.to, self.subject)))


@dataclass(frozen=True, slots=True)
class Kind:
    """Places of one kind: how they are listened to, and how they are sent to. {address} is {key} escaped."""

    source: str
    way: Way
    filter_type: str = ""
    capability: str = ""


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of broker."""

    name: str
    product: str  # a pattern for `PRODUCT VERSION`, as the broker calls itself when a connection is opened
    direct: Kind
    topic: Kind
    replies: tuple[tuple[str, Way], ...]  # patterns for reply addresses, and how an answer goes there
    inbox: str = ""  # a template; empty: an address that the broker makes up
    many_words: str = "#"
    escapes: bool = False  # what is special in a URL
    unsayable: str = ""  # characters that no key or name may have
    manages_queues: bool = False
    list_as_sequence: bool = False
    verifies_user: bool = False  # that a message's user_id is its sender's

    def receive(self, where: Source, domain: str, unique: str) -> Receive:
        """`unique`: a name that nobody can guess, for what is this listener's alone."""
        queue = unique if self.manages_queues else ""
        if isinstance(where, Inbox):
            return Receive(self.inbox.format(domain=domain, unique=unique) or None, queue=queue)
        kind, key = (self.direct, where.name) if isinstance(where, Direct) else (self.topic, self._pattern(where.key))
        if set(key) & set(self.unsayable):
            raise ValueError(f"{self.name} cannot say {key!r} in an address: without any of {self.unsayable!r} it can")
        return Receive(
            kind.source.format(domain=domain, key=key, address=self._escape(key), unique=unique),
            filter_type=kind.filter_type,
            filter_value=key if kind.filter_type else "",
            capability=kind.capability,
            queue=queue,
            binding=(f"qmf.{domain}.{'direct' if isinstance(where, Direct) else 'topic'}", key) if queue else None,
        )

    def send(self, where: Target, domain: str) -> Send:
        """Raises ValueError for a reply address that is none of this broker's."""
        if isinstance(where, ReplyTo):
            return self._answer(where.address)
        kind, key = (self.direct, where.name) if isinstance(where, Direct) else (self.topic, where.key)
        return kind.way.filled(domain=domain, key=key, address=self._escape(key))

    def _answer(self, address: str) -> Send:
        for pattern, way in self.replies:
            if found := re.fullmatch(pattern, address):
                return way.filled(**found.groupdict(""))
        raise ValueError(f"{address[:200]!r} is no reply address on {self.name}")

    def _escape(self, text: str) -> str:
        return quote(text, safe=".:*#") if self.escapes else text

    def _pattern(self, key: str) -> str:
        if self.many_words == "#" or "#" not in key:
            return key
        if key.index("#") != len(key) - 1:
            raise ValueError(f"{self.name} takes `#` only at the end, not as in {key!r}")
        return key[:-1] + self.many_words


QPIDD = Profile(
    name="qpidd",
    product=r"qpid-cpp .*|qpid.*",
    direct=Kind(
        "qmf.{domain}.direct",
        Way(to="qmf.{domain}.direct", subject="{key}"),
        filter_type="apache.org:legacy-amqp-direct-binding:string",
    ),
    topic=Kind(
        "qmf.{domain}.topic",
        Way(to="qmf.{domain}.topic", subject="{key}"),
        filter_type="apache.org:legacy-amqp-topic-binding:string",
    ),
    # "exchange/key" of peers that speak AMQP 0-10, or a queue; C++ clients may append their options
    replies=(
        (r"(?P<exchange>[^/;]+)/(?P<key>[^;]+)(;.*)?", Way(to="{exchange}", subject="{key}")),
        (r"(?P<queue>[^/;]+)(;.*)?", Way(to="{queue}")),
    ),
    verifies_user=True,
)

RABBITMQ3 = Profile(
    name="rabbitmq3",
    product=r"RabbitMQ 3\..*",
    direct=Kind("/exchange/qmf.{domain}.direct/{address}", Way("/exchange/qmf.{domain}.direct", subject="{key}")),
    topic=Kind("/exchange/qmf.{domain}.topic/{address}", Way("/exchange/qmf.{domain}.topic", subject="{key}")),
    inbox="/exchange/qmf.{domain}.direct/{unique}",
    # to an existing queue only: the broker would make a lasting one for any other name it is asked to send to
    replies=(
        (r"/exchange/(?P<exchange>[^/]+)/(?P<key>[^/]+)", Way("/exchange/{exchange}", subject="{key}")),
        (r"(/amq)?/queue/(?P<queue>[^/]+)", Way("/amq/queue/{queue}")),
    ),
    unsayable="/",
    list_as_sequence=True,  # a list value that begins with a number crashes its session
    verifies_user=True,
)

RABBITMQ4 = Profile(
    name="rabbitmq4",
    product=r"RabbitMQ \d+\..*",
    direct=Kind("/queues/{unique}", Way(to="/exchanges/qmf.{domain}.direct/{address}")),
    topic=Kind("/queues/{unique}", Way(to="/exchanges/qmf.{domain}.topic/{address}")),
    inbox="/queues/{unique}",
    replies=((r"(?P<to>/(queues/[^/]+|exchanges/[^/]+(/[^/]+)?))", Way(to="{to}")),),
    escapes=True,
    manages_queues=True,
    verifies_user=True,
)

ARTEMIS = Profile(
    name="artemis",
    product=r"apache-activemq-artemis .*",
    direct=Kind("qmf.{domain}.direct.{key}", Way(to="qmf.{domain}.direct.{key}"), capability="queue"),
    topic=Kind("qmf.{domain}.topic.{key}", Way(to="qmf.{domain}.topic.{key}"), capability="topic"),
    replies=((r"(?P<to>.+)", Way(to="{to}")),),
)

ACTIVEMQ = Profile(
    name="activemq",
    product=r"ActiveMQ .*",
    direct=Kind("queue://qmf.{domain}.direct.{key}", Way(to="queue://qmf.{domain}.direct.{key}")),
    topic=Kind("topic://qmf.{domain}.topic.{key}", Way(to="topic://qmf.{domain}.topic.{key}")),
    replies=((r"(?P<to>.+)", Way(to="{to}")),),
    many_words=">",
)

PROFILES = {profile.name: profile for profile in (QPIDD, RABBITMQ3, RABBITMQ4, ARTEMIS, ACTIVEMQ)}


def recognise(product: object, version: object) -> Profile | None:
    """By what a broker says in its open frame."""
    called = f"{product} {version}"
    return next((profile for profile in PROFILES.values() if re.fullmatch(profile.product, called)), None)
