# SPDX-License-Identifier: Apache-2.0
"""Hosts over a message bus: a console that finds them and follows them, and their bridges.

`hosts` knows who is there, `console` speaks with them, `calls` makes calls of verbs, `events` and `all_events` follow
what happens, `bridge` is one host as its own bindings would see it. `fleet` is all of it without asyncio.
"""

from .bridge import RemoteBridge
from .console import Console
from .hosts import Change, KnownHost, State

__all__ = ["Change", "Console", "KnownHost", "RemoteBridge", "State"]
