# SPDX-License-Identifier: Apache-2.0
"""The table tells a verb that differs from those that do not."""

from __future__ import annotations

import pytest

from harness.sheet import SHEET
from harness.verdicts import Verdicts


def outcomes(different: int = -1) -> list[object]:
    return [(line.method, {"result": number == different}) for number, line in enumerate(SHEET)]


def test_all_equal() -> None:
    made = Verdicts()
    for door in ("rest", "jsonrpc"):
        made.compare(door, outcomes(), outcomes())
    made.compare_events("jsonrpc", ["a"], ["a"])
    *rows, summary = made.lines()
    assert rows[0].split() == ["rest", "jsonrpc"]
    assert rows[-1].split() == ["(events)", "-", "equal"]
    assert len(rows) == len({line.method for line in SHEET}) + 2
    assert summary.endswith("over rest, jsonrpc: all equal")


def test_one_call_of_several_makes_its_verb_differ() -> None:
    made = Verdicts()
    first, *_, last = (number for number, line in enumerate(SHEET) if line.method == "VM.create")
    with pytest.raises(AssertionError, match=r"VM\.create"):
        made.compare("rest", outcomes(), outcomes(first))
    made.compare("shell", outcomes(last), outcomes(last))
    with pytest.raises(AssertionError):
        made.compare_events("shell", ["a"], [])
    rows = {row.split()[0]: row.split()[1:] for row in list(made.lines())[1:-1]}
    assert rows["VM.create"] == ["DIFFERS", "equal"]
    assert rows["VM.destroy"] == ["equal", "equal"]
    assert "2 DIFFER" in made.summary()
