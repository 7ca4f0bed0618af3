# SPDX-License-Identifier: Apache-2.0
"""Validation errors in words: a pattern is told by the description that stands beside it in the contract."""

from __future__ import annotations

import functools
import re
import typing
from collections.abc import Iterator, Mapping

import msgspec


def in_words(text: str) -> str:
    """msgspec's message with a regular expression replaced by what it means."""
    found = re.match(r"Expected `str` matching regex '(.*)'(?= - at |$)", text)
    if found is None:
        return text
    pattern = found[1].replace("\\\\", "\\")
    words = _descriptions().get(pattern)
    return text if words is None else f"Expected {words[0].lower()}{words[1:].rstrip('.')}{text[found.end() :]}"


@functools.cache
def _descriptions() -> Mapping[str, str]:
    from ._verb import VERBS  # verbs are declared with types that are checked here: not at import

    return dict(pair for verb in VERBS.values() for pair in _patterns(verb.params, set()))


def _patterns(hint: object, seen: set[object]) -> Iterator[tuple[str, str]]:
    for mark in getattr(hint, "__metadata__", ()):
        if isinstance(mark, msgspec.Meta) and mark.pattern and mark.description:
            yield mark.pattern, mark.description
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        if hint in seen:
            return
        seen.add(hint)
        for inner in typing.get_type_hints(hint, include_extras=True).values():
            yield from _patterns(inner, seen)
    for arg in typing.get_args(hint):
        yield from _patterns(arg, seen)
