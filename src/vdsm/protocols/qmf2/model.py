# SPDX-License-Identifier: Apache-2.0
"""What is said on a QMF bus: objects, their schema, and every request, answer and indication."""

from __future__ import annotations

import enum
from uuid import UUID

import msgspec

from vdsm.protocols.qmf2.predicates import EVERYTHING, Predicate


class Severity(enum.IntEnum):
    EMERGENCY = 0
    ALERT = 1
    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7

    @property
    def word(self) -> str:
        """As routing keys have it."""
        return _SEVERITY_WORDS[self]


_SEVERITY_WORDS = ("emerg", "alert", "crit", "error", "warn", "note", "info", "debug")


class Kind(enum.StrEnum):
    """Of a class."""

    DATA = "_data"
    EVENT = "_event"


class Type(enum.StrEnum):
    VOID = "TYPE_VOID"
    BOOL = "TYPE_BOOL"
    INT = "TYPE_INT"
    FLOAT = "TYPE_FLOAT"
    STRING = "TYPE_STRING"
    MAP = "TYPE_MAP"
    LIST = "TYPE_LIST"
    UUID = "TYPE_UUID"


class Access(enum.StrEnum):
    READ_ONLY = "RO"
    READ_CREATE = "RC"
    READ_WRITE = "RW"


class Direction(enum.StrEnum):
    IN = "I"
    OUT = "O"
    BOTH = "IO"


class What(enum.StrEnum):
    """A query asks for."""

    OBJECT = "OBJECT"
    OBJECT_ID = "OBJECT_ID"
    SCHEMA = "SCHEMA"
    SCHEMA_ID = "SCHEMA_ID"


class FaultCode(enum.IntEnum):
    """The published `error_code`s; from 0x10000 on they are the agent's own."""

    UNKNOWN_OBJECT = 1
    UNKNOWN_METHOD = 2
    NOT_IMPLEMENTED = 3
    INVALID_PARAMETER = 4
    FEATURE_NOT_IMPLEMENTED = 5
    FORBIDDEN = 6
    EXCEPTION = 7


class ObjectId(msgspec.Struct, frozen=True):
    name: str
    agent: str = ""
    epoch: int = 0  # 0: the name is good for ever; otherwise for one run of the agent

    def names(self, other: ObjectId) -> bool:
        """Whether this one, given by a console, means the other; what it leaves out matches anything."""
        return (
            self.name == other.name
            and self.agent in ("", other.agent)
            and (self.epoch == 0 or other.epoch in (0, self.epoch))
        )


class SchemaId(msgspec.Struct, frozen=True):
    """A class as it is defined at one time: a changed definition has another hash."""

    package: str
    name: str
    kind: Kind = Kind.DATA
    hash: UUID = UUID(int=0)


class SchemaFilter(msgspec.Struct, frozen=True):
    """Part of a schema id; consoles ask with any part of it."""

    package: str | None = None
    name: str | None = None
    kind: str | None = None
    hash: UUID | None = None

    def matches(self, schema: SchemaId) -> bool:
        return (
            self.package in (None, schema.package)
            and self.name in (None, schema.name)
            and self.kind in (None, schema.kind)
            and self.hash in (None, schema.hash)
        )


class Property(msgspec.Struct, frozen=True, kw_only=True):
    """One value of an object or of an event."""

    name: str
    type: Type
    access: Access = Access.READ_ONLY
    index: bool = False
    optional: bool = False
    unit: str = ""
    description: str = ""
    subtype: str = ""  # timestamp or duration of an INT, in nanoseconds; reference or data of a MAP
    statistic: bool = False  # only the binary form of QMFv1 tells the two apart
    unsigned: bool = False  # likewise


class Argument(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    type: Type
    direction: Direction = Direction.IN
    unit: str = ""
    description: str = ""
    subtype: str = ""
    unsigned: bool = False


class Method(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    arguments: tuple[Argument, ...] = ()
    description: str = ""


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    id: SchemaId
    properties: tuple[Property, ...] = ()
    methods: tuple[Method, ...] = ()
    description: str = ""
    severity: Severity | None = None  # the usual one of an event


class DataObject(msgspec.Struct, frozen=True, kw_only=True):
    id: ObjectId | None = None
    schema: SchemaId | None = None
    values: dict[str, object] = {}
    subtypes: dict[str, object] = {}
    created_ns: int = 0
    updated_ns: int = 0
    deleted_ns: int = 0  # 0: it is there


class Event(msgspec.Struct, frozen=True, kw_only=True):
    schema: SchemaId | None = None
    values: dict[str, object] = {}
    timestamp_ns: int
    severity: Severity = Severity.INFO


class AgentAttributes(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent says of itself in each heartbeat."""

    name: str
    vendor: str = ""
    product: str = ""
    instance: str = ""
    timestamp_ns: int
    interval_s: int
    epoch: int = 0  # counts the agent's starts
    schema_updated_ns: int = 0
    capability: int = 0  # 1: it understands schema queries and predicates on agents
    direct_subject: str = ""
    others: dict[str, object] = {}  # of the application


# What a console sends.


class Locate(msgspec.Struct, frozen=True):
    where: Predicate = EVERYTHING


class Query(msgspec.Struct, frozen=True, kw_only=True):
    what: What
    schema: SchemaFilter = SchemaFilter()
    object_id: ObjectId | None = None
    where: Predicate = EVERYTHING


class MethodCall(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    object_id: ObjectId | None = None
    arguments: dict[str, object] = {}
    subtypes: dict[str, object] = {}


class OldSchemaRequest(msgspec.Struct, frozen=True):
    """QMFv1's binary question for one class, which many consoles still ask."""

    sequence: int
    schema: SchemaId  # of unknown kind: the question does not say it


# What an agent sends. `agent` is its name, from the message's header.


class Heartbeat(msgspec.Struct, frozen=True):
    agent: str
    attributes: AgentAttributes
    located: bool = False  # the answer to a locate request, not an indication


class QueryAnswer(msgspec.Struct, frozen=True):
    agent: str
    found: tuple[DataObject, ...] | tuple[ObjectId, ...] | tuple[Schema, ...] | tuple[SchemaId, ...]
    partial: bool = False  # more follows


class MethodAnswer(msgspec.Struct, frozen=True):
    agent: str
    arguments: dict[str, object] = {}
    subtypes: dict[str, object] = {}


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """An `_exception`, the answer to a query or a call that failed."""

    agent: str = ""
    code: int = FaultCode.EXCEPTION
    text: str = "error"
    others: dict[str, object] = {}  # further members of its `_values`


class DataIndication(msgspec.Struct, frozen=True):
    agent: str
    objects: tuple[DataObject, ...]


class EventIndication(msgspec.Struct, frozen=True):
    agent: str
    events: tuple[Event, ...]


class OldSchemaAnswer(msgspec.Struct, frozen=True):
    agent: str
    sequence: int
    schema: Schema | None  # None: the agent does not know the class
    text: str = ""


# What is none of these.


class Refused(msgspec.Struct, frozen=True):
    """A message that cannot be taken. It is answered with the fault only if it asked for something."""

    code: int
    text: str
    answerable: bool = True


Request = Locate | Query | MethodCall | OldSchemaRequest
Indication = Heartbeat | QueryAnswer | MethodAnswer | Fault | DataIndication | EventIndication | OldSchemaAnswer
