# SPDX-License-Identifier: Apache-2.0
"""The SASL layer of AMQP 1.0, client side, without I/O.

Proton has one of its own, but which one depends on the libraries it was built against: with Cyrus, EXTERNAL works only
when Proton itself does the TLS, and PLAIN only with more packages installed. Here asyncio does the TLS.
"""

from __future__ import annotations

import struct
from typing import Any

from proton import Array, Data, Described, ProtonException, symbol, ulong

from vdsm.amqp.address import BusAddress, Mechanism
from vdsm.amqp.errors import ProtocolFault, Refused

HEADER = b"AMQP\x03\x01\x00\x00"
MECHANISMS, INIT, CHALLENGE, RESPONSE, OUTCOME = range(0x40, 0x45)
_FRAME = struct.Struct(">IBBxx")
_MOST = 16384  # bytes of a frame; the standard lets SASL frames have 512
_OUTCOMES = {1: "it does not accept these credentials", 2: "it failed", 3: "it failed for good", 4: "it failed for now"}


class SaslClient:
    """`outgoing` is to be sent. After `done`, `rest` is the beginning of what follows."""

    def __init__(self, address: BusAddress) -> None:
        self._address = address
        self._buffer = b""
        self._greeted = False
        self._asked = False
        self.outgoing = HEADER
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> None:
        """Raises Refused, ProtocolFault."""
        self._buffer += data
        if not self._greeted and len(self._buffer) >= len(HEADER):
            if self._buffer[: len(HEADER)] != HEADER:
                raise ProtocolFault(f"no AMQP 1.0 broker with SASL answers there, it says {self._buffer[:8]!r}")
            self._buffer = self._buffer[len(HEADER) :]
            self._greeted = True
        while self._greeted and not self.done and len(self._buffer) >= _FRAME.size:
            size, offset, kind = _FRAME.unpack_from(self._buffer)
            if kind != 1 or not 8 <= offset * 4 <= size <= _MOST:
                raise ProtocolFault("the broker's SASL frames make no sense")
            if len(self._buffer) < size:
                return
            frame, self._buffer = self._buffer[offset * 4 : size], self._buffer[size:]
            self._take(*_decode(frame))
        if self.done:
            self.rest, self._buffer = self._buffer, b""

    def _take(self, code: int, fields: list[object]) -> None:
        if code == MECHANISMS and not self._asked:
            self._choose(fields[0] if fields else None)
        elif code == CHALLENGE and self._asked:  # of a broker that takes an empty first response for none
            self._send(RESPONSE, [self._response()])
        elif code == OUTCOME and fields and isinstance(fields[0], int):
            if fields[0] != 0:
                why = _OUTCOMES.get(fields[0], f"outcome {fields[0]}")
                raise Refused(f"the broker refuses {self._who()}: {why}")
            self.done = True
        else:
            raise ProtocolFault(f"the broker says {code:#x} in the middle of authentication")

    def _choose(self, offered: object) -> None:
        wanted = self._address.mechanism
        names = [str(name) for name in offered] if isinstance(offered, tuple | list) else [str(offered)]
        if wanted not in names:
            raise Refused(f"the broker does not offer {wanted} to {self._who()}, only {', '.join(names)}")
        self._asked = True
        self._send(INIT, [symbol(wanted), self._response(), self._address.host])

    def _response(self) -> bytes:
        match self._address.mechanism:
            case Mechanism.PLAIN:
                return f"\0{self._address.user}\0{self._address.password}".encode()
            case Mechanism.EXTERNAL:
                return b""  # who one is, the certificate says
            case Mechanism.ANONYMOUS:
                return b"vdsm"

    def _who(self) -> str:
        return f"{self._address.user or 'an unnamed user'} ({self._address.mechanism})"

    def _send(self, code: int, fields: list[Any]) -> None:
        data = Data()
        data.put_object(Described(ulong(code), fields))
        body = data.encode()
        self.outgoing += _FRAME.pack(_FRAME.size + len(body), 2, 1) + body


def _decode(frame: bytes) -> tuple[int, list[object]]:
    data = Data()
    try:
        data.decode(frame)
        data.rewind()
        data.next()
        value = data.get_object()
    except (ProtonException, ValueError, OverflowError, TypeError, RecursionError) as error:
        # Proton makes a character of any 32 bits, and a key of a map of anything
        raise ProtocolFault(f"the broker's SASL frames make no sense: {error}") from error
    if not isinstance(value, Described) or not isinstance(value.descriptor, int) or not isinstance(value.value, list):
        raise ProtocolFault("the broker's SASL frames make no sense")
    return value.descriptor, [_plain(field) for field in value.value]


def _plain(field: object) -> object:
    return field.elements if isinstance(field, Array) else field
