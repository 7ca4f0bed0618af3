# SPDX-License-Identifier: Apache-2.0
"""The schema of this host on a bus: a class for each noun, an event class for each event of the contract.

A class's hash is made from its whole definition: the same over restarts, another as soon as anything in it changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from vdsm.contract import VERBS, AnyVerb
from vdsm.contract import events as contract
from vdsm.contract.events import EVENTS, Gap
from vdsm.contract.types import EventId, UnixTime
from vdsm.protocols.qmf2.forms import identify
from vdsm.protocols.qmf2.model import (
    Argument,
    Direction,
    Kind,
    Method,
    Property,
    Schema,
    SchemaFilter,
    SchemaId,
    Severity,
    Type,
)

from .nouns import Noun, Reading, fields_of, nouns_of
from .types import shape_of

PACKAGE = "org.vdsm"
GAP = "Gap"
SEVERITIES = {
    contract.Severity.INFO: Severity.INFO,
    contract.Severity.WARNING: Severity.WARNING,
    contract.Severity.ERROR: Severity.ERROR,
}
# What every event says beside its own fields: the members of the journal's record.
EVENT_FIELDS: Mapping[str, object] = {
    "eventId": EventId, "time": UnixTime, "notifyTime": int, "severity": str, "subject": str, "flowId": str,
}  # fmt: skip


class DataClass(msgspec.Struct, frozen=True, kw_only=True):
    """A noun as QMF has it."""

    noun: Noun
    schema: Schema
    fields: Mapping[str, frozenset[str]]  # by verb of a reading: the properties it fills
    unsigned: frozenset[str]


class Schemata:
    """Everything this agent can describe."""

    def __init__(self, verbs: Iterable[AnyVerb] = VERBS.values()) -> None:
        self.classes = {noun.name: _data_class(noun) for noun in nouns_of(verbs).values()}
        events = [_event_class(name, kind, kind.severity) for name, kind in EVENTS.items()]
        gap = _event_class(GAP, Gap, contract.Severity.WARNING)
        self.events = {schema.id.name: schema for schema in [*events, gap]}
        self.all = (*(c.schema for c in self.classes.values()), *self.events.values())

    def find(self, wanted: SchemaFilter) -> list[Schema]:
        return [schema for schema in self.all if wanted.matches(schema.id)]

    def old(self, asked: SchemaId) -> Schema | None:
        """What a console of QMFv1 asks for: it says no kind."""
        return next((s for s in self.all if msgspec.structs.replace(asked, kind=s.id.kind) == s.id), None)


def _data_class(noun: Noun) -> DataClass:
    properties: dict[str, Property] = {}
    fields: dict[str, frozenset[str]] = {}
    for reading in noun.readings:
        found = {p.name: p for p in _properties(reading)}
        for name, made in found.items():
            properties.setdefault(name, made)
        fields[reading.verb.method] = frozenset(n for n, made in found.items() if _same(made, properties[n]))
    methods = tuple(_method(name, verb, noun.id_param) for name, verb in noun.methods.items())
    schema = identify(
        Schema(
            id=SchemaId(PACKAGE, noun.name), properties=tuple(properties.values()), methods=methods,
            description=noun.doc,
        )
    )  # fmt: skip
    unsigned = frozenset(p.name for p in schema.properties if p.unsigned)
    return DataClass(noun=noun, schema=schema, fields=fields, unsigned=unsigned)


def _same(one: Property, other: Property) -> bool:
    """Whether two types mean the same by a word: one's `cpuUsage` is a percentage, another's nanoseconds."""
    return (one.type, one.unit, one.unsigned) == (other.type, other.unit, other.unsigned)


def _properties(reading: Reading) -> Iterator[Property]:
    for name, hint in fields_of(reading.type):
        shape = shape_of(hint)
        yield Property(
            name=name,
            type=shape.type,
            index=name == reading.id_field,
            optional=name != reading.id_field,
            unit=shape.unit,
            description=shape.description,
            statistic=reading.statistics and name != reading.id_field,
            unsigned=shape.unsigned,
        )


def _method(name: str, verb: AnyVerb, id_param: str) -> Method:
    """The object says its own id; the rest are arguments."""
    arguments = [_argument(wire, hint, Direction.IN) for wire, hint in fields_of(verb.params) if wire != id_param]
    arguments.append(_argument("result", verb.result, Direction.OUT))
    if verb.mutates:
        arguments += [Argument(name="plan", type=Type.MAP, direction=Direction.OUT)]
        arguments += [Argument(name="task", type=Type.MAP, direction=Direction.OUT)]
        arguments += [Argument(name="replayed", type=Type.BOOL, direction=Direction.OUT)]
    return Method(name=name, arguments=tuple(arguments), description=verb.summary)


def _argument(name: str, hint: object, direction: Direction) -> Argument:
    shape = shape_of(hint)
    return Argument(
        name=name,
        type=shape.type,
        direction=direction,
        unit=shape.unit,
        description=shape.description,
        unsigned=shape.unsigned,
    )


def _event_class(name: str, kind: type[msgspec.Struct], severity: contract.Severity) -> Schema:
    members = {**EVENT_FIELDS, **dict(fields_of(kind))}
    shapes = {member: shape_of(hint) for member, hint in members.items()}
    properties = tuple(
        Property(name=n, type=s.type, unit=s.unit, description=s.description, optional=s.optional, unsigned=s.unsigned)
        for n, s in shapes.items()
    )
    return identify(
        Schema(
            id=SchemaId(PACKAGE, name, Kind.EVENT),
            properties=properties,
            description=(kind.__doc__ or "").partition("\n")[0],
            severity=SEVERITIES[severity],
        )
    )
