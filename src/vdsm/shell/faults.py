# SPDX-License-Identifier: Apache-2.0
"""How a command ends when it does not end well."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OK, REFUSED, USAGE, UNREACHABLE, TASK_FAILED, STILL_RUNNING = 0, 1, 2, 3, 4, 5
INTERRUPTED, PIPE_CLOSED = 130, 141

MEANINGS = {
    OK: "done",
    REFUSED: "the daemon refused the call, or the object does not exist",
    USAGE: "the command line is wrong; nothing was sent",
    UNREACHABLE: "the daemon cannot be reached",
    TASK_FAILED: "the task was begun and failed, or was stopped; what it had done was undone",
    STILL_RUNNING: "--wait is over and the task goes on",
    INTERRUPTED: "interrupted with Ctrl-C",
}

WHICH_PEM = "These are PEM files; the private key is in the one that --key names, if it is not in that of --cert."


class Fault(Exception):
    """Ends the command. `body` is the problem as data: at least `detail`."""

    def __init__(self, code: int, body: dict[str, Any]) -> None:
        super().__init__(str(body.get("detail", "")))
        self.code = code
        self.body = body
        self.option = ""  # that the problem's path belongs to
        self.command = ""


def usage(detail: str, hint: str = "") -> Fault:
    return _own(USAGE, "usage", detail, hint)


def missing(detail: str, hint: str = "") -> Fault:
    """A name that names nothing, or too much."""
    return _own(REFUSED, "no-such-object", detail, hint)


def unreachable(where: str, reason: str) -> Fault:
    if "ermission denied" in reason:
        hint = "You may not use that socket: ask an administrator to let your user in ([access] in the configuration)."
    elif where.startswith("/"):
        hint = "Start the daemon: `systemctl start vdsmd`, or `vdsmd` by hand; another socket is named by --socket."
    elif "PEM" in reason:
        hint = WHICH_PEM
    elif "certificate" in reason.lower() or "ssl" in reason.lower():
        hint = "Name the file of the authority that signed the daemon's certificate with --ca, and yours with --cert."
    else:
        hint = "Check the address, and that the daemon there listens on it ([rest] listen in its configuration)."
    return _own(UNREACHABLE, "unreachable", f"cannot reach the daemon at {where}: {reason}", hint)


def silent(where: str, seconds: float) -> Fault:
    detail = f"the daemon at {where} did not answer within {seconds:g} s"
    return _own(UNREACHABLE, "silent", detail, "Look at its log; or give it more time with --timeout.")


def refused(status: int, body: bytes) -> Fault:
    """From an answer that says no."""
    try:
        problem = json.loads(body)
        problem["detail"]
    except (ValueError, TypeError, KeyError):
        detail = f"the answer has status {status} and is none of vdsm's: is this address a vdsm daemon's?"
        return _own(REFUSED, "bad-answer", detail, "")
    return Fault(REFUSED, problem)


def _own(code: int, slug: str, detail: str, hint: str) -> Fault:
    body = {"type": f"urn:vdsm:shell:{slug}", "detail": detail}
    return Fault(code, body | {"hint": hint} if hint else body)


def did_you_mean(word: str, known: list[str]) -> str:
    """The known word that is nearest, as a hint; empty if none is near."""
    import difflib

    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f"Did you mean `{by_lower[near[0]]}`?" if near else ""
