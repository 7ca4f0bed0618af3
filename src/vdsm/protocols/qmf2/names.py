# SPDX-License-Identifier: Apache-2.0
"""Names on a QMF bus: agents, exchanges, and the routing keys that say what a message is."""

from __future__ import annotations

import msgspec

DEFAULT_DOMAIN = "default"
LOCATE_KEY = "console.request.agent_locate"
TO_AGENTS = "console.#"
"""What every agent listens to on the topic exchange, besides its own name on the direct one."""
HEARTBEATS = "agent.ind.heartbeat.#"
EVENTS = "agent.ind.event.#"
DATA = "agent.ind.data.#"
"""What a console listens to on the topic exchange, besides its reply address."""

_LONGEST = 255  # bytes of a key: its length is one byte on the wire of AMQP 0-10


class AgentName(msgspec.Struct, frozen=True):
    """Unique in its domain. Raises ValueError for a name that cannot be one."""

    vendor: str
    product: str
    instance: str

    def __post_init__(self) -> None:
        if not (self.vendor and self.product and self.instance):
            raise ValueError("an agent's name has a vendor, a product and an instance; one of them is empty")
        if ":" in self.vendor + self.product:
            raise ValueError("the vendor and the product in an agent's name hold no colon")
        if len(str(self).encode()) > _LONGEST:
            raise ValueError(f"an agent's name is longer than {_LONGEST} bytes, the longest routing key there is")

    def __str__(self) -> str:
        return f"{self.vendor}:{self.product}:{self.instance}"

    @classmethod
    def parse(cls, text: str) -> AgentName:
        """Raises ValueError."""
        parts = text.split(":", 2)
        if len(parts) != 3:
            raise ValueError(f"{text[:64]!r} is no agent's name; one is vendor:product:instance")
        return cls(*parts)


def topic_exchange(domain: str = DEFAULT_DOMAIN) -> str:
    return f"qmf.{domain}.topic"


def direct_exchange(domain: str = DEFAULT_DOMAIN) -> str:
    return f"qmf.{domain}.direct"


def heartbeat_key(agent: AgentName) -> str:
    return _key("agent.ind.heartbeat", *_words(agent))


def data_key(package: str, name: str, agent: AgentName) -> str:
    """Of the objects of one class."""
    return _key("agent.ind.data", _word(package), _word(name), *_words(agent))


def event_key(package: str, name: str, severity: str, agent: AgentName) -> str:
    """`severity` is the word of one: model.Severity.word."""
    return _key("agent.ind.event", _word(package), _word(name), severity, *_words(agent))


def _words(agent: AgentName) -> tuple[str, str, str]:
    return _word(agent.vendor), _word(agent.product), _word(agent.instance)


def _word(text: str) -> str:
    return text.replace(".", "_")  # a dot would begin another word of the key


def _key(*parts: str) -> str:
    key = ".".join(parts)
    if len(key.encode()) > _LONGEST:
        # The instance comes last, and every pattern in use ends in "#" before it.
        key = key.encode()[:_LONGEST].decode(errors="ignore")
    return key
