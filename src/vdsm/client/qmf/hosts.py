# SPDX-License-Identifier: Apache-2.0
"""The hosts that were heard of on a bus: who they say they are, and how long ago."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from vdsm.protocols.qmf2.model import AgentAttributes
from vdsm.protocols.qmf2.names import AgentName

log = logging.getLogger(__name__)

VENDOR, PRODUCT = "vdsm.org", "vdsmd"
MISSED = 3  # heartbeats that do not come make a host silent
SHORTEST = 2.0  # seconds; a heartbeat may be that late without being missed
FORGOTTEN = 86_400.0  # seconds after which nobody asks for a silent host any more
MOST = 10_000  # hosts; whoever may write to the bus could invent more


class State(enum.StrEnum):
    UP = "up"
    SILENT = "silent"


class Change(enum.StrEnum):
    FOUND = "found"
    RESTARTED = "restarted"  # its daemon began anew, perhaps unnoticed until now
    SILENT = "silent"
    BACK = "back"


@dataclass(slots=True)
class KnownHost:
    """As its last heartbeat describes it."""

    agent: str  # its name on the bus, vendor:product:instance
    name: str
    epoch: int  # counts the starts of its daemon
    interval: float  # seconds between its heartbeats
    heard: float  # monotonic seconds of its last sign of life
    last_event: int = 0  # id of its newest event, as far as is known; 0: it tells none on the bus
    state: State = State.UP
    attributes: Mapping[str, object] = field(default_factory=dict)

    @property
    def instance(self) -> str:
        """The host's own id."""
        return self.agent.split(":", 2)[-1]

    def age(self, now: float) -> float:
        """Seconds since its last sign of life."""
        return max(0.0, now - self.heard)

    @property
    def patience(self) -> float:
        """Seconds of silence that mean something is wrong."""
        return MISSED * max(self.interval, SHORTEST)


class Unknown(LookupError):
    """No host is called so, or several are."""


Watcher = Callable[[Change, KnownHost], None]


class Hosts:
    """Fed with heartbeats and the clock; tells watchers what changed."""

    def __init__(self) -> None:
        self._known: dict[str, KnownHost] = {}
        self._watchers: list[Watcher] = []

    def __iter__(self) -> Iterator[KnownHost]:
        return iter(sorted(self._known.values(), key=lambda host: (host.name, host.agent)))

    def __len__(self) -> int:
        return len(self._known)

    def get(self, agent: str) -> KnownHost | None:
        return self._known.get(agent)

    def of_instance(self, instance: str) -> KnownHost | None:
        return self._known.get(f"{VENDOR}:{PRODUCT}:{instance}")

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Be told of every change; what is returned ends it."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def find(self, text: str) -> KnownHost:
        """The host of that id, else of that name, else the one whose name or id begins so. Raises Unknown.

        The id comes first: a broker can see to it that nobody takes another's, while a name is what a host says.
        """
        if (host := self._known.get(text) or self.of_instance(text)) is not None:
            return host
        found = [h for h in self if text == h.name]
        found = found or [h for h in self if text and (h.name.startswith(text) or h.instance.startswith(text))]
        if len(found) == 1:
            return found[0]
        if found:
            raise Unknown(f"{text!r} may mean {', '.join(f'{h.name} ({h.instance})' for h in found[:10])}")
        known = ", ".join(h.name for h in list(self)[:10])
        raise Unknown(f"no host called {text!r} is heard on the bus" + (f"; there are {known}" if known else ""))

    def hear(self, attributes: AgentAttributes, now: float) -> None:
        """A heartbeat, or the answer to a locate request."""
        if not is_host(attributes.name):
            return
        host = self._known.get(attributes.name)
        if host is None:
            if len(self._known) >= MOST:
                log.warning("a host is not taken note of: there are %d already", len(self._known))
                return
            host = self._known[attributes.name] = KnownHost(attributes.name, "", attributes.epoch, 0.0, now)
            self._describe(host, attributes)
            self._tell(Change.FOUND, host)
            return
        restarted = attributes.epoch != host.epoch
        self._describe(host, attributes)
        self._alive(host, now)
        if restarted:
            host.epoch = attributes.epoch
            self._tell(Change.RESTARTED, host)

    def sign_of_life(self, agent: str, now: float, last_event: int = 0) -> None:
        """Any other message of a host."""
        if (host := self._known.get(agent)) is not None:
            host.last_event = max(host.last_event, last_event)
            self._alive(host, now)

    def pass_time(self, now: float) -> None:
        """Notice who has gone silent."""
        for host in list(self._known.values()):
            age = host.age(now)
            if host.state is State.UP and age > host.patience:
                host.state = State.SILENT
                self._tell(Change.SILENT, host)
            elif age > FORGOTTEN:
                del self._known[host.agent]

    def forgive(self, now: float) -> None:
        """Begin to wait anew: it was we who could not hear."""
        for host in self._known.values():
            if host.state is State.UP:
                host.heard = now

    def _describe(self, host: KnownHost, attributes: AgentAttributes) -> None:
        host.name = text_of(attributes.others, "hostName") or attributes.instance
        host.interval = float(attributes.interval_s)
        host.attributes = attributes.others
        last = attributes.others.get("lastEvent", 0)
        if isinstance(last, int):
            # A journal that was lost begins anew at the clock, so ids only grow.
            host.last_event = max(host.last_event, last)

    def _alive(self, host: KnownHost, now: float) -> None:
        host.heard = max(host.heard, now)
        if host.state is State.SILENT:
            host.state = State.UP
            self._tell(Change.BACK, host)

    def _tell(self, change: Change, host: KnownHost) -> None:
        for watcher in list(self._watchers):
            watcher(change, host)


def is_host(agent: str) -> bool:
    """Whether an agent is a host's; others may be on the bus."""
    try:
        name = AgentName.parse(agent)
    except ValueError:
        return False
    return (name.vendor, name.product) == (VENDOR, PRODUCT)


def text_of(attributes: Mapping[str, object], name: str) -> str:
    """An attribute as text; empty if it is none."""
    value = attributes.get(name, "")
    return value if isinstance(value, str) else ""
