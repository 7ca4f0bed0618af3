# SPDX-License-Identifier: Apache-2.0
"""Bearer tokens, and the audit trail: who may come in, and who did what."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from . import errors as e
from ._verb import Kind, verb
from .access import Privilege, Role
from .types import END, Output, Secret, UnixTime

NOUN = "Token"

TokenName = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_.@-]{1,64}" + END, description="1 to 64 of letters, digits and _ . @ -.")
]


class TokenInfo(Output, frozen=True, kw_only=True):
    """A token as everybody may see it: only a hash of the secret is kept."""

    name: str
    role: Role
    created: UnixTime
    expires: UnixTime | None
    last_used: UnixTime | None


class NewToken(Output, frozen=True, kw_only=True):
    """The one time the secret is shown."""

    name: str
    role: Role
    token: Secret
    expires: UnixTime | None


@verb(
    kind=Kind.ACTION, needs=Privilege.ACCESS_ADMIN, since="1.0", http="POST /tokens",
    raises=(e.TokenExists, e.StateUnavailable),
)  # fmt: skip
def create(
    name: TokenName,
    role: Role,
    *,
    ttl: Annotated[float, Meta(ge=0, le=315_360_000, description="Seconds until it expires; 0: never.")] = 0.0,
) -> NewToken:
    """Make a bearer token. Its secret is in the answer, this once."""


@verb(kind=Kind.QUERY, needs=Privilege.ACCESS_ADMIN, since="1.0", http="GET /tokens")
def list_() -> list[TokenInfo]:
    """The tokens that may come in."""


@verb(
    kind=Kind.ACTION, needs=Privilege.ACCESS_ADMIN, since="1.0", http="DELETE /tokens/{name}",
    raises=(e.NoSuchToken, e.StateUnavailable),
)  # fmt: skip
def revoke(name: TokenName) -> None:
    """Take a token back, at once."""
