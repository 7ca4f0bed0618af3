# SPDX-License-Identifier: Apache-2.0
"""Loose shapes of values: from a form's name to the function that puts a value into it. Compiled once, per type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

Plain = Any
"""None, bool, int, float, str, and lists and string-keyed dicts of those."""

Convert = Callable[[Plain], Plain]


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is special about an object type: its fields' forms, and whether it is a map, or one of several types."""

    fields: dict[str, Form] = {}
    fill: dict[str, Plain] = {}  # what is said where nothing is known
    drop: list[str] = []  # never said
    also: dict[str, str] = {}  # a field, and the other name it is said under besides
    each: Form = None  # of a map: the form of its values
    by: str = ""  # the field that says which of `cases` it is, else `type`
    cases: dict[str, str] = {}
    type: str = ""
    words: dict[str, str] = {}  # of an enumeration: a number or old word, and today's
    member: str = ""  # of a struct that says nothing but this member, in the place of which a text may stand

    @property
    def is_map(self) -> bool:
        return not (self.fields or self.fill or self.drop or self.also or self.by)


Form = str | list[str | Shape] | Shape | None
"""A scalar form, a type's name, a list of one form, an anonymous type, or None: as it is."""


def text(value: Plain) -> Plain:
    """A scalar as text: fractions with a dot and never with an exponent, as every reader's parser takes them."""
    kind = type(value)
    if kind is str or value is None:
        return value
    if kind is bool:
        return "true" if value else "false"
    if kind is float:
        written = repr(value)
        return written if "e" not in written else f"{value:.9f}"
    return str(value) if kind is int else clean(value)


def _float(value: Plain) -> Plain:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _csv(value: Plain) -> Plain:
    return ",".join(str(item) for item in value) if isinstance(value, list) else value


def _python_bool(value: Plain) -> Plain:
    return str(value) if isinstance(value, bool) else value


def _on_off(value: Plain) -> Plain:
    return ("on" if value else "off") if isinstance(value, bool) else value


def _kib(value: Plain) -> Plain:
    return str(value * 1024) if isinstance(value, int) else value


SCALARS: Mapping[str, Convert] = {
    "text": text,
    "float": _float,
    "csv": _csv,
    "Bool": _python_bool,
    "on-off": _on_off,
    "kib": _kib,
}


def clean(value: Plain) -> Plain:
    """As it is, without nulls: no published object has any."""
    if type(value) is dict:
        return {
            name: clean(item) if type(item) in (dict, list) else item
            for name, item in value.items()
            if item is not None
        }
    if type(value) is list:
        return [clean(item) if type(item) in (dict, list) else item for item in value]
    return value


class Forms:
    """The converters of all types, each made when first asked for."""

    def __init__(self, types: Mapping[str, Shape]) -> None:
        self._types = types
        self._made: dict[str, Convert] = dict(SCALARS)

    def of(self, form: Form) -> Convert:
        """Raises KeyError for a type that is not in the table."""
        if form is None:
            return clean
        if isinstance(form, str):
            if form not in self._made:
                self._made[form] = lambda value: self._made[form](value)  # a type may hold itself
                self._made[form] = self._shaped(self._types[form])
            return self._made[form]
        if isinstance(form, Shape):
            return self._shaped(form)
        return _listed(self.of(form[0]))

    def _shaped(self, shape: Shape) -> Convert:
        if shape.words:
            return _worded(shape.words)
        if shape.member:
            return _alone(shape.member)
        if shape.by:
            return _cased(shape.by, {case: self.of(name) for case, name in shape.cases.items()}, self.of(shape.type))
        if shape.is_map:
            return _mapped(self.of(shape.each))
        return _fielded(
            {name: self.of(form) for name, form in shape.fields.items()}, shape.fill, shape.drop, shape.also
        )


def _worded(words: Mapping[str, str]) -> Convert:
    def put(value: Plain) -> Plain:
        scalar = isinstance(value, (str, int, float)) and not isinstance(value, bool)
        return words.get(str(value), value) if scalar else clean(value)

    return put


def _alone(member: str) -> Convert:
    def put(value: Plain) -> Plain:
        return value[member] if type(value) is dict and set(value) == {member} else clean(value)

    return put


def _listed(convert: Convert) -> Convert:
    def put(value: Plain) -> Plain:
        # Where the schema says list some published answers are an object; then each of its values has the form.
        return [convert(item) for item in value] if type(value) is list else convert(value)

    return put


def _mapped(convert: Convert) -> Convert:
    def put(value: Plain) -> Plain:
        if type(value) is dict:
            return {key: convert(item) for key, item in value.items() if item is not None}
        if type(value) is list and all(isinstance(item, dict) and "id" in item for item in value):
            return {item["id"]: convert(item) for item in value}
        return clean(value)

    return put


def _cased(by: str, cases: Mapping[str, Convert], otherwise: Convert) -> Convert:
    def put(value: Plain) -> Plain:
        return cases.get(str(value.get(by)), otherwise)(value) if type(value) is dict else value

    return put


def _fielded(
    fields: Mapping[str, Convert], fill: Mapping[str, Plain], drop: Sequence[str], also: Mapping[str, str]
) -> Convert:
    numbers = frozenset(name for name, convert in fields.items() if convert is text)

    def put(value: Plain) -> Plain:
        if type(value) is not dict:
            return value
        found = {**fill}
        for name, item in value.items():
            kind = type(item)
            if kind is str:  # most are, and no form changes a text
                found[name] = item
            elif kind is int and name in numbers:  # and so are most others
                found[name] = f"{item}"
            elif item is not None:
                found[name] = fields.get(name, clean)(item)
        for name in drop:
            found.pop(name, None)
        for name, other in also.items():
            if name in found:
                found[other] = found[name]
        return found

    return put
