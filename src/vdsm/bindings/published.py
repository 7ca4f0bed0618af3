# SPDX-License-Identifier: Apache-2.0
"""A verb called the published way: loose arguments, an answer before the work is done, and a loose result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vdsm.contract import AnyVerb, Kind
from vdsm.contract.codec import to_plain
from vdsm.contract.errors import InvalidParams
from vdsm.contract.task import TaskRecord
from vdsm.core.bridge import Bridge
from vdsm.core.caller import Caller
from vdsm.protocols.dialect import NOTHING, TASK_ID, Dialect, DialectError


class PublishedCalls:
    """Calls on a bridge in a dialect; nothing in it knows any verb."""

    def __init__(self, bridge: Bridge, dialect: Dialect, verbs: Mapping[str, AnyVerb]) -> None:
        self._bridge = bridge
        self._dialect = dialect
        self._verbs = verbs

    async def call(
        self, verb: AnyVerb, params: Mapping[str, object] | Sequence[object], caller: Caller, flow_id: str
    ) -> object:
        """The result in the dialect's shape. Raises Problem."""
        dialect = self._dialect
        try:
            given = dialect.arguments(verb.method, params, verb.params.__struct_encode_fields__)
        except DialectError as error:
            raise InvalidParams(reason=str(error), path=error.path) from None
        early = dialect.early(verb.method) if verb.kind is Kind.TASK else ""
        outcome = await self._bridge.call(
            verb, given, caller, wait=0.0 if early else None, flow_id=flow_id, text_numbers=True
        )
        result = outcome.result
        if early and outcome.task is not None and (result is None or early == TASK_ID):
            result = await self._early(early, outcome.task, caller, flow_id)
        return dialect.result(verb.method, to_plain(result))

    async def _early(self, early: str, task: TaskRecord, caller: Caller, flow_id: str) -> object:
        """What is answered while the task goes on by itself."""
        if early == TASK_ID:
            return task.id
        if early == NOTHING:
            return None
        other = self._verbs[early]
        about = {other.params.__struct_encode_fields__[0]: task.object_id}
        return (await self._bridge.call(other, about, caller, flow_id=flow_id)).result
