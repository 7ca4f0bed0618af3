# SPDX-License-Identifier: Apache-2.0
"""Bearer tokens: made, listed, taken back, and recognised when a caller shows one."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import time

import msgspec

from vdsm.contract import token
from vdsm.contract.access import Role
from vdsm.contract.errors import NoSuchToken, StateUnavailable, TokenExists
from vdsm.contract.token import NewToken, TokenInfo
from vdsm.contract.types import Secret

from .caller import Caller
from .handlers import Context, handles
from .ports.store import StoredToken, TokenLog
from .steps import Step, operation

log = logging.getLogger(__name__)

PREFIX = "vdsm_"  # lets a scanner of leaked secrets know one
LAST_USED_STEP = 60.0  # seconds: a busy client must not cost a disk write per call


class Tokens:
    """Call `start` before the first caller comes, `close` at the end."""

    def __init__(self, token_log: TokenLog) -> None:
        self._log = token_log
        self._by_name: dict[str, StoredToken] = {}
        self._by_digest: dict[str, str] = {}
        self._writing = asyncio.Lock()  # a late note of use must not bring back a revoked token
        self._notes: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Read the tokens kept. Raises StateUnavailable."""
        for stored in await self._log.all():
            self._know(stored)

    async def close(self) -> None:
        """Wait for notes of use that are being written."""
        await asyncio.gather(*self._notes)

    async def authenticate(self, secret: Secret, channel: str) -> Caller | None:
        """Who shows this secret, unless it is unknown, revoked or expired."""
        digest = _digest(secret.reveal())
        stored = self._by_name.get(self._by_digest.get(digest, ""))
        now = time.time()
        if stored is None or not hmac.compare_digest(stored.digest, digest):
            return None
        if stored.expires is not None and stored.expires <= now:
            return None
        if now - (stored.last_used or 0.0) >= LAST_USED_STEP:
            self._note(msgspec.structs.replace(stored, last_used=now))
        return Caller(identity=f"token:{stored.name}", channel=channel, role=stored.role)

    # ---- verbs ---------------------------------------------------------------------------------------------------

    @handles(token.create)
    async def create(self, ctx: Context, name: str, role: Role, *, ttl: float = 0.0) -> NewToken:
        await ctx.hold(f"token:{name}")
        if name in self._by_name:
            raise TokenExists(token=name)
        secret, now = PREFIX + secrets.token_urlsafe(32), time.time()
        stored = StoredToken(
            name=name, role=role, digest=_digest(secret), created=now, expires=now + ttl if ttl else None
        )
        await ctx.run(Step(f"keep the hash of token {name}", do=self.keep(stored)))
        return NewToken(name=name, role=role, token=Secret(secret), expires=stored.expires)

    @handles(token.list_)
    async def list_(self, ctx: Context) -> list[TokenInfo]:
        return [
            TokenInfo(name=t.name, role=t.role, created=t.created, expires=t.expires, last_used=t.last_used)
            for t in sorted(self._by_name.values(), key=lambda t: (t.created, t.name))
        ]

    @handles(token.revoke)
    async def revoke(self, ctx: Context, name: str) -> None:
        await ctx.hold(f"token:{name}")
        if name not in self._by_name:
            raise NoSuchToken(token=name)
        await ctx.run(Step(f"forget token {name}", do=self.forget(name)))

    # ---- steps ---------------------------------------------------------------------------------------------------

    @operation("token.keep")
    async def keep(self, stored: StoredToken) -> None:
        async with self._writing:
            await self._log.put(stored)
            self._know(stored)

    @operation("token.forget")
    async def forget(self, name: str) -> None:
        async with self._writing:
            await self._log.delete(name)
            if stored := self._by_name.pop(name, None):
                del self._by_digest[stored.digest]

    def _know(self, stored: StoredToken) -> None:
        self._by_name[stored.name] = stored
        self._by_digest[stored.digest] = stored.name

    def _note(self, used: StoredToken) -> None:
        self._by_name[used.name] = used
        note = asyncio.create_task(self._write_note(used), name=f"token-use-{used.name}")
        self._notes.add(note)
        note.add_done_callback(self._notes.discard)

    async def _write_note(self, used: StoredToken) -> None:
        async with self._writing:
            if self._by_name.get(used.name) != used:
                return
            try:
                await self._log.put(used)
            except StateUnavailable as problem:
                log.warning("the use of token %s is not noted: %s", used.name, problem)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
