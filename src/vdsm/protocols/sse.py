# SPDX-License-Identifier: Apache-2.0
"""Server-Sent Events, both ways: the `text/event-stream` format of the HTML standard."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MEDIA_TYPE = "text/event-stream"

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")


class StreamTooWide(ValueError):
    """The sender's message is larger than the reader takes."""


@dataclass(frozen=True, slots=True)
class Message:
    """One dispatched event. `id` is the last id seen up to it, as the standard has it."""

    data: str
    event: str = "message"
    id: str = ""


def encode(data: str, *, event: str = "", last_id: str | None = None) -> bytes:
    """One message; `last_id` is what a reader sends back to go on from here.

    Raises ValueError for a name or id the format cannot carry.
    """
    lines = []
    if event:
        lines.append(f"event: {_one_line(event)}")
    if last_id is not None:
        if "\0" in last_id:
            raise ValueError("an id may not hold NUL")
        lines.append(f"id: {_one_line(last_id)}")
    lines += [f"data: {line}" for line in re.split("\r\n|\n|\r", data)]
    return ("\n".join(lines) + "\n\n").encode()


def comment(text: str = "") -> bytes:
    """A line every reader skips: it keeps a quiet connection open."""
    return f": {_one_line(text)}\n\n".encode()


def retry(milliseconds: int) -> bytes:
    """How long the reader should wait before it connects again."""
    return f"retry: {milliseconds}\n\n".encode()


def _one_line(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise ValueError("a line end inside a field")
    return text


@dataclass(slots=True)
class Reader:
    """Bytes in, messages out, however the bytes are cut."""

    limit: int = 1 << 20  # bytes one message may have
    last_id: str = ""
    retry: int | None = None  # milliseconds the sender asked for
    _rest: bytes = b""
    _held: int = 0  # bytes in `_data`
    _begun: bool = False
    _event: str = ""
    _data: list[str] = field(default_factory=list)

    def feed(self, chunk: bytes) -> list[Message]:
        """The messages that `chunk` completes. Raises StreamTooWide."""
        text = self._rest + chunk
        if not self._begun:
            if len(text) < len(_BOM) and _BOM.startswith(text):
                self._rest = text
                return []
            self._begun = True
            text = text.removeprefix(_BOM)
        # A CR at the end may be half of a CR LF: it waits for the next chunk.
        whole, held = (text[:-1], text[-1:]) if text.endswith(b"\r") else (text, b"")
        *lines, rest = _LINE_END.split(whole)
        self._rest = rest + held
        messages = [m for m in map(self._take, lines) if m is not None]
        if self._held + len(self._rest) > self.limit:
            raise StreamTooWide(f"a message of more than {self.limit} bytes")
        return messages

    def _take(self, line: bytes) -> Message | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode(errors="replace")
        if name == b"data":
            self._held += len(value)
            self._data.append(text)
        elif name == b"event":
            self._event = text
        elif name == b"id" and "\0" not in text:
            self.last_id = text
        elif name == b"retry" and value.strip().isdigit():
            self.retry = int(value)
        return None

    def _dispatch(self) -> Message | None:
        message = Message("\n".join(self._data), self._event or "message", self.last_id) if self._data else None
        self._data, self._event, self._held = [], "", 0
        return message
