# SPDX-License-Identifier: Apache-2.0
"""Predicates on values: prefix lists such as ["and", ["exists", "a"], ["lt", "b", ["quote", 5]]]."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

MAX_DEPTH = 16
MAX_PARTS = 256  # lists and operands of one predicate

# Python's matcher backtracks: a pattern such as (a+)+ from the wire would stop the daemon for hours. With no groups
# and two repetitions at most, matched from the start, its time grows with the square of a text that is kept short.
_EXPRESSION_TOKEN = re.compile(
    r"(?P<repeat>[*+?]\??)|\\[^0-9]|\[\^?(?:[^\]\\\[&~|-]|-(?!-))+\]|[^\\\[\]()*+?{}]", re.DOTALL
)
_MAX_REPEATS = 2
_MAX_TEXT = 512  # characters

Test = Callable[[Mapping[str, object]], bool]
_Operand = Callable[[Mapping[str, object]], object]
_ABSENT = object()


class PredicateError(ValueError):
    """A list that is no predicate, or one of more than we are willing to evaluate."""


class Predicate:
    """Read once, asked often. An empty one holds for everything."""

    __slots__ = ("_test", "source")

    def __init__(self, source: Sequence[object] = ()) -> None:
        """Raises PredicateError."""
        self.source = list(source)
        self._test = _Reader().read(self.source) if self.source else None

    def __bool__(self) -> bool:
        """Whether it can be false at all."""
        return self._test is not None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Predicate) and self.source == other.source

    def __repr__(self) -> str:
        return f"Predicate({self.source!r})"

    def holds(self, values: Mapping[str, object]) -> bool:
        """A comparison with a value that is not there is false."""
        return self._test is None or self._test(values)


EVERYTHING = Predicate()


def equal(name: str, value: object) -> list[object]:
    """The list that says so."""
    return ["eq", name, ["quote", value]]


class _Reader:
    """Counts what it reads: a predicate comes from the wire, and is evaluated for each object."""

    def __init__(self) -> None:
        self._parts = 0

    def read(self, source: object, depth: int = 0) -> Test:
        if not isinstance(source, list | tuple) or not source or not isinstance(source[0], str):
            raise PredicateError(f"a predicate is a list that begins with a word, not {source!r:.80}")
        self._count(depth)
        word, *rest = source
        if word in _LOGIC:
            parts = [self.read(part, depth + 1) for part in rest]
            return _LOGIC[word](parts)
        if word in ("true", "false"):
            _expect(word, rest, 0)
            return _constant(word == "true")
        if word == "exists":
            _expect(word, rest, 1)
            one = self._operand(rest[0], depth + 1)
            return lambda values: one(values) is not _ABSENT
        if word == "re_match":
            return self._expression(rest, depth)
        if word not in _COMPARISONS:
            raise PredicateError(f"there is no predicate {word[:32]!r}")
        _expect(word, rest, 2)
        return _comparison(_COMPARISONS[word], *(self._operand(part, depth + 1) for part in rest))

    def _expression(self, rest: list[object], depth: int) -> Test:
        """The pattern is read with the predicate, so it must be a literal."""
        _expect("re_match", rest, 2)
        subject = self._operand(rest[0], depth + 1)
        text = rest[1] if isinstance(rest[1], str) else self._operand(rest[1], depth + 1)({})
        expression = _compile(_text(text))

        def test(values: Mapping[str, object]) -> bool:
            value = subject(values)
            return value is not _ABSENT and expression.match(_text(value)[:_MAX_TEXT]) is not None

        return test

    def _operand(self, source: object, depth: int) -> _Operand:
        self._count(depth)
        if isinstance(source, str):
            return lambda values: values.get(source, _ABSENT)
        literal = source
        if isinstance(source, list | tuple):
            if len(source) != 2 or source[0] != "quote":
                raise PredicateError(f'an operand is a name, or ["quote", value], not {source!r:.80}')
            literal = source[1]
        return lambda values: literal

    def _count(self, depth: int) -> None:
        self._parts += 1
        if depth > MAX_DEPTH or self._parts > MAX_PARTS:
            raise PredicateError(f"a predicate has at most {MAX_PARTS} parts, nested {MAX_DEPTH} deep; ask for less")


def _expect(word: str, rest: Sequence[object], count: int) -> None:
    if len(rest) != count:
        raise PredicateError(f"{word!r} takes {count} operands, not {len(rest)}")


def _compile(pattern: str) -> re.Pattern[str]:
    repeats, at = 0, 0
    while at < len(pattern):
        token = _EXPRESSION_TOKEN.match(pattern, at)
        if token is None or len(pattern) > _MAX_TEXT:
            raise PredicateError(f"re_match takes no groups, counts or references in a pattern, as in {pattern!r:.80}")
        repeats += token["repeat"] is not None
        at = token.end()
    if repeats > _MAX_REPEATS:
        raise PredicateError(f"re_match takes at most {_MAX_REPEATS} repetitions in a pattern")
    try:
        return re.compile(pattern)
    except re.error as error:
        raise PredicateError(f"re_match cannot read the pattern {pattern!r:.80}: {error}") from error


def _constant(value: bool) -> Test:
    return lambda values: value


def _all(parts: list[Test]) -> Test:
    return lambda values: all(part(values) for part in parts)


def _any(parts: list[Test]) -> Test:
    return lambda values: any(part(values) for part in parts)


def _none(parts: list[Test]) -> Test:
    return lambda values: not any(part(values) for part in parts)


def _comparison(compare: Callable[[object, object], bool], left: _Operand, right: _Operand) -> Test:
    def test(values: Mapping[str, object]) -> bool:
        a, b = left(values), right(values)
        return a is not _ABSENT and b is not _ABSENT and compare(a, b)

    return test


def _equal(a: object, b: object) -> bool:
    """Numbers as numbers; otherwise as text, as the C++ agents compare."""
    if _is_number(a) and _is_number(b):
        return a == b
    if isinstance(a, list | dict) or isinstance(b, list | dict):
        return a == b
    return _text(a) == _text(b)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[object, object], bool]:
    def test(a: object, b: object) -> bool:
        if isinstance(a, list | dict) or isinstance(b, list | dict):
            return False
        if _is_number(a) and _is_number(b):
            return compare(a, b)
        return compare(_text(a), _text(b))

    return test


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value) if isinstance(value, str | int | float | UUID) else repr(value)


_LOGIC = {"and": _all, "or": _any, "not": _none}
_COMPARISONS = {
    "eq": _equal,
    "ne": lambda a, b: not _equal(a, b),
    "lt": _ordered(operator.lt),
    "le": _ordered(operator.le),
    "gt": _ordered(operator.gt),
    "ge": _ordered(operator.ge),
}
