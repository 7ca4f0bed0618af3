# SPDX-License-Identifier: Apache-2.0
"""STOMP 1.0, 1.1 and 1.2 frames: bytes <-> frames, however the bytes are cut."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

import msgspec

VERSIONS = ("1.2", "1.1", "1.0")
"""The best first."""

CONNECTS = frozenset({"CONNECT", "STOMP"})  # the second name came with 1.2, so that HTTP's CONNECT is told apart
CLIENT_COMMANDS = CONNECTS | {
    "SEND", "SUBSCRIBE", "UNSUBSCRIBE", "ACK", "NACK", "BEGIN", "COMMIT", "ABORT", "DISCONNECT",
}  # fmt: skip
SERVER_COMMANDS = frozenset({"CONNECTED", "MESSAGE", "RECEIPT", "ERROR"})

# A frame that agrees on the version is read before there is one, so nothing in it is escaped ("Value Encoding").
_RAW = CONNECTS | {"CONNECTED"}
_NUL = 0
_LINE_ENDS = re.compile(rb"(?:\r?\n)+")
_LENGTH = re.compile("[0-9]{1,12}", re.ASCII)
_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)
_UNESCAPED = {"\\": "\\", "n": "\n", "r": "\r", "c": ":"}
_ESCAPED = {
    "1.2": str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", ":": "\\c"}),
    "1.1": str.maketrans({"\\": "\\\\", "\n": "\\n", ":": "\\c"}),
}


class ProtocolError(ValueError):
    """Base of what can be wrong with a frame."""


class RemoteError(ProtocolError):
    """What the peer sent is no STOMP; nothing after it can be read."""


class LocalError(ProtocolError):
    """What we wanted to send cannot be said in the agreed version."""


class Frame(msgspec.Struct, frozen=True):
    command: str
    headers: dict[str, str] = {}  # of a repeated one the first, as the standard has it
    body: bytes = b""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Of one frame."""

    head: int = 32_768  # bytes of command and headers
    headers: int = 100
    body: int = 2_097_152  # bytes


