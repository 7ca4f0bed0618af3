# SPDX-License-Identifier: Apache-2.0
"""Blocking calls in a few threads of their own: bounded, with deadlines; a call that hangs costs one thread only."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from vdsm.contract.errors import DeadlineExceeded, TooBusy
from vdsm.core.ports import deadline

T = TypeVar("T")


class _Job(Generic[T]):
    __slots__ = ("call", "future", "key")

    def __init__(self, call: Callable[[], T], key: str, future: asyncio.Future[T]) -> None:
        self.call = call
        self.key = key
        self.future = future


class Pool:
    """Threads for one outside dependency. Belongs to one event loop, on which all its bookkeeping happens.

    The threads are daemons: one that hangs in a call must not keep the process from ending.
    """

    def __init__(self, name: str, *, workers: int, waiting: int = 256) -> None:
        self._name = name
        self._workers = workers
        self._most_waiting = waiting
        self._waiting: deque[_Job[Any]] = deque()
        self._inbox: queue.SimpleQueue[tuple[_Job[Any], asyncio.AbstractEventLoop] | None] = queue.SimpleQueue()
        self._busy: Counter[str] = Counter()  # running calls by key
        self._running = 0
        self._threads = 0

    async def run(self, what: str, call: Callable[[], T], *, most: float, key: str = "") -> T:
        """Do `call` in a thread, in at most `most` seconds or what the present deadline leaves.

        Calls with the same `key` go one after the other, so that one object that hangs cannot take every thread.
        A call that is given up stays in its thread until it returns; what it returns is dropped.

        Raises TooBusy, DeadlineExceeded, and what `call` raises.
        """
        if len(self._waiting) >= self._most_waiting:
            raise TooBusy(what=what)
        seconds = deadline.remaining(most)
        job = _Job(call, key, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self._dispatch()
        try:
            async with asyncio.timeout(seconds) as limit:
                result: T = await job.future
                return result
        except TimeoutError:
            if not limit.expired():  # it is the call's own
                raise
            raise DeadlineExceeded(what=what, seconds=f"{seconds:.3g}") from None
        finally:
            if job in self._waiting:
                self._waiting.remove(job)

    def close(self) -> None:
        """Let the threads end once they are free; calls that wait are cancelled."""
        for job in self._waiting:
            job.future.cancel()
        self._waiting.clear()
        for _ in range(self._threads):
            self._inbox.put(None)
        self._threads = 0

    def _dispatch(self) -> None:
        for job in list(self._waiting):
            if self._running >= self._workers:
                return
            if job.key and self._busy[job.key]:
                continue
            self._waiting.remove(job)
            self._busy[job.key] += 1
            self._running += 1
            if self._threads < self._running:
                self._threads += 1
                threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()
            self._inbox.put((job, asyncio.get_running_loop()))

    def _work(self) -> None:
        while (order := self._inbox.get()) is not None:
            job, loop = order
            result, error = None, None
            try:
                result = job.call()
            except BaseException as raised:  # whatever it is, it belongs to the caller, not to this thread
                error = raised
            try:
                loop.call_soon_threadsafe(self._finish, job, result, error)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

    def _finish(self, job: _Job[Any], result: object, error: BaseException | None) -> None:
        self._running -= 1
        self._busy[job.key] -= 1
        if not self._busy[job.key]:
            del self._busy[job.key]
        if not job.future.done():
            if error is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(error)
        self._dispatch()
