# SPDX-License-Identifier: Apache-2.0
"""Results and problems on their way out: a table, JSON or YAML on standard output, problems on standard error."""

from __future__ import annotations

import json
import sys

from .faults import USAGE, Fault
from .text import BOLD, RED, clean, clean_json, clean_lines, look_of, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .index import Index


INVALID_PARAMS = -32602  # whose hint speaks of JSON paths


def document(value: Any, output: str) -> str:
    """A value as JSON or YAML."""
    if output == "json":
        return clean_json(json.dumps(value, indent=2, ensure_ascii=False))
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    if not all(line.isprintable() for line in text.split("\n")):
        text = yaml.safe_dump(value, sort_keys=False, allow_unicode=False)
    return text.removesuffix("\n").removesuffix("\n...")


def result(
    index: Index, shape: dict[str, Any], value: Any, output: str, *, alone: bool = False, empty: str = ""
) -> None:
    """Print the result of a verb. `empty` is said to people instead of an empty table."""
    if output != "table":
        print(document(value, output))
        return
    from .render import render

    text = render(index, shape, value, look_of(sys.stdout), alone=alone)
    if text:
        print(text)
    else:
        say(empty or "(none)")


def changed(index: Index, method: str, value: Any, output: str, subject: str) -> None:
    """Print what came of a change: for people one line that says how the object stands now."""
    verb = index["verbs"][method]
    naming = index["nouns"].get(verb["noun"])
    if output != "table" or (value is not None and not (naming and naming["name"] in value and "status" in value)):
        result(index, verb["result"], value, output, empty=verb["empty"])
    elif value is None:
        print(f"{' '.join(verb['command'])}{f' {clean(subject)}' if subject else ''}: done")
    else:
        print(f"{clean(value[naming['name']])} ({value[naming['id']]}) is {clean(value['status'])}")


def fault(error: Fault, output: str) -> None:
    """Print a problem."""
    if output != "table":
        print(document(error.body, output), file=sys.stderr, flush=True)
        return
    look, body = look_of(sys.stderr), error.body
    say(f"{look.paint('error:', RED)} {clean_lines(str(body['detail']))}")
    path, hint = body.get("path", ""), str(body.get("hint", ""))
    if error.option:
        say(f"at:    {error.option}")
    if error.option and body.get("code") == INVALID_PARAMS:
        hint = f"Correct it and try again; `vdsmsh help {error.command}` shows what it takes."
    elif path not in ("", "$") and path not in body["detail"]:
        say(f"at:    {clean(path)}")
    if hint:
        say(f"{look.paint('hint:', BOLD)}  {clean_lines(hint)}")
    if body.get("flowId") and body.get("status", 0) >= 500:
        say(f"flow:  {clean(body['flowId'])}  (the daemon's log has more under this name)")
    if error.code == USAGE and not body.get("hint"):
        say("hint:  See `vdsmsh help`.")
