# SPDX-License-Identifier: Apache-2.0
"""One command line, from its words to its exit code."""

from __future__ import annotations

import os
import sys

import vdsm

from . import calls, index, progress, show
from .faults import INTERRUPTED, OK, PIPE_CLOSED, Fault, usage
from .parse import HELP, Parser, add_common, find_verb, parse_verb, take_common
from .session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """What `vdsmsh` does with these arguments; returns the exit code."""
    if argv[:1] == ["--version"]:
        print(f"vdsmsh {vdsm.__version__}")
        return OK
    output = "table"
    try:
        common, words = take_common(argv)
        output = common.get("output", output)
        session = Session(index.load(), common)
        try:
            if not words:
                from .repl import interact, run_lines

                return interact(session) if sys.stdin.isatty() else run_lines(session, sys.stdin)
            return guarded(session, words)
        finally:
            session.close()
    except Fault as fault:
        show.fault(fault, output)
        return fault.code
    except KeyboardInterrupt:
        return INTERRUPTED


def guarded(session: Session, words: Sequence[str]) -> int:
    """Run a command; what goes wrong is told to the person, not raised."""
    try:
        code = dispatch(session, words)
        sys.stdout.flush()
        return code
    except Fault as fault:
        show.fault(fault, asked_output(session, words))
        return fault.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever reads our output has enough. Python would complain about it once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED


def dispatch(session: Session, words: Sequence[str]) -> int:
    """Raises Fault."""
    if any(word in HELP for word in _before_dashes(words)):
        words = ["help", *(w for w in words if not w.startswith("-"))]
    match list(words):
        case ["help", *rest]:
            from .help import command_help, main_help

            print(command_help(session.index, _command_of(session, rest)) if rest else main_help(session.index))
            return OK
        case ["events", *rest]:
            from .events import run as run_events

            return run_events(session, rest)
        case ["host", "list", *rest]:
            from .hosts import run as run_hosts

            return run_hosts(session, rest)
        case ["task", "watch", *rest]:
            return _watch(session, rest)
        case ["disk", "upload" | "download" as way, *rest]:
            from .disks import download, upload

            return (upload if way == "upload" else download)(session, rest)
        case ["call", *rest]:
            from .direct import run as run_direct

            return run_direct(session, rest)
        case ["completion", *rest]:
            from .completion import script

            print(script(rest))
            return OK
        case ["__complete", *rest]:
            from .completion import answer_shell

            return answer_shell(session, rest)
    return _verb(session, words)


def asked_output(session: Session, words: Sequence[str]) -> str:
    """The form in which the person wants answers, also to a command line that could not be read."""
    for at, word in enumerate(words):
        name, mark, value = word.partition("=")
        if name == "--output":
            chosen = value if mark else next(iter(words[at + 1 : at + 2]), "")
            return chosen if chosen in ("json", "yaml") else "table"
    return str(session.common.get("output", "table"))


def _verb(session: Session, words: Sequence[str]) -> int:
    method, rest = find_verb(session.index, words)
    if not method:
        from .help import command_help, unknown

        if len(words) == 1 and any(v["command"][0] == words[0] for v in session.index["verbs"].values()):
            raise usage(f"{words[0]} what?\n{command_help(session.index, words)}", f"See `vdsmsh help {words[0]}`.")
        raise unknown(session.index, words)
    params, given = parse_verb(session.index, method, rest)
    return calls.run(session, method, params, given)


def _watch(session: Session, words: Sequence[str]) -> int:
    from .names import resolve
    from .options import COMMON

    parser = Parser("vdsmsh task watch")
    parser.add_argument("task", metavar="TASK")
    add_common(parser, COMMON)
    given = parser.read(words)
    task = session.ask("Task.get", {"taskID": resolve(session, "task", given["task"], given)}, given)
    task = progress.follow(session, task, given)
    show.result(session.index, {"k": "struct", "name": "TaskRecord"}, task, session.output(given))
    return OK if task["state"] in progress.GOOD else progress.failure(task).code


def _before_dashes(words: Sequence[str]) -> Sequence[str]:
    return words[: words.index("--")] if "--" in words else words


def _command_of(session: Session, words: Sequence[str]) -> Sequence[str]:
    """The words that are the command's: `help vm pause web1` is about `vm pause`."""
    method, rest = find_verb(session.index, words)
    return words[: len(words) - len(rest)] if method else words
