# SPDX-License-Identifier: Apache-2.0
"""The published loose shapes, to and from the contract's plain data. Driven by a table: no verb has code of its own.

`JSONRPC` and `XMLRPC` are the two dialects. A binding gives every call's parameters to `arguments` and every answer,
as `contract.codec.to_plain` makes it, to `result`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Plain = Any
"""None, bool, int, float, str, and lists and string-keyed dicts of those."""

TASK_ID = "task-id"
NOTHING = "nothing"


class DialectError(ValueError):
    """Arguments that cannot be put into the contract's form; `path` is the JSON path of what is wrong."""

    def __init__(self, reason: str, path: str = "$") -> None:
        super().__init__(reason)
        self.path = path


class Dialect:
    """One wire's way to say what the contract says."""

    def __init__(self, name: str) -> None:
        self.name = name

    def arguments(
        self, method: str, params: Mapping[str, Plain] | Sequence[Plain], names: Sequence[str] = ()
    ) -> dict[str, Plain]:
        """The contract's arguments by wire name, of published ones by name or by position.

        `names` are the contract's own wire names in order, for positions of a verb that is not published. Nulls are left
        out. The bridge is then to be called with `text_numbers`. Raises DialectError.
        """
        if isinstance(params, Mapping):
            return {name: value for name, value in params.items() if value is not None}
        if len(params) > len(names):
            raise DialectError(f"{method} takes at most {len(names)} arguments, got {len(params)}")
        return {name: value for name, value in zip(names, params, strict=False) if value is not None}

    def result(self, method: str, plain: Plain) -> Plain:
        """What the published answer is, of the contract's: bare, without `status`."""
        return True if plain is None else plain

    def event(self, record: Mapping[str, Plain]) -> tuple[str, dict[str, Plain]] | None:
        """Name ("|virt|VM_status|<id>") and params of the published event, of a plain EventRecord.

        None for an event that has no published form.
        """
        data = record["data"]
        if data["type"] != "VM_status":
            return None
        body = {name: value for name, value in data.items() if name != "type" and value not in (None, "")}
        return f"|virt|VM_status|{record['subject']}", {
            record["subject"]: body,
            "notify_time": record["notifyTime"],
        }

    def early(self, method: str) -> str:
        """How the published form of a TASK verb answers, which does not wait for the task's end.

        `TASK_ID`: with the task's id as bare text. `NOTHING`: as a verb without a result does. The method of another
        verb: with its answer, given the id of the task's object as its first argument, and put into the form of this
        method. "": it does wait, and answers with the result.
        """
        return {"VM.create": "VM.getInfo", "VM.shutdown": NOTHING}.get(method, "")


JSONRPC = Dialect("jsonrpc")
XMLRPC = Dialect("xmlrpc")
