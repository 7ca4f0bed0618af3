# SPDX-License-Identifier: Apache-2.0
"""Reading the audit trail; the bridge itself writes it."""

from __future__ import annotations

from vdsm.contract import audit
from vdsm.contract.audit import AuditRecord

from .handlers import Context, handles
from .ports.store import AuditLog


class Audit:
    def __init__(self, audit_log: AuditLog) -> None:
        self._log = audit_log

    @handles(audit.list_)
    async def list_(self, ctx: Context, *, since: int = 0, limit: int = 1000) -> list[AuditRecord]:
        return await self._log.read(since, limit)
