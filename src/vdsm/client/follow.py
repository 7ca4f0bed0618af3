# SPDX-License-Identifier: Apache-2.0
"""The event stream, followed through cuts: Server-Sent Events with resume by id."""

from __future__ import annotations

import json
import secrets
import threading
from urllib.parse import urlencode

from vdsm.protocols.sse import MEDIA_TYPE, Message, Reader

from .route import ROOT
from .transport import Refused, Transport, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from .transport import Chunks

FAR = 2**53 - 1  # the largest id there can be
SILENCE = 60.0  # seconds; the daemon sends a comment more often than that, so more silence is a dead connection
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0


class Follower:
    """Yields messages for ever, each event once.

    `since`: 0 for the oldest kept, None for what happens from now on. `wanted` are query parameters that filter.
    `on_cut` is told why a connection was lost, before the next attempt.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        since: int | None = None,
        wanted: Sequence[tuple[str, str]] = (),
        on_cut: Callable[[str], None] | None = None,
    ) -> None:
        self._transport = transport
        self._last = "" if since is None else str(since)
        self._wanted = list(wanted)
        self._on_cut = on_cut
        self._chunks: Chunks | None = None
        self._closed = threading.Event()

    def __iter__(self) -> Generator[Message, None, None]:
        """Raises Unreachable if the first attempt fails, Refused; after a cut it tries for as long as it takes."""
        pause, opened = FIRST_PAUSE, False
        try:
            while not self._closed.is_set():
                try:
                    for message in self._connected():
                        opened = True
                        if message is not None:
                            pause = FIRST_PAUSE
                            yield message
                    reason = "the daemon ended the stream"
                except (Unreachable, TimeoutError) as error:
                    if not opened and not self._closed.is_set():
                        raise
                    reason = str(error)
                except Refused as error:
                    if not opened or error.status < 500:
                        raise
                    reason = str(error)
                if self._on_cut and not self._closed.is_set():
                    self._on_cut(reason)
                self._closed.wait(pause * (50 + secrets.randbelow(51)) / 100)  # many clients, one daemon: spread them
                pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            self.close()

    def _now(self) -> str:
        """The newest event's id: to follow from a place, not from a moment, leaves no hole if we are cut early."""
        reply = self._transport.request("GET", f"{ROOT}/events/history?since={FAR}&limit=1", timeout=SILENCE)
        if reply.is_problem:
            raise Refused(reply.status, reply.body)
        page = json.loads(reply.body)
        return str((page.get("gap") or {}).get("until", page["last"]))

    def close(self) -> None:
        """End the iteration, from whatever thread."""
        self._closed.set()
        if self._chunks is not None:
            self._chunks.interrupt()

    def _connected(self) -> Generator[Message | None, None, None]:
        """The messages of one connection; first None, when it stands."""
        self._last = self._last or self._now()
        headers = {"Accept": MEDIA_TYPE, "Last-Event-ID": self._last}
        query = f"?{urlencode(self._wanted)}" if self._wanted else ""
        chunks = self._transport.stream(f"{ROOT}/events{query}", headers=headers, timeout=SILENCE)
        self._chunks = chunks
        try:
            if self._closed.is_set():
                return
            if chunks.status != 200:
                raise Refused(chunks.status, chunks.read())
            yield None
            reader = Reader(last_id=self._last)
            for chunk in chunks:
                for message in reader.feed(chunk):
                    self._last = message.id  # not the reader's, which may be of a message cut in two
                    yield message
        finally:
            chunks.close()
