# SPDX-License-Identifier: Apache-2.0
"""A verb, called from the command line and shown: at once, as a plan, watched, or left to itself."""

from __future__ import annotations

import re
import sys
from urllib.parse import urlencode

from vdsm.client.route import new_key

from . import names, picture, progress, show
from .faults import OK, REFUSED, STILL_RUNNING, TASK_FAILED, Fault, usage
from .options import options
from .session import answer
from .text import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .index import Index
    from .session import Session

SOON = 0.4  # seconds; a task that ends within them is not worth a progress bar


def run(session: Session, method: str, params: dict[str, Any], given: dict[str, Any]) -> int:
    """Call a verb and show what comes of it; returns the exit code. Raises Fault."""
    try:
        return _run(session, method, params, given)
    except Fault as fault:
        fault.option = option_at(session.index, method, str(fault.body.get("path", "")))
        fault.command = " ".join(session.index["verbs"][method]["command"])
        raise


def option_at(index: Index, method: str, path: str) -> str:
    """The option that a JSON path of the verb's parameters belongs to; empty if none does."""
    where = re.sub(r"\[[^]]*\]", "", path.removeprefix("$."))
    for option in options(index, index["verbs"][method]):
        if where == option.key or where.startswith(f"{option.key}."):
            return option.metavar if option.from_path else option.flags[0]
    return ""


def _run(session: Session, method: str, params: dict[str, Any], given: dict[str, Any]) -> int:
    verb = session.index["verbs"][method]
    given = {**session.common, **given}
    subject = next((str(params[p["name"]]) for p in verb["params"] if p.get("ref") and "at" in p), "")
    names.resolve_all(session, method, params, given)
    if verb["kind"] == "stream":
        from .console import attach

        return attach(session, method, params, given, subject)
    if verb["kind"] == "task" and not given.get("plan"):
        return _task(session, method, params, given, subject)
    value = answer(session.send(method, params, given, key=given.get("idempotency_key", ""), query=_query(given)))
    if given.get("plan"):
        show.result(session.index, {"k": "struct", "name": "Plan"}, value, given.get("output", "table"))
    elif verb["kind"] == "action" or verb["result"]["k"] == "none":
        show.changed(session.index, method, value, given.get("output", "table"), subject)
    elif verb["result"].get("name") == "Screenshot" and given.get("output", "table") == "table":
        picture.save(value, given.get("save"))
    else:
        alone = any("at" in p for p in verb["params"])
        empty = "" if given.get("where") else verb["empty"]
        show.result(session.index, verb["result"], value, given.get("output", "table"), alone=alone, empty=empty)
    return OK


def _task(session: Session, method: str, params: dict[str, Any], given: dict[str, Any], subject: str) -> int:
    key = given.get("idempotency_key") or new_key()
    wait = 0.0 if given.get("no_wait") else given.get("wait")
    watched = wait is None and sys.stderr.isatty()
    try:
        reply = session.send(method, params, given, key=key, wait=SOON if watched else wait)
        value = answer(reply)
        if reply.status == 202 and watched:
            ended = progress.follow(session, value, given)
            if ended["state"] not in progress.GOOD:
                raise progress.failure(ended)
            # The same call with the same key: nothing is done again, and the first call's result is the answer.
            reply = session.send(method, params, given, key=key)
            value = answer(reply)
    except Fault as fault:
        raise _of_task(session, given, fault) from None
    except progress.Left:
        raise
    except KeyboardInterrupt:
        say("left; if it was begun it goes on: see `vdsmsh task list`")
        raise
    if reply.status != 202:
        show.changed(session.index, method, value, given.get("output", "table"), subject)
        return OK
    if given.get("output", "table") == "table":
        say(progress.goes_on(value))
        print(value["id"])
    else:
        show.result(session.index, {"k": "struct", "name": "TaskRecord"}, value, given["output"])
    return OK if given.get("no_wait") else STILL_RUNNING


def _of_task(session: Session, given: dict[str, Any], fault: Fault) -> Fault:
    """Tells a task that failed from a call that was refused before one was begun: by the flow both belong to."""
    flow = fault.body.get("flowId")
    if fault.code != REFUSED or not flow:
        return fault
    try:
        begun = answer(session.send("Task.list", {}, _quiet(given), query=f"flowId={flow}&fields=id"))
    except Fault:
        return fault
    return Fault(TASK_FAILED, fault.body) if begun else fault


def _quiet(given: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in given.items() if k not in ("plan", "timeout")}


def _query(given: dict[str, Any]) -> str:
    pairs = [("fields", given["fields"])] if given.get("fields") else []
    for text in given.get("where", []):
        field, mark, value = text.partition("=")
        if not mark:
            raise usage(f"--where: expected FIELD=VALUE, got {text!r}")
        pairs.append((field, value))
    return urlencode(pairs)
