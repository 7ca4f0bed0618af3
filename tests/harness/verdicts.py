# SPDX-License-Identifier: Apache-2.0
"""What the call sheet came to on each door, beside the same calls in the daemon itself: the table of both."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from .sheet import SHEET

EVENTS = "(events)"
EQUAL, DIFFERS, NOT_RUN = "equal", "DIFFERS", "-"


class Verdicts:
    """Filled by the tests of tests/conformance; pytest prints it at its end."""

    def __init__(self) -> None:
        self.cells: dict[str, dict[str, str]] = {}
        """By row, then by door."""

    def compare(self, door: str, here: Sequence[Any], there: Sequence[Any]) -> None:
        """Note which verbs gave the same there. Raises AssertionError at the first line that did not."""
        pairs = [(line, _text(one), _text(two)) for line, one, two in zip(SHEET, here, there, strict=True)]
        for line, one, two in pairs:
            self._note(line.method, door, equal=one == two)
        for line, one, two in pairs:
            assert one == two, line  # as text, of which pytest shows the place that differs

    def compare_events(self, door: str, here: Sequence[Any], there: Sequence[Any]) -> None:
        """The same for the events that came meanwhile."""
        self._note(EVENTS, door, equal=_text(here) == _text(there))
        assert here == there

    def add(self, cells: dict[str, dict[str, str]]) -> None:
        """What another process found, over other doors."""
        for row, others in cells.items():
            self.cells.setdefault(row, {}).update(others)

    def _note(self, row: str, door: str, *, equal: bool) -> None:
        cells = self.cells.setdefault(row, {})
        cells[door] = EQUAL if equal and cells.get(door) != DIFFERS else DIFFERS

    def doors(self) -> list[str]:
        return list(dict.fromkeys(door for cells in self.cells.values() for door in cells))

    def summary(self) -> str:
        different = [(row, door) for row, cells in self.cells.items() for door in cells if cells[door] != EQUAL]
        verbs, doors = len(self.cells.keys() - {EVENTS}), ", ".join(self.doors())
        verdict = f"{len(different)} DIFFER: {different}" if different else "all equal"
        return f"{verbs} verbs, {len(SHEET)} calls, as in the daemon itself and over {doors}: {verdict}"

    def lines(self) -> Iterator[str]:
        """The table, then the summary."""
        doors = self.doors()
        width = max(map(len, self.cells), default=0)
        yield "".join([f"{'':{width}}", *(f"  {door:>8}" for door in doors)])
        for row in sorted(self.cells, key=lambda row: (row == EVENTS, row)):
            cells = self.cells[row]
            yield "".join([f"{row:{width}}", *(f"  {cells.get(door, NOT_RUN):>8}" for door in doors)])
        yield self.summary()


def _text(outcome: Any) -> str:
    return json.dumps(outcome)
