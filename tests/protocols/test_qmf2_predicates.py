# SPDX-License-Identifier: Apache-2.0
"""Predicates from the wire: they mean what they say, and none of them takes long."""

from __future__ import annotations

import time
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdsm.protocols.qmf2.predicates import EVERYTHING, Predicate, PredicateError, equal

VALUES = {
    "name": "vm-web-7", "memory": 2048, "load": 0.5, "up": True, "id": UUID(int=7), "tags": ["a"], "none": None,
    "word": "10", "raw": b"abc",
}  # fmt: skip


@pytest.mark.parametrize(
    ("source", "holds"),
    [
        ([], True),
        (["true"], True),
        (["false"], False),
        (["eq", "name", ["quote", "vm-web-7"]], True),
        (["eq", ["quote", "vm-web-7"], "name"], True),
        (["eq", "name", "name"], True),
        (["ne", "name", ["quote", "vm-web-7"]], False),
        (["ne", "name", ["quote", "other"]], True),
        (["eq", "missing", ["quote", 1]], False),
        (["ne", "missing", ["quote", 1]], False),
        (["eq", "missing", "missing"], False),
        (["exists", "memory"], True),
        (["exists", "none"], True),
        (["exists", "missing"], False),
        (["lt", "memory", ["quote", 4096]], True),
        (["lt", "memory", 4096], True),
        (["gt", "memory", ["quote", 4096]], False),
        (["le", "memory", 2048], True),
        (["ge", "memory", 2048.5], False),
        (["lt", "word", ["quote", "9"]], True),  # texts, so by their letters
        (["lt", "word", 9], True),
        (["eq", "word", ["quote", 10]], True),
        (["eq", "up", ["quote", True]], True),
        (["eq", "up", ["quote", "True"]], True),
        (["eq", "id", ["quote", UUID(int=7)]], True),
        (["eq", "id", ["quote", "00000000-0000-0000-0000-000000000007"]], True),
        (["eq", "tags", ["quote", ["a"]]], True),
        (["lt", "tags", ["quote", ["b"]]], False),
        (["eq", "raw", ["quote", "abc"]], True),
        (["and"], True),
        (["or"], False),
        (["not", ["false"]], True),
        (["not", ["false"], ["true"]], False),
        (["and", ["true"], ["exists", "name"], ["or", ["false"], ["lt", "load", 1]]], True),
        (["re_match", "name", ["quote", "vm-.*-[0-9]+$"]], True),
        (["re_match", "name", ["quote", "web"]], False),
        (["re_match", "name", "vm"], True),
        (["re_match", "memory", ["quote", "20"]], True),
        (["re_match", "missing", ["quote", ".*"]], False),
    ],
)
def test_meaning(source: list[object], holds: bool) -> None:
    assert Predicate(source).holds(VALUES) is holds


@pytest.mark.parametrize(
    "source",
    [
        ["eq"], ["eq", "a"], ["eq", "a", "b", "c"], ["like", "a", "b"], [1, 2], [["true"]], ["and", "a"], ["not", 1],
        ["eq", "a", ["quote"]], ["eq", "a", ["b", "c"]], ["exists"], ["true", "a"], ["and", []],
        ["re_match", "a"], ["re_match", "a", ["quote", "("]], ["re_match", "a", ["quote", "(a+)+"]],
        ["re_match", "a", ["quote", r"(.)\1"]], ["re_match", "a", ["quote", "a*b*c*d*"]],
        ["re_match", "a", ["quote", "a{9999}"]], ["re_match", "a", ["quote", "x" * 2000]],
        ["re_match", "a", ["quote", "[[a]"]], ["re_match", "a", ["quote", r"\p"]],
    ],
)  # fmt: skip
def test_what_is_no_predicate(source: list[object]) -> None:
    with pytest.raises(PredicateError):
        Predicate(source)


def test_large_and_deep_ones_are_refused_at_once() -> None:
    deep: list[object] = ["true"]
    for _ in range(5000):
        deep = ["not", deep]
    wide = ["or", *([["true"]] * 5000)]
    for source in (deep, wide, ["eq", "a", [["quote"]] * 5000]):
        with pytest.raises(PredicateError):
            Predicate(source)


def test_no_expression_takes_long() -> None:
    """The longest text, and patterns that a backtracking matcher likes least of those that are taken."""
    values = {"a": "a" * 100_000}
    for pattern in (".*.*b", "a*a*b", "[a-z]*[a-z]+9", "a?a*" + "a" * 400 + "b"):
        predicate = Predicate(["re_match", "a", ["quote", pattern]])
        began = time.perf_counter()
        assert not predicate.holds(values)
        assert time.perf_counter() - began < 0.25


words = st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge", "exists", "re_match", "and", "or", "not", "true", "quote"])
anything = st.recursive(
    words | st.text(max_size=4) | st.integers() | st.none() | st.binary(max_size=3) | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.builds(lambda word, rest: [word, *rest], words, st.lists(inner)),
    max_leaves=20,
)


@given(st.lists(anything, max_size=5))
def test_any_list_is_a_predicate_or_refused(source: list[object]) -> None:
    try:
        predicate = Predicate(source)
    except PredicateError:
        return
    assert predicate.holds(VALUES) in (True, False)
    if source:
        assert Predicate(["not", source]).holds(VALUES) is not predicate.holds(VALUES)


@given(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=3))
def test_equal_says_that_a_value_is_so(values: dict[str, object]) -> None:
    assert EVERYTHING.holds(values)
    for name, value in values.items():
        assert Predicate(equal(name, value)).holds(values)
