# SPDX-License-Identifier: Apache-2.0
"""Who sent a message: the user the broker vouches for, and the role the configuration gives that user."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from vdsm.contract.access import Role
from vdsm.contract.errors import Unauthenticated
from vdsm.core.caller import Caller

CHANNEL = "qmf"


class Users(msgspec.Struct, frozen=True, kw_only=True):
    """Roles by the broker's user names. Nothing in a message's body counts."""

    roles: Mapping[str, Role] = {}
    anonymous: Role | None = None  # of a message that names no user the broker vouches for

    def caller(self, user_id: str | None) -> Caller:
        """Raises Unauthenticated for one without a role here."""
        role = self.roles.get(user_id) if user_id else self.anonymous
        if role is None:
            who = f"the bus user {user_id:.80}" if user_id else "a message that names no user"
            raise Unauthenticated(reason=f"{who} has no role on this host; [bus] in its configuration gives one")
        return Caller(identity=f"bus:{user_id}" if user_id else "bus", channel=CHANNEL, role=role)
