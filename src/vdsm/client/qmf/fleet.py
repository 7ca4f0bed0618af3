# SPDX-License-Identifier: Apache-2.0
"""All hosts of a bus without asyncio: `with connect_bus("amqp://bus") as fleet: fleet.host("web").vm.list()`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, Generic, ParamSpec, TypeVar, cast

from vdsm.amqp.address import BusAddress
from vdsm.amqp.bus import Bus
from vdsm.amqp.errors import BusDown
from vdsm.client import exchange
from vdsm.client.exchange import Options
from vdsm.client.nouns import Nouns
from vdsm.contract import AnyVerb, Verb
from vdsm.contract.events import EventFilter
from vdsm.contract.outcome import Outcome
from vdsm.protocols.qmf2.model import DataObject, Query, SchemaFilter, What
from vdsm.protocols.qmf2.names import DEFAULT_DOMAIN
from vdsm.protocols.qmf2.predicates import Predicate

from . import calls
from .all_events import OnCut, follow_all
from .console import Console
from .events import Cut, Item, follow
from .glance import Glance, glance
from .hosts import KnownHost, Watcher

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

CONNECT_SECONDS = 10.0
CONNECT_LOOK = 0.01


def connect_bus(address: BusAddress | str, *, domain: str = DEFAULT_DOMAIN) -> Fleet:
    """The hosts of a bus that meet in `domain`. Raises ValueError for an address that is none, BusDown."""
    return Fleet(BusAddress.parse(address) if isinstance(address, str) else address, domain=domain)


class Fleet:
    """Close it, or use it in a `with`. Threads may share it."""

    def __init__(
        self, address: BusAddress, *, domain: str = DEFAULT_DOMAIN, connect_seconds: float = CONNECT_SECONDS
    ) -> None:
        """Raises BusDown."""
        self.address = address
        self._domain = domain
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="bus")
        self._thread.start()
        try:
            self._console = self.run(self._open(connect_seconds))
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if not self._loop.is_closed():
            self.run(self._console.close())
            self._end()

    def hosts(self, seconds: float = 3.0) -> list[KnownHost]:
        """Every host that answers within `seconds`, and those that were heard before."""
        return self.run(self._discover(seconds))

    def host(self, name: str) -> BusHost:
        """The host of that name or id, or whose name or id begins so. Raises HostUnreachable."""
        return BusHost(self, self.run(calls.find(self._console, name)))

    def glance(self, seconds: float) -> list[Glance]:
        """How the known hosts do; each may take `seconds` to say it."""
        return self.run(glance(self._console, seconds))

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Be told, in another thread, of hosts that come, restart, fall silent; what is returned ends it."""
        return self._console.hosts.watch(watcher)

    def query(
        self, host: KnownHost, class_name: str, where: Sequence[object] = (), *, seconds: float = 10.0
    ) -> list[DataObject]:
        """Objects of a class of that host. Raises NoAnswer, Refusal, PredicateError."""
        query = Query(what=What.OBJECT, schema=SchemaFilter(name=class_name), where=Predicate(where))
        return self.run(self._console.query(host.agent, query, seconds))

    def call(self, host: KnownHost, verb: AnyVerb, params: Mapping[str, object], options: Options) -> Outcome[Any]:
        """`params` by wire name as plain data. Raises Problem."""
        return self.run(calls.call(self._console, host.agent, verb, params, options))

    def events(
        self, wanted: EventFilter, since: Mapping[str, int] | int | None = None, on_cut: OnCut = lambda host, why: None
    ) -> Feed[tuple[KnownHost, Item]]:
        """What happens on all hosts, for ever; see `follow_all`."""
        return Feed(self._loop, follow_all(self._console, wanted, since=since, on_cut=on_cut))

    def events_of(
        self, host: KnownHost, wanted: EventFilter, since: int | None = None, on_cut: Cut | None = None
    ) -> Feed[Item]:
        """What happens on one, for ever; see `follow`."""
        return Feed(self._loop, follow(self._console, host.agent, wanted, since=since, on_cut=on_cut))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it on the console's loop; interrupted here, it is cancelled there."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _open(self, seconds: float) -> Console:
        """One attempt: later ones are for a bus that was there."""
        bus = Bus(self.address, name="vdsm-console", domain=self._domain)
        console = Console(bus)
        await console.open()
        ends = self._loop.time() + seconds
        while not bus.up:
            if bus.counters.failures or self._loop.time() > ends:
                reason = bus.failure
                await console.close()
                raise BusDown(reason)
            await asyncio.sleep(CONNECT_LOOK)
        return console

    async def _discover(self, seconds: float) -> list[KnownHost]:
        await self._console.discover(seconds)
        return list(self._console.hosts)

    def _end(self) -> None:
        """Whatever still runs is cut short."""
        asyncio.run_coroutine_threadsafe(_end_all(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _end_all() -> None:
    running = asyncio.all_tasks() - {asyncio.current_task()}
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


class Feed(Generic[T]):
    """Iterate it in one thread; any thread may close it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, items: AsyncGenerator[T, None]) -> None:
        self._loop = loop
        self._items = items
        self._next: Future[T] | None = None
        self._closed = False

    def __iter__(self) -> Feed[T]:
        return self

    def __next__(self) -> T:
        """The next one, as soon as there is one. Raises Problem."""
        if self._closed:
            raise StopIteration
        self._next = asyncio.run_coroutine_threadsafe(_next_of(self._items), self._loop)
        try:
            return self._next.result()
        except CancelledError:
            raise StopIteration from None
        except BaseException:
            self._next.cancel()
            raise

    def close(self) -> None:
        """The end, also for a thread that waits for the next one."""
        self._closed = True
        if self._next is not None:
            self._next.cancel()
        asyncio.run_coroutine_threadsafe(_end_of(self._items), self._loop).result()


async def _next_of(items: AsyncGenerator[T, None]) -> T:
    return await anext(items)


async def _end_of(items: AsyncGenerator[T, None]) -> None:
    with suppress(RuntimeError):  # the thread that waits in it has been told, and ends it now
        await items.aclose()


class BusHost(Nouns):
    """One host of the bus, with the contract's nouns as attributes."""

    def __init__(self, fleet: Fleet, known: KnownHost, options: Options | None = None) -> None:
        self.known = known
        self._fleet = fleet
        self._options = options or Options()

    def call(self, verb: Verb[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do what the verb says, to its end. Raises Problem."""
        outcome = self._fleet.call(self.known, verb, exchange.bind(verb, args, kwargs), self._options)
        return cast(R, outcome.result)  # only a verb that answers nothing has None here

    def options(self, *, deadline: float | None = None, idempotency_key: str = "", flow_id: str = "") -> BusHost:
        """The same host, called otherwise."""
        return BusHost(
            self._fleet, self.known, Options(deadline=deadline, idempotency_key=idempotency_key, flow_id=flow_id)
        )

    def _do(self, verb: AnyVerb, *args: object, **kwargs: object) -> object:
        return self.call(verb, *args, **kwargs)
