# SPDX-License-Identifier: Apache-2.0
"""Types that people want to see otherwise than as a record of their fields."""

from __future__ import annotations

from . import units
from .render import COLORS, NOTHING, cell, struct_record, words
from .table import Cell, table
from .text import BOLD, DIM, GREEN, RED, YELLOW, Look, clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .index import Index
    from .render import View

MARKS = {
    "done": ("✓", "+", GREEN),
    "running": ("▸", ">", YELLOW),
    "failed": ("✗", "x", RED),
    "undone": ("↺", "<", YELLOW),
    "pending": ("·", ".", DIM),
}
NAMES = ("vmName", "diskName", "storageName")
ABOUT = ("type", "vmId", "taskId", "hash", "objectId", "diskId", "storageId", *NAMES)
USUAL = {"foreign": False, "timeOffset": 0}  # says nothing
FIRST = ("status", "state", "change", "verb")  # say most, need no name


def explanation(index: Index, value: Any, look: Look) -> str:
    """Which commands are allowed now, and for the others why not."""
    status = look.paint(clean(value["status"]), COLORS.get(value["status"], ""))
    title = f"{look.paint(clean(value['name']), BOLD)} is {status}"
    commands = {method: " ".join(verb["command"]) for method, verb in index["verbs"].items()}
    rows = []
    for allowance in sorted(value["verbs"], key=lambda a: not a["allowed"]):
        yes = allowance["allowed"]
        reasons = "; ".join(clean(p["detail"]) for p in allowance.get("problems", []))
        name = commands.get(allowance["method"], allowance["method"])
        rows.append(
            [Cell(clean(name)), Cell("yes" if yes else "no", color=GREEN if yes else RED), Cell(reasons or NOTHING)]
        )
    return f"{title}\n\n{table(['COMMAND', 'ALLOWED', 'WHY NOT'], rows, look)}"


def plan(index: Index, value: Any, look: Look) -> str:
    """The steps, and what would undo each."""
    steps = value["steps"]
    if not steps:
        return f"{clean(value['method'])} would change nothing."
    rows = [
        [
            Cell(f"{number}.", right=True),
            Cell(clean(step["title"])),
            Cell(clean(step.get("undo") or NOTHING), color=DIM),
        ]
        for number, step in enumerate(steps, 1)
    ]
    return f"{clean(value['method'])} would do this (nothing was done):\n{table(['', 'STEP', 'UNDONE BY'], rows, look)}"


def task(index: Index, value: Any, look: Look) -> str:
    """A task, and its steps below each other."""
    rest = {name: item for name, item in value.items() if name != "steps"}
    lines = [struct_record(index, "TaskRecord", rest, look)]
    lines += [f"  {step_line(step, look)}" for step in value.get("steps", [])]
    if hint := (value.get("problem") or {}).get("hint"):
        lines.append(f"hint: {clean(hint)}")
    return "\n".join(lines)


def step_line(step: Mapping[str, Any], look: Look) -> str:
    sign, plain, color = MARKS.get(step["state"], ("?", "?", ""))
    return f"{look.paint(sign if look.unicode else plain, color)} {clean(step['title'])}"


def event_page(index: Index, value: Any, look: Look) -> str:
    """Events, one a line, and what is missing."""
    lines = [gap_line(value["gap"], look)] if value.get("gap") else []
    return "\n".join([*lines, *(event_line(record, look) for record in value["events"])])


def event_line(record: Mapping[str, Any], look: Look) -> str:
    """The host if there are several, id, time, type, whom it is about, and what there is to say."""
    data = record["data"]
    subject = next((data[name] for name in NAMES if data.get(name)), record.get("subject", "")[:8])
    severity = record.get("severity", "info")
    kind = look.paint(f"{data['type']:<20}", COLORS.get(severity, ""))
    first = [look.paint(clean(str(data[n])), COLORS.get(data[n], "")) for n in FIRST if data.get(n)]
    rest = [
        f"{words(name)}: {clean(_shown(name, item))}"
        for name, item in data.items()
        if name not in ABOUT + FIRST and item not in (None, "", [], {}) and item != USUAL.get(name)
    ]
    said = ", ".join([" ".join(first), *rest] if first else rest)
    about = f"{clean(subject) or NOTHING:<12}"
    head = _host(record, look) + look.paint(str(record["id"]), DIM)
    return f"{head}  {units.moment(record['time'])}  {kind}  {about}  {said}".rstrip()


def gap_line(gap: Mapping[str, Any], look: Look) -> str:
    missing = f"-- events {gap['since'] + 1} to {gap['until']} are missing: {clean(gap['reason'])}"
    return _host(gap, look) + look.paint(missing, YELLOW)


def _host(told: Mapping[str, Any], look: Look) -> str:
    """Where events come from several hosts."""
    return look.paint(f"{clean(told['host']):<12}", BOLD) + "  " if "host" in told else ""


def _shown(name: str, item: Any) -> str:
    return f"{item:g} %" if name == "progress" else cell({}, {"k": "str"}, item).text


VIEWS: Mapping[str, View] = {
    "Explanation": explanation,
    "Plan": plan,
    "TaskRecord": task,
    "EventPage": event_page,
}
