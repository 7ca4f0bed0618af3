# SPDX-License-Identifier: Apache-2.0
"""Who calls. A binding makes it from the channel alone: a certificate, a token, a socket's peer; never from a body."""

from __future__ import annotations

import msgspec

from vdsm.contract.access import ROLES, Privilege, Role


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    identity: str  # "uid:0", "cert:CN=engine", "token:backup"
    channel: str  # "rest+unix", "rest+tls", "stomp", ...
    role: Role
    peer: str = ""  # the address it calls from; empty on this host's own socket
    reached: str = ""  # the address of this host it called

    def may(self, privilege: Privilege) -> bool:
        return privilege in ROLES[self.role]


DAEMON = Caller(identity="vdsmd", channel="internal", role=Role.ADMIN)
"""The daemon itself: recovery after a crash, autostart."""
