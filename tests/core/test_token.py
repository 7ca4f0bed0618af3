# SPDX-License-Identifier: Apache-2.0
"""Bearer tokens and the audit trail, through the bridge of a whole host in memory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vdsm.contract import audit, token, vm
from vdsm.contract.access import Role
from vdsm.contract.audit import AuditRecord
from vdsm.contract.errors import AccessDenied, NoSuchToken, StateUnavailable, TokenExists
from vdsm.contract.token import NewToken, TokenInfo
from vdsm.contract.types import Secret
from vdsm.core import token as core_token
from vdsm.core.caller import Caller
from vdsm.core.ports.store import StoredToken
from vdsm.core.token import Tokens
from vdsm.daemon import drivers
from vdsm.daemon.config import Config
from vdsm.daemon.wiring import House

ADMIN = Caller(identity="uid:0", channel="rest+unix", role=Role.ADMIN)
OPERATOR = Caller(identity="uid:7", channel="rest+unix", role=Role.OPERATOR)


@contextlib.asynccontextmanager
async def opened(state: Path | None) -> AsyncIterator[House]:
    house = House(Config(), await drivers.simulated(Config(), 0), state)
    await house.open()
    try:
        yield house
    finally:
        await house.close()


async def create(house: House, name: str = "backup", **more: object) -> NewToken:
    outcome = await house.bridge.call(token.create, {"name": name, "role": "viewer", **more}, ADMIN)
    assert isinstance(outcome.result, NewToken)
    return outcome.result


async def listed(house: House) -> list[TokenInfo]:
    outcome = await house.bridge.call(token.list_, {}, ADMIN)
    assert isinstance(outcome.result, list)
    return outcome.result


async def test_a_token_lets_in_until_it_is_revoked(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        made = await create(house)
        caller = await house.tokens.authenticate(made.token, "rest+tls")
        assert caller == Caller(identity="token:backup", channel="rest+tls", role=Role.VIEWER)
        assert await house.tokens.authenticate(Secret(made.token.reveal() + "x"), "rest+tls") is None
        assert await house.tokens.authenticate(Secret(""), "rest+tls") is None
        assert await house.tokens.authenticate(Secret("\udcff\ud800"), "rest+tls") is None
    async with opened(tmp_path) as house:  # it survives a restart, and so does its end
        assert await house.tokens.authenticate(made.token, "rest+tls") == caller
        await house.bridge.call(token.revoke, {"name": "backup"}, ADMIN)
        assert await house.tokens.authenticate(made.token, "rest+tls") is None
        assert await listed(house) == []
    async with opened(tmp_path) as house:
        assert await house.tokens.authenticate(made.token, "rest+tls") is None


async def test_the_secret_is_nowhere_on_disk(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        made = await create(house)
        await house.tokens.authenticate(made.token, "rest+tls")
        secret = made.token.reveal()
        assert len(secret) >= 43 + len(core_token.PREFIX), "256 bits"
    for file in tmp_path.iterdir():
        assert secret.encode() not in file.read_bytes(), file
    assert hashlib.sha256(secret.encode()).hexdigest().encode() in (tmp_path / "vdsm.db").read_bytes()


async def test_a_token_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(None) as house:
        made = await create(house, ttl=100)
        assert made.expires is not None
        assert await house.tokens.authenticate(made.token, "rest+tls")
        monkeypatch.setattr("time.time", lambda: made.expires)
        assert await house.tokens.authenticate(made.token, "rest+tls") is None


async def test_names_are_unique_even_at_once() -> None:
    async with opened(None) as house:
        answers = await asyncio.gather(*(create(house) for _ in range(8)), return_exceptions=True)
        assert sum(isinstance(answer, NewToken) for answer in answers) == 1
        assert all(isinstance(answer, NewToken | TokenExists) for answer in answers)
        assert [t.name for t in await listed(house)] == ["backup"]
        with pytest.raises(NoSuchToken):
            await house.bridge.call(token.revoke, {"name": "other"}, ADMIN)


async def test_only_an_administrator(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(None) as house:
        for verb, params in ((token.create, {"name": "x", "role": "admin"}), (token.list_, {}), (audit.list_, {})):
            with pytest.raises(AccessDenied):
                await house.bridge.call(verb, params, OPERATOR)


async def test_a_plan_makes_no_token() -> None:
    async with opened(None) as house:
        outcome = await house.bridge.call(token.create, {"name": "x", "role": "admin"}, ADMIN, plan=True)
        assert outcome.plan is not None
        assert [step.title for step in outcome.plan.steps] == ["keep the hash of token x"]
        assert await listed(house) == []


class CountingLog:
    """A token log in memory; the first `late` writes wait until they are let go."""

    def __init__(self) -> None:
        self.tokens: dict[str, StoredToken] = {}
        self.writes = 0
        self.open = asyncio.Event()
        self.open.set()
        self.full = False

    async def put(self, stored: StoredToken) -> None:
        await self.open.wait()
        if self.full:
            raise StateUnavailable(reason="the disk is full", directory="/")
        self.writes += 1
        self.tokens[stored.name] = stored

    async def all(self) -> list[StoredToken]:
        return list(self.tokens.values())

    async def delete(self, name: str) -> None:
        self.tokens.pop(name, None)


async def filled(log: CountingLog) -> Tokens:
    digest = hashlib.sha256(b"secret").hexdigest()
    log.tokens["a"] = StoredToken(name="a", role=Role.ADMIN, digest=digest, created=1.0, expires=None)
    tokens = Tokens(log)
    await tokens.start()
    return tokens


async def test_use_is_noted_at_most_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    log, now = CountingLog(), [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    tokens = await filled(log)
    for moment in (1000.0, 1001.0, 1059.0, 1060.0, 1061.0):
        now[0] = moment
        assert await tokens.authenticate(Secret("secret"), "rest+tls")
        await tokens.close()  # the note is written
    assert log.writes == 2
    assert log.tokens["a"].last_used == 1060.0


async def test_a_late_note_does_not_bring_a_token_back() -> None:
    log = CountingLog()
    tokens = await filled(log)
    log.open.clear()
    assert await tokens.authenticate(Secret("secret"), "rest+tls"), "a slow disk does not delay who comes"
    revoking = asyncio.create_task(tokens.forget("a").run())
    await asyncio.sleep(0)
    log.open.set()
    await revoking
    await tokens.close()
    assert log.tokens == {}
    assert await tokens.authenticate(Secret("secret"), "rest+tls") is None


async def test_a_full_disk_keeps_nobody_out(caplog: pytest.LogCaptureFixture) -> None:
    log = CountingLog()
    tokens = await filled(log)
    log.full = True
    assert await tokens.authenticate(Secret("secret"), "rest+tls")
    await tokens.close()
    assert "not noted" in caplog.text


async def test_calls_and_refusals_are_audited() -> None:
    async with opened(None) as house:
        made = await create(house)
        with pytest.raises(AccessDenied):
            await house.bridge.call(token.revoke, {"name": "backup"}, OPERATOR, flow_id="flow-1")
        await house.bridge.call(vm.list_, {}, OPERATOR)
        outcome = await house.bridge.call(audit.list_, {}, ADMIN)
        records = outcome.result
        assert isinstance(records, list)
        assert all(isinstance(record, AuditRecord) for record in records)
        assert [(r.method, r.caller, r.verdict) for r in records] == [
            ("Token.create", "uid:0", "ok"),
            ("Token.revoke", "uid:7", "access-denied"),
        ]
        assert records[1].flow_id == "flow-1"
        assert made.token.reveal() not in str(records)
        later = await house.bridge.call(audit.list_, {"since": records[0].id, "limit": 1}, ADMIN)
        assert later.result == records[1:]
