# SPDX-License-Identifier: Apache-2.0
"""Types of the contract in QMF's few words, and values of one as values of the other."""

from __future__ import annotations

import types
import typing
import uuid

import msgspec

from vdsm.contract import types as units
from vdsm.contract.types import Secret
from vdsm.protocols.amqp import ULong
from vdsm.protocols.qmf2.model import Type

_UNITS: tuple[tuple[object, str], ...] = (
    (units.MiB, "MiB"),
    (units.Bytes, "bytes"),
    (units.Seconds, "seconds"),
    (units.Percent, "percent"),
    (units.UnixTime, "seconds since 1970"),
)
_SCALARS = ((bool, Type.BOOL), (int, Type.INT), (float, Type.FLOAT), (str, Type.STRING), (Secret, Type.STRING))
_LISTS = (list, tuple, set, frozenset)


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What QMF can say of a type."""

    type: Type
    optional: bool = False  # it may be null
    unsigned: bool = False
    unit: str = ""
    description: str = ""


def shape_of(hint: object) -> Shape:
    """Of a type of the contract."""
    hint, optional = _without_none(hint)
    unit = next((word for kind, word in _UNITS if kind == hint), "")
    description, unsigned = "", False
    for mark in getattr(hint, "__metadata__", ()):
        if isinstance(mark, msgspec.Meta):
            description = mark.description or description
            unsigned = unsigned or (mark.ge is not None and mark.ge >= 0)
    found = _type_of(_bare(hint))
    return Shape(
        type=found,
        optional=optional,
        unsigned=unsigned and found is Type.INT,
        unit=unit,
        description="" if unit else description,
    )


def _bare(hint: object) -> object:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint


def _without_none(hint: object) -> tuple[typing.Any, bool]:
    """A type without "or nothing", and whether it had that."""
    if not _is_union(hint):
        return hint, False
    rest = [arg for arg in typing.get_args(hint) if arg is not types.NoneType]
    return (rest[0] if len(rest) == 1 else typing.Union[tuple(rest)]), len(rest) < len(typing.get_args(hint))  # noqa: UP007


def _is_union(hint: object) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _type_of(hint: object) -> Type:
    origin = typing.get_origin(hint) or hint
    if hint is None or hint is types.NoneType:
        return Type.VOID
    if origin is typing.Literal:
        return _type_of(type(typing.get_args(hint)[0]))
    if _is_union(hint):
        kinds = {_type_of(_bare(arg)) for arg in typing.get_args(hint)}
        return kinds.pop() if len(kinds) == 1 else Type.MAP
    if isinstance(origin, type):
        for kind, word in _SCALARS:
            if issubclass(origin, kind):
                return word
        if issubclass(origin, _LISTS):
            return Type.LIST
    return Type.MAP  # structs and dictionaries


def to_wire(value: object, *, unsigned: bool = False) -> object:
    """Plain data of the contract as what travels."""
    if unsigned and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return ULong(value)
    return value


def to_plain(value: object) -> object:
    """What travelled as plain data, as strict as JSON would have been: numbers are numbers, text is text."""
    match value:
        case uuid.UUID():
            return str(value)
        case dict():
            return {key: to_plain(item) for key, item in value.items()}
        case list():
            return [to_plain(item) for item in value]
        case _:
            return value
