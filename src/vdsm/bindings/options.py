# SPDX-License-Identifier: Apache-2.0
"""The limits of the REST door, so that nothing a client sends or leaves unsent can use up the host."""

from __future__ import annotations

import msgspec


class RestOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes in bytes, times in seconds. The daemon's configuration fills it."""

    max_head: int = 32_768  # request line and headers
    max_headers: int = 100
    max_body: int = 2_097_152  # raw domain XML has at most 1 MiB, escaped it may double
    max_bodies: int = 67_108_864  # of all requests together that are still arriving
    max_discarded: int = 67_108_864  # of a refused body that is still read, so that its sender gets to see the answer
    max_pipelined: int = 16  # requests a client may send before it has read the first answer
    max_message: int = 1_048_576  # one WebSocket message

    max_connections: int = 512
    max_connections_per_peer: int = 256  # of one address; a local user counts as one
    max_handshakes: int = 128  # under way; beyond it the oldest is dropped

    handshake_timeout: float = 10.0
    head_timeout: float = 10.0  # from the first byte, or from connecting, to the end of the headers
    body_timeout: float = 30.0
    stall_timeout: float = 30.0  # a client that does not read what it asked for is dropped
    keep_alive: int = 75  # between two requests
    heartbeat: float = 15.0  # between two signs of life on a quiet event stream
    grace: float = 10.0  # for what is under way when the door closes
