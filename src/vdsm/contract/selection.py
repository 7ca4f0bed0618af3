# SPDX-License-Identifier: Apache-2.0
"""`?fields=a,b` and `?status=Up`: parts of a result, as its type allows them."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from .codec import from_plain
from .errors import InvalidParams

FIELDS = "fields"

_SCALARS = (str, int, float, bool)


def base_types(hint: object) -> tuple[object, ...]:
    """What a type is without its annotations: the members of a union, the origin of a container."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return base_types(typing.get_args(hint)[0])
    if origin in (typing.Union, types.UnionType):
        return tuple(base for arg in typing.get_args(hint) for base in base_types(arg))
    return (origin or hint,)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the item type: its name in Python, and its type if a query may ask for its value."""

    attribute: str
    hint: object
    filters: bool


class Selection:
    """What may be chosen from the results of one verb."""

    def __init__(self, shape: object, item: type[msgspec.Struct]) -> None:
        self.item = item
        self.many = shape is not None
        self._keyed = shape is dict
        hints = typing.get_type_hints(item, include_extras=True)
        self.fields: Mapping[str, Field] = {
            f.encode_name: Field(f.name, hints[f.name], self.many and _is_scalar(hints[f.name]))
            for f in msgspec.structs.fields(item)
        }

    @staticmethod
    def of(result: object) -> Selection | None:
        """For an object, or a list or map of objects; of other results nothing can be chosen."""
        shape = typing.get_origin(result)
        item = typing.get_args(result)[-1] if shape in (list, dict) else result
        if isinstance(item, type) and issubclass(item, msgspec.Struct):
            return Selection(shape, item)
        return None

    def read(self, query: dict[str, list[str]]) -> Callable[[typing.Any], object] | None:
        """Take what is ours out of a query, and give the function that chooses. Raises InvalidParams."""
        names = self._names(query.pop(FIELDS)) if FIELDS in query else None
        wanted = {
            field.attribute: [_value(name, text, field.hint) for text in query.pop(name)]
            for name, field in self.fields.items()
            if field.filters and name in query
        }
        if names is None and not wanted:
            return None
        attributes = None if names is None else {name: self.fields[name].attribute for name in names}

        def keeps(item: msgspec.Struct) -> bool:
            return all(getattr(item, attribute) in values for attribute, values in wanted.items())

        def part(item: msgspec.Struct) -> object:
            if attributes is None:
                return item
            return {name: getattr(item, attribute) for name, attribute in attributes.items()}

        def choose(result: typing.Any) -> object:
            if not self.many:
                return part(result)
            if self._keyed:
                return {key: part(item) for key, item in result.items() if keeps(item)}
            return [part(item) for item in result if keeps(item)]

        return choose

    def _names(self, given: list[str]) -> list[str]:
        names = [name for text in given for name in text.split(",")]
        for name in names:
            if name not in self.fields:
                known = ", ".join(self.fields)
                raise InvalidParams(reason=f"there is no field `{name}`; there are {known}", path=f"$.{FIELDS}")
        return names


def _is_scalar(hint: object) -> bool:
    bases = [base for base in base_types(hint) if base is not type(None)]
    return all(isinstance(b, type) and (b in _SCALARS or issubclass(b, enum.Enum)) for b in bases)


def _value(name: str, text: str, hint: object) -> object:
    try:
        return from_plain(text, typing.cast("type[object]", hint), text_numbers=True)
    except InvalidParams as problem:
        raise InvalidParams(reason=problem.facts["reason"], path=f"$.{name}") from None