class Parser:
    """Feed it bytes, take frames out. `version` says how headers are read, and may change between two frames."""

    def __init__(self, limits: Limits | None = None, commands: Container[str] = CLIENT_COMMANDS) -> None:
        self.version = VERSIONS[0]
        self._limits = limits or Limits()
        self._commands = commands
        self._buffer = bytearray()
        self._searched = 0  # that much of the buffer has been looked through for what must come next
        self._head: tuple[str, dict[str, str]] | None = None
        self._length: int | None = None

    @property
    def pending(self) -> int:
        """Bytes held of a frame that is not complete."""
        return len(self._buffer) + (self._head is not None)

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """The next complete frame. Raises RemoteError."""
        if self._head is None:
            head = self._cut_head()
            if head is None:
                return None
            self._head = command, headers = self._read_head(head)
            self._length = self._read_length(headers)
        body = self._cut_body()
        if body is None:
            return None
        command, headers = self._head
        self._head = None
        return Frame(command, headers, body)

    def _cut_head(self) -> bytearray | None:
        """Command and headers, without the blank line after them."""
        buffer = self._buffer
        if buffer and buffer[0] in b"\r\n" and (ends := _LINE_ENDS.match(buffer)):
            del buffer[: ends.end()]  # between frames they are heart-beats
        start = self._searched
        end, after = buffer.find(b"\n\n", start), 2
        crlf = buffer.find(b"\n\r\n", start, end if end >= 0 else len(buffer))
        if crlf >= 0:
            end, after = crlf, 3
        if buffer.find(_NUL, start, end if end >= 0 else len(buffer)) >= 0:
            raise RemoteError("a frame ends before the blank line that ends its headers")
        if (end if end >= 0 else len(buffer)) > self._limits.head:
            raise RemoteError(f"a frame's headers are larger than {self._limits.head} bytes")
        if end < 0:
            self._searched = max(0, len(buffer) - 2)
            return None
        head = buffer[:end]
        del buffer[: end + after]
        self._searched = 0
        return head

    def _read_head(self, head: bytearray) -> tuple[str, dict[str, str]]:
        if head.count(b"\n") > self._limits.headers:
            raise RemoteError(f"a frame has more than {self._limits.headers} headers")
        try:
            command, *lines = head.decode().split("\n")
        except UnicodeDecodeError:
            raise RemoteError("a frame's headers are not UTF-8") from None
        # 1.2 allows CR LF everywhere; before it a lone CR at the end of a value is the value's own.
        if command.endswith("\r"):
            command = command[:-1]
            lines = [line.removesuffix("\r") for line in lines]
        elif self.version == "1.2":
            lines = [line.removesuffix("\r") for line in lines] if b"\r" in head else lines
        if command not in self._commands:
            raise RemoteError(f"there is no command {command[:32]!r}")
        headers: dict[str, str] = {}
        raw = self.version == "1.0" or command in _RAW
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name:
                raise RemoteError("a header is not of the form name:value")
            if not raw:
                if ":" in value:
                    raise RemoteError(f"the value of the header {name[:32]!r} holds a bare colon")
                if "\\" in line:
                    name, value = _unescape(name), _unescape(value)
            headers.setdefault(name, value)
        return command, headers

    def _read_length(self, headers: Mapping[str, str]) -> int | None:
        text = headers.get("content-length")
        if text is None:
            return None
        if not _LENGTH.fullmatch(text):
            raise RemoteError(f"content-length is {text[:32]!r}, which is no number of bytes")
        length = int(text)
        if length > self._limits.body:
            raise RemoteError(f"a frame's body is larger than {self._limits.body} bytes")
        return length

    def _cut_body(self) -> bytes | None:
        buffer = self._buffer
        length = self._length
        if length is None:
            length = buffer.find(_NUL, self._searched)
            if length < 0:
                self._searched = len(buffer)
                if len(buffer) > self._limits.body:
                    raise RemoteError(f"a frame's body is larger than {self._limits.body} bytes")
                return None
            if length > self._limits.body:
                raise RemoteError(f"a frame's body is larger than {self._limits.body} bytes")
        elif len(buffer) <= length:
            return None
        elif buffer[length] != _NUL:
            raise RemoteError("no NUL where content-length says that the frame ends")
        body = bytes(buffer[:length])
        del buffer[: length + 1]
        self._searched = 0
        return body


def encode(frame: Frame, version: str = VERSIONS[0]) -> bytes:
    """The frame's bytes; `content-length` is added where there is a body. Raises LocalError."""
    body = frame.body
    pairs = [(name, value) for name, value in frame.headers.items() if name != "content-length"]
    if body:
        pairs.append(("content-length", f"{len(body)}"))
    head = frame.command + "".join([f"\n{name}:{value}" for name, value in pairs])
    # Nearly always nothing in it needs an escape, and counting is the quickest way to know.
    if head.count(":") != len(pairs) or head.count("\n") != len(pairs) or "\\" in head or "\r" in head:
        table = None if frame.command in _RAW else _ESCAPED.get(version)
        head = frame.command + "".join(_special(name, value, table) for name, value in pairs)
    if "\0" in head or "\n:" in head:
        raise LocalError("a header holds a NUL, or has no name")
    try:
        return b"%b\n\n%b\0" % (head.encode(), body)
    except UnicodeEncodeError:
        raise LocalError("a header holds half of a character") from None


def _special(name: str, value: str, table: Mapping[int, str] | None) -> str:
    """A header's line, in full care."""
    if table is not None:
        return f"\n{name.translate(table)}:{value.translate(table)}"
    if ":" in name or "\n" in name + value or "\r" in name + value:
        raise LocalError(f"the header {name!r} needs an escape, which there is none here")
    return f"\n{name}:{value}"


def _unescape(text: str) -> str:
    try:
        return _ESCAPE.sub(lambda m: _UNESCAPED[m[1]], text)
    except KeyError:
        raise RemoteError("a header holds an escape that does not exist") from None
