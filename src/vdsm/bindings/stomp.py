# SPDX-License-Identifier: Apache-2.0
"""JSON-RPC over STOMP, as a wire of the door."""

from __future__ import annotations

from vdsm.core.bridge import Bridge
from vdsm.protocols.dialect import JSONRPC, Dialect
from vdsm.protocols.stomp import CLIENT_COMMANDS, SERVER_COMMANDS

from .connection import Place
from .identity import Identity
from .stomp_connection import StompConnection
from .stomp_hub import Hub, StompOptions

_MAX_LINE_ENDS = 64  # before the first command
_COMMANDS = [command.encode() for command in CLIENT_COMMANDS | SERVER_COMMANDS]


class StompWire:
    """See `firstbytes.Wire`."""

    def __init__(
        self, bridge: Bridge, identity: Identity, options: StompOptions | None = None, dialect: Dialect = JSONRPC
    ) -> None:
        self._hub = Hub(bridge, identity, dialect, options or StompOptions())
        self._connections: set[StompConnection] = set()

    def knows(self, start: bytes) -> bool | None:
        """A command stands alone on its line, so HTTP's CONNECT is another."""
        line, end, _ = start.lstrip(b"\r\n").partition(b"\n")
        line = line.removesuffix(b"\r")
        if end:
            return line in _COMMANDS
        if not line and len(start) >= _MAX_LINE_ENDS:
            return False
        return None if any(command.startswith(line) for command in _COMMANDS) else False

    def connection(self, place: Place) -> StompConnection:
        made = StompConnection(self._hub, place, self._connections.discard)
        self._connections.add(made)
        return made

    def end(self) -> None:
        for connection in list(self._connections):
            connection.finish()
