# SPDX-License-Identifier: Apache-2.0
"""Which object a name, an id or the beginning of either means."""

from __future__ import annotations

import pytest

from vdsm.shell.names import is_uuid, pick

A, B, C = (f"{d * 8}-0000-4000-8000-000000000000" for d in "abc")
OBJECTS = [
    (A, "web1"),
    (B, "web10"),
    (C, "db"),
    ("dddddddd-0000-4000-8000-000000000000", "db2"),
    (B.replace("b", "e"), ""),
]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        (A, [A]),
        ("web1", [A]),  # a whole name, though it begins another
        ("web10", [B]),
        ("web", [A, B]),
        ("db", [C]),
        ("aaaa", [A]),
        ("d", [C, "dddddddd-0000-4000-8000-000000000000"]),
        ("none", []),
        ("", []),
    ],
)
def test_what_a_text_means(text: str, ids: list[str]) -> None:
    assert [key for key, _ in pick(OBJECTS, text)] == ids


def test_two_of_one_name_are_both_meant() -> None:
    assert len(pick([(A, "x"), (B, "x"), (C, "xy")], "x")) == 2


@pytest.mark.parametrize(
    ("text", "yes"), [(A, True), (A.upper(), False), (A[:-1], False), ("g" + A[1:], False), ("", False)]
)
def test_ids(text: str, yes: bool) -> None:
    assert is_uuid(text) is yes
