# SPDX-License-Identifier: Apache-2.0
"""Which classes of objects a contract has, read from its routes: `/vms` lists what `/vms/{vmID}` names.

A noun whose objects one verb lists is a class; so is a noun that describes one thing, the host itself. Verbs that name
no object, and nouns that have none, belong to the host.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from vdsm.contract import AnyVerb, Kind
from vdsm.contract.host import NOUN as HOST
from vdsm.contract.lint import wire_names

_ITEM = re.compile(r"(/[^{}]+)/{(\w+)}")
_STATISTICS = "Stats"  # how the names of types that hold statistics end


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A verb that describes the objects of a class, all at once."""

    verb: AnyVerb
    type: type[msgspec.Struct]
    many: bool
    id_field: str  # by wire name; empty for the one object of its class

    @property
    def statistics(self) -> bool:
        return self.type.__name__.endswith(_STATISTICS)


class Noun(msgspec.Struct, frozen=True, kw_only=True):
    """A class of objects."""

    name: str
    id_param: str  # of its verbs, by wire name; empty: there is one object, named as the class
    readings: tuple[Reading, ...]  # what an earlier one says of a field counts
    listing: AnyVerb | None  # of the readings, the one that knows every object
    methods: Mapping[str, AnyVerb]
    doc: str = ""

    @property
    def event_field(self) -> str:
        """The field of an event that says which of the objects it is about."""
        return f"{self.listing.noun}_id" if self.listing else ""

    @property
    def verbs(self) -> tuple[AnyVerb, ...]:
        return tuple(reading.verb for reading in self.readings)

    def object_name(self, object_id: str) -> str:
        return f"{self.name}:{object_id}" if self.id_param else self.name


def nouns_of(verbs: Iterable[AnyVerb]) -> dict[str, Noun]:
    """The classes by name, the host first."""
    verbs = [v for v in verbs if v.kind is not Kind.STREAM]
    by_noun: dict[str, list[AnyVerb]] = {HOST: []}
    for verb in verbs:
        by_noun.setdefault(noun_of(verb), []).append(verb)
    found = {name: noun for name, own in by_noun.items() if (noun := _noun(name, own, verbs)) is not None}
    placed = {id(verb) for noun in found.values() for verb in noun.methods.values()}
    homeless = {verb.method: verb for verb in verbs if id(verb) not in placed}
    host = found[HOST]
    found[HOST] = msgspec.structs.replace(host, methods={**host.methods, **homeless})
    return found


def noun_of(verb: AnyVerb) -> str:
    return verb.method.partition(".")[0]


def method_name(verb: AnyVerb) -> str:
    """Without the noun."""
    return verb.method.partition(".")[2]


def _noun(name: str, own: Sequence[AnyVerb], verbs: Sequence[AnyVerb]) -> Noun | None:
    for listing in own:
        item = _listed(listing)
        names = {m[2] for v in own if (m := _ITEM.match(v.route.path)) and m[1] == listing.route.path}
        if item is not None and len(names) == 1:
            return _collection(name, names.pop(), listing, own, verbs)
    single = tuple(
        Reading(verb=v, type=v.result, many=False, id_field="")
        for v in own
        if v.kind is Kind.QUERY and not v.params.__struct_fields__ and _is_struct(v.result)
    )
    if not single and name != HOST:
        return None
    methods = {method_name(v): v for v in own}
    return Noun(name=name, id_param="", readings=_ordered(single), listing=None, methods=methods)


def _collection(name: str, id_param: str, listing: AnyVerb, own: Sequence[AnyVerb], verbs: Sequence[AnyVerb]) -> Noun:
    about = [v for v in own if id_param in v.route.path_params]
    listed = _many(listing, id_param)
    described = {kind for v in about if v.kind is Kind.QUERY and (kind := _described(v, id_param)) is not None}
    more = [_many(v, id_param) for v in verbs if _listed(v) in described and _listed(v) is not listed.type]
    return Noun(
        name=name,
        id_param=id_param,
        readings=(*_ordered(more), listed),
        listing=listing,
        methods={method_name(v): v for v in about},
        doc=(listed.type.__doc__ or "").partition("\n")[0],
    )


def _ordered(readings: Iterable[Reading]) -> tuple[Reading, ...]:
    """What an object is, before how it does."""
    return tuple(sorted(readings, key=lambda reading: reading.statistics))


def _many(verb: AnyVerb, id_param: str) -> Reading:
    kind = _listed(verb)
    assert kind is not None
    return Reading(verb=verb, type=kind, many=True, id_field=_id_field(kind, id_param))


def _id_field(struct: type[msgspec.Struct], id_param: str) -> str:
    """`vmId` for `vmID`; `id` where the type has no such word."""
    return next((name for name in wire_names(struct) if name.casefold() == id_param.casefold()), "id")


def _listed(verb: AnyVerb) -> type[msgspec.Struct] | None:
    """What a verb lists that can be asked without a parameter, if it does."""
    if verb.kind is not Kind.QUERY or any(f.required for f in msgspec.structs.fields(verb.params)):
        return None
    return _element(verb.result)


def _described(verb: AnyVerb, id_param: str) -> type[msgspec.Struct] | None:
    """What a verb tells of the one object it is about."""
    if [f.encode_name for f in msgspec.structs.fields(verb.params) if f.required] != [id_param]:
        return None
    result: type[msgspec.Struct] | None = verb.result if _is_struct(verb.result) else _element(verb.result)
    return result


def _element(hint: object) -> type[msgspec.Struct] | None:
    args = typing.get_args(hint)
    if typing.get_origin(hint) is not list or not _is_struct(args[0]):
        return None
    element: type[msgspec.Struct] = args[0]
    return element


def _is_struct(hint: object) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def fields_of(struct: type[msgspec.Struct]) -> Iterator[tuple[str, object]]:
    """Wire names with their types."""
    hints = typing.get_type_hints(struct, include_extras=True)
    for name, wire in zip(struct.__struct_fields__, wire_names(struct), strict=True):
        yield wire, hints[name]
