# SPDX-License-Identifier: Apache-2.0
"""A task, followed to its end, with a bar for whoever watches."""

from __future__ import annotations

import sys
import time

from . import units
from .faults import TASK_FAILED, UNREACHABLE, Fault
from .text import DIM, Look, cells, clean, cut, look_of, say
from .views import step_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .session import Session

ENDED = ("done", "failed", "aborted", "reverted", "broken")
GOOD = ("done", "reverted")
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
AWAY_SECONDS = 60.0  # a daemon that restarts takes its tasks up again: so long we wait for it
BAR = 24


class Left(KeyboardInterrupt):
    """Whoever watched has left; the task goes on."""


def follow(session: Session, task: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Watch until the task has ended; returns how it then stands. Raises Fault, Left."""
    drawing = Drawing(look_of(sys.stderr), sys.stderr.isatty())
    pause, away_since = FIRST_PAUSE, 0.0
    try:
        while task["state"] not in ENDED:
            drawing.update(task)
            time.sleep(pause)
            pause = min(pause * 1.3, LONGEST_PAUSE)
            try:
                task = session.ask("Task.get", {"taskID": task["id"]}, _connection(given))
                away_since = 0.0
            except Fault as fault:
                away_since = away_since or time.monotonic()
                away = fault.code == UNREACHABLE or fault.body.get("retryable")
                if not away or time.monotonic() - away_since > AWAY_SECONDS:
                    raise
                drawing.note("the daemon does not answer; waiting for it")
        drawing.update(task)
    except KeyboardInterrupt:
        drawing.end()
        say(goes_on(task))
        raise Left from None
    finally:
        drawing.end()
    return task


def goes_on(task: Mapping[str, Any]) -> str:
    """How to come back to a task."""
    short = task["id"][:8]
    return f"task {task['id']} goes on; watch it: `vdsmsh task watch {short}`, stop it: `vdsmsh task stop {short}`"


def failure(task: Mapping[str, Any]) -> Fault:
    """Why a task that has ended badly did."""
    problem = dict(task.get("problem") or {"detail": f"task {task['id']} is {task['state']}"})
    if task["state"] == "broken":
        problem["detail"] = f"{problem['detail']} (not all that task {task['id']} had done could be undone)"
    return Fault(TASK_FAILED, problem)


def _connection(given: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in given.items() if k not in ("plan", "timeout")}


class Drawing:
    """One line on the terminal that changes in place; steps that are done stay above it."""

    def __init__(self, look: Look, terminal: bool) -> None:
        self._look = look
        self._on = terminal and look.width is not None
        self._said: set[int] = set()
        self._begun = time.monotonic()
        self._open = False

    def update(self, task: Mapping[str, Any]) -> None:
        if not self._on:
            return
        for number, step in enumerate(task["steps"]):
            if step["state"] not in ("pending", "running") and number not in self._said:
                self._said.add(number)
                self._clear()
                say(f"  {step_line(step, self._look)}")
        if task["state"] in ENDED:
            return
        running = next((s["title"] for s in task["steps"] if s["state"] == "running"), "")
        state = "" if task["state"] == "running" else f"{task['state']}: "
        self.note(f"{self.bar(task['progress'])} {task['progress']:3.0f} %  {state}{running}")

    def note(self, text: str) -> None:
        """What stands on the line now."""
        if not self._on:
            return
        width = self._look.width or 80
        spent = units.duration(int(time.monotonic() - self._begun))
        line = cut(clean(text), width - len(spent) - 4)
        rest = " " * max(0, width - 1 - cells(line) - 2 - len(spent))
        sys.stderr.write(f"\r{line}  {self._look.paint(spent, DIM)}{rest}")
        sys.stderr.flush()
        self._open = True

    def end(self) -> None:
        self._clear()

    def bar(self, percent: float) -> str:
        full = round(BAR * min(max(percent, 0), 100) / 100)
        on, off = ("█", "░") if self._look.unicode else ("#", ".")
        return on * full + off * (BAR - full)

    def _clear(self) -> None:
        if self._open:
            sys.stderr.write("\r" + " " * ((self._look.width or 80) - 1) + "\r")
            sys.stderr.flush()
            self._open = False
