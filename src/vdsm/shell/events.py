# SPDX-License-Identifier: Apache-2.0
"""`vdsmsh events`: what happened, and what happens."""

from __future__ import annotations

import json
import sys

from . import names
from .faults import OK, did_you_mean, usage
from .options import COMMON
from .parse import Parser, add_common
from .show import document
from .text import clean_json, look_of, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from .session import Session

PAGE = 1000
SEVERITIES = ("info", "warning", "error")


def parser() -> Parser:
    made = Parser("vdsmsh events")
    made.add_argument("--follow", "-f", action="store_true", help="go on with what happens, until Ctrl-C")
    made.add_argument(
        "--since", type=int, metavar="ID", help="after this event; 0: the oldest kept (the default without --follow)"
    )
    made.add_argument(
        "--type", action="append", default=[], metavar="TYPE", help="only events of this type; may be repeated"
    )
    made.add_argument(
        "--vm", action="append", default=[], metavar="VM", help="only events of this machine; may be repeated"
    )
    made.add_argument(
        "--task", action="append", default=[], metavar="TASK", help="only events of this task; may be repeated"
    )
    made.add_argument(
        "--severity", action="append", default=[], choices=SEVERITIES, help="only events this grave; may be repeated"
    )
    add_common(made, COMMON)
    return made


def run(session: Session, words: Sequence[str]) -> int:
    """Show events; returns the exit code. Raises Fault."""
    given = parser().read(words)
    wanted = filters(session, given)
    output = session.output(given)
    since, follow = given["since"], given["follow"]
    if since is not None and since < 0:
        raise usage("--since: expected 0 or more")
    if since and session.door(given).hosts():
        raise usage(
            "--since: each host numbers its own events", "Name one with --host, or say --since 0 for all there are."
        )
    if not follow and output != "table":
        found = history(session, given, wanted, since or 0)
        print(document([{"gap": item} if kind == "gap" else item for kind, item in found], output))
        return OK
    if not follow:
        for kind, record in history(session, given, wanted, since or 0):
            print(line(kind, record, output))
        return OK
    try:
        for kind, record in live(session, given, wanted, since):
            print(line(kind, record, output), flush=True)
    except KeyboardInterrupt:
        pass  # that is how it ends
    return OK


def filters(session: Session, given: dict[str, Any]) -> list[tuple[str, str]]:
    """The query that chooses. Raises Fault."""
    known = session.index["events"]
    for name in given["type"]:
        if name not in known:
            raise usage(
                f"there is no event type {name!r}", did_you_mean(name, known) or f"There are {', '.join(known)}."
            )
    wanted = [("types", name) for name in given["type"]]
    for noun in ("vm", "task"):
        wanted += [("subjects", names.resolve(session, noun, text, given)) for text in given[noun]]
    return wanted + [("severities", severity) for severity in given["severity"]]


def history(
    session: Session, given: dict[str, Any], wanted: list[tuple[str, str]], since: int
) -> Iterator[tuple[str, Any]]:
    """What the journal has after `since`, up to now; of several hosts, by time."""
    if not (hosts := session.door(given).hosts()):
        yield from _of_host(session, given, wanted, since)
        return
    found = [
        (kind, {"host": host, **record})
        for host in hosts
        for kind, record in _of_host(session, {**given, "host": host}, wanted, since)
    ]
    yield from sorted(found, key=lambda told: float(told[1].get("time", 0.0)))  # what is missing came first


def _of_host(
    session: Session, given: dict[str, Any], wanted: list[tuple[str, str]], since: int
) -> Iterator[tuple[str, Any]]:
    lists: dict[str, Any] = {}
    for name, text in wanted:
        lists.setdefault(name, []).append(text)
    while True:
        page = session.ask("Event.list", {"since": since, "limit": PAGE, **lists}, given)
        if page.get("gap"):
            yield "gap", page["gap"]
        for record in page["events"]:
            yield "event", record
        if not page["events"] or page["last"] == since:
            return
        since = page["last"]


def live(
    session: Session, given: dict[str, Any], wanted: list[tuple[str, str]], since: int | None
) -> Iterator[tuple[str, Any]]:
    """What happens, for ever. Raises Fault."""

    def cut(reason: str) -> None:
        say(f"-- {reason}")

    for message in session.door(given).follow(since, wanted, cut):
        yield ("gap" if message.event == "gap" else "event"), json.loads(message.data)


def line(kind: str, record: Any, output: str) -> str:
    """An event, or a gap between events, on one line; in YAML as a document."""
    if output == "json":
        return clean_json(json.dumps({"gap": record} if kind == "gap" else record, ensure_ascii=False))
    if output == "yaml":
        return f"---\n{document({'gap': record} if kind == 'gap' else record, output)}"
    from .views import event_line, gap_line

    look = look_of(sys.stdout)
    return gap_line(record, look) if kind == "gap" else event_line(record, look)
