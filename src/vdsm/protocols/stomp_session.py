# SPDX-License-Identifier: Apache-2.0
"""The server's side of one STOMP connection: bytes in, what happened and the frames to write out."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Mapping

import msgspec

from .stomp import CONNECTS, VERSIONS, Frame, Limits, Parser, RemoteError, encode

MAX_SUBSCRIPTIONS = 64
MAX_EARLY = 32  # SENDs that wait for CONNECT
MAX_DESTINATION = 255  # characters; a longer one has no levels
MIN_BEAT = 1000  # milliseconds; who asks for heart-beats more often gets them as often as this

_BEATS = re.compile("([0-9]{1,9}),([0-9]{1,9})", re.ASCII)
_TEXT = {"content-type": "text/plain"}


class Subscription(msgspec.Struct, frozen=True):
    id: str
    destination: str
    acked: bool = False  # its client means to acknowledge each message; that is taken and ignored


class Agreed(msgspec.Struct, frozen=True):
    """The client connected. Seconds between two signs of life each way, 0 for none."""

    send_every: float
    expect_every: float


class Subscribed(msgspec.Struct, frozen=True):
    subscription: Subscription


class Unsubscribed(msgspec.Struct, frozen=True):
    subscription: Subscription


class Sent(msgspec.Struct, frozen=True):
    """The client sent a message."""

    destination: str
    headers: dict[str, str]
    body: bytes


class Write(msgspec.Struct, frozen=True):
    """One frame, to be written by itself."""

    data: bytes


class Ended(msgspec.Struct, frozen=True):
    """Nothing more is read. With `linger` the client is to close first, as it waits for a receipt."""

    linger: bool = False


Happening = Agreed | Subscribed | Unsubscribed | Sent | Write | Ended


@functools.lru_cache(maxsize=256)
def levels(destination: str) -> tuple[str, ...]:
    """The destinations whose subscribers get what is sent to this one: "a.b" and "a" for "a.b"."""
    if len(destination) > MAX_DESTINATION:
        return (destination,)
    parts = destination.split(".")
    return tuple(".".join(parts[:count]) for count in range(len(parts), 0, -1))


class Session:
    """Give `receive` what arrives and do what it says, in that order."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.connected = False
        self.ended = False
        self._parser = Parser(limits)
        self.version = VERSIONS[0]
        self._subscriptions: dict[str, Subscription] = {}
        self._early: list[Sent] = []
        self._early_room = (limits or Limits()).body
        self._numbers = itertools.count(1)

    @property
    def pending(self) -> int:
        """Bytes held of a frame that is not complete."""
        return self._parser.pending

    @property
    def holds_back(self) -> bool:
        """Whether messages wait for the client's CONNECT."""
        return bool(self._early)

    # ---- what arrives ----------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Happening]:
        """What these bytes bring about."""
        out: list[Happening] = []
        if self.ended:
            return out
        parser = self._parser
        parser.feed(data)
        try:
            while (frame := parser.next_frame()) is not None:
                _TAKES[frame.command](self, frame, out)
                if self.ended:
                    break
        except RemoteError as error:
            out += self.refuse(str(error))
        return out

    def refuse(self, reason: str, frame: Frame | None = None, **more: str) -> list[Happening]:
        """Say why, and end."""
        self.ended = True
        return [self.complaint(reason, frame, **more), Ended()]

    def complaint(self, reason: str, frame: Frame | None = None, **more: str) -> Write:
        """An ERROR frame. Published clients read its body, or its `message` header, and go on."""
        headers = {"message": reason, **_TEXT, **more}
        if frame is not None and "receipt" in frame.headers:
            headers["receipt-id"] = frame.headers["receipt"]
        return Write(self._encode("ERROR", headers, reason.encode()))

    def _connect(self, frame: Frame, out: list[Happening]) -> None:
        if self.connected:
            out += self.refuse("CONNECT came twice", frame)
            return
        version = _agree(frame.headers.get("accept-version"))
        if version is None:
            out += self.refuse("Version unsupported", frame, version=",".join(reversed(VERSIONS)))
            return
        self.connected = True
        self.version = self._parser.version = version
        expect, send = _beats(frame.headers.get("heart-beat", ""))
        out.append(Write(self._encode("CONNECTED", {"version": version, "heart-beat": f"{send},{expect}"})))
        out.append(Agreed(send / 1000, expect / 1000))
        out += self._early
        self._early.clear()

    def _subscribe(self, frame: Frame, out: list[Happening]) -> None:
        headers = frame.headers
        destination = headers.get("destination")
        key = headers.get("id", destination if self.version == "1.0" else None)
        if not destination or not key:
            out.append(self.complaint("Missing destination or subscription id header", frame))
        elif key in self._subscriptions:
            out.append(self.complaint("Subscription id already exists", frame))
        elif len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            out.append(self.complaint(f"More than {MAX_SUBSCRIPTIONS} subscriptions", frame))
        else:
            made = Subscription(key, destination, headers.get("ack", "auto") != "auto")
            self._subscriptions[key] = made
            out.append(Subscribed(made))
            self._receipt(frame, out)

    def _unsubscribe(self, frame: Frame, out: list[Happening]) -> None:
        key = frame.headers.get("id", frame.headers.get("destination") if self.version == "1.0" else None)
        if not key:
            out.append(self.complaint("Missing id header", frame))
            return
        gone = self._subscriptions.pop(key, None)
        if gone is not None:
            out.append(Unsubscribed(gone))
        self._receipt(frame, out)

    def _send(self, frame: Frame, out: list[Happening]) -> None:
        destination = frame.headers.get("destination")
        if not destination:
            out.append(self.complaint("Missing destination header", frame))
            return
        if "transaction" in frame.headers:
            out += self.refuse("Transactions are not offered", frame)
            return
        sent = Sent(destination, frame.headers, frame.body)
        if self.connected:
            out.append(sent)
        elif not self._hold_back(sent):
            out += self.refuse("A SEND came before CONNECT", frame)
            return
        self._receipt(frame, out)

    def _hold_back(self, sent: Sent) -> bool:
        """The Java client of the published API may send its first frames in reverse: those wait for CONNECT a moment.

        Whoever has not even subscribed is no such client.
        """
        self._early_room -= len(sent.body)
        if not self._subscriptions or len(self._early) >= MAX_EARLY or self._early_room < 0:
            return False
        self._early.append(sent)
        return True

    def _acknowledge(self, frame: Frame, out: list[Happening]) -> None:
        self._receipt(frame, out)

    def _transaction(self, frame: Frame, out: list[Happening]) -> None:
        out += self.refuse("Transactions are not offered", frame)

    def _disconnect(self, frame: Frame, out: list[Happening]) -> None:
        self.ended = True
        self._receipt(frame, out)
        out.append(Ended(linger="receipt" in frame.headers))

    def _receipt(self, frame: Frame, out: list[Happening]) -> None:
        receipt = frame.headers.get("receipt")
        if receipt is not None:
            out.append(Write(self._encode("RECEIPT", {"receipt-id": receipt})))

    # ---- what goes out ---------------------------------------------------------------------------------------------

    def message(
        self, subscription: Subscription, destination: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """A MESSAGE frame. Raises LocalError for headers that the client's version cannot carry."""
        number = f"{next(self._numbers)}"
        own = {"destination": destination, "subscription": subscription.id, "message-id": number}
        if subscription.acked:
            own["ack"] = number
        return self._encode("MESSAGE", {**(headers or {}), **own}, body)

    def _encode(self, command: str, headers: dict[str, str], body: bytes = b"") -> bytes:
        return encode(Frame(command, headers, body), self.version)


_TAKES: Mapping[str, Callable[[Session, Frame, list[Happening]], None]] = {
    **dict.fromkeys(CONNECTS, Session._connect),
    "SUBSCRIBE": Session._subscribe,
    "UNSUBSCRIBE": Session._unsubscribe,
    "SEND": Session._send,
    "ACK": Session._acknowledge,
    "NACK": Session._acknowledge,
    "BEGIN": Session._transaction,
    "COMMIT": Session._transaction,
    "ABORT": Session._transaction,
    "DISCONNECT": Session._disconnect,
}


def _agree(accepted: str | None) -> str | None:
    """The best version both know. Who names none speaks 1.0."""
    if accepted is None:
        return "1.0"
    offered = {version.strip() for version in accepted.split(",")}
    return next((version for version in VERSIONS if version in offered), None)


def _beats(header: str) -> tuple[int, int]:
    """What the client sends and wants, in milliseconds; a header that cannot be read asks for nothing."""
    found = _BEATS.fullmatch(header)
    if found is None:
        return 0, 0
    sends, wants = (max(MIN_BEAT, int(n)) if int(n) else 0 for n in found.groups())
    return sends, wants
