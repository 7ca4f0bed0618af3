# SPDX-License-Identifier: Apache-2.0
"""The maps in QMFv2's messages <-> what they stand for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from vdsm.protocols.amqp import UByte, UInt, ULong
from vdsm.protocols.qmf2.model import (
    Access,
    AgentAttributes,
    Argument,
    DataObject,
    Direction,
    Event,
    Kind,
    Method,
    ObjectId,
    Property,
    Query,
    Schema,
    SchemaFilter,
    SchemaId,
    Severity,
    Type,
    What,
)
from vdsm.protocols.qmf2.predicates import EVERYTHING, Predicate, PredicateError

Map = dict[str, Any]
T = TypeVar("T")

_NO_HASH = UUID(int=0)


class FormError(ValueError):
    """A map that lacks what it must have, or has something else in its place."""


def field(form: Map, name: str, kind: type[T], default: T | None = None) -> T:
    """What the map holds under the name, which may be missing if there is a default. Raises FormError."""
    value = form.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        found = "is missing" if value is None else f"is {value!r:.80}"
        raise FormError(f"{name} {found}; it must be a {_KINDS[kind]}")
    return value


_KINDS: dict[type, str] = {str: "text", int: "whole number", dict: "map", list: "list", bool: "boolean"}


def maps(items: object, name: str) -> list[Map]:
    """Raises FormError unless it is a list of maps."""
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise FormError(f"{name} must be a list of maps")
    return items


# Ids


def object_id_map(one: ObjectId) -> Map:
    form: Map = {"_object_name": one.name}
    if one.agent:
        form["_agent_name"] = one.agent
    if one.epoch:
        form["_agent_epoch"] = UInt(one.epoch)
    return form


def read_object_id(form: Map) -> ObjectId:
    return ObjectId(
        field(form, "_object_name", str), field(form, "_agent_name", str, ""), field(form, "_agent_epoch", int, 0)
    )


def schema_id_map(one: SchemaId) -> Map:
    form: Map = {"_package_name": one.package, "_class_name": one.name, "_type": one.kind.value}
    if one.hash != _NO_HASH:
        form["_hash"] = one.hash
    return form


def read_schema_id(form: Map) -> SchemaId:
    kind = _member(Kind, field(form, "_type", str, "_data"))
    return SchemaId(
        field(form, "_package_name", str), field(form, "_class_name", str), kind, _read_hash(form) or _NO_HASH
    )


def schema_filter_map(asked: SchemaFilter) -> Map:
    names = {"_package_name": asked.package, "_class_name": asked.name, "_type": asked.kind, "_hash": asked.hash}
    return {name: value for name, value in names.items() if value is not None}


def read_schema_filter(form: Map) -> SchemaFilter:
    """Consoles leave out what they do not ask for, or leave it empty."""
    package, name, kind = (field(form, key, str, "") or None for key in ("_package_name", "_class_name", "_type"))
    return SchemaFilter(package, name, kind, _read_hash(form))


def _read_hash(form: Map) -> UUID | None:
    value = form.get("_hash")
    if isinstance(value, UUID):
        return None if value == _NO_HASH else value
    if value is None:
        return None
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise FormError(f"_hash is {value!r:.80}; it must be a UUID") from None


# Schema


def identify(schema: Schema) -> Schema:
    """The schema with the hash of its definition; equal definitions have equal ones, on every host and for ever."""
    bare = msgspec.structs.replace(schema, id=msgspec.structs.replace(schema.id, hash=_NO_HASH))
    digest = hashlib.blake2b(msgspec.json.encode(bare), digest_size=16).digest()
    return msgspec.structs.replace(schema, id=msgspec.structs.replace(schema.id, hash=UUID(bytes=digest)))


def schema_map(schema: Schema) -> Map:
    form: Map = {"_schema_id": schema_id_map(schema.id)}
    _describe(form, schema)
    if schema.severity is not None:
        form["_default_severity"] = UInt(schema.severity)
    form["_properties"] = [_property_map(one) for one in schema.properties]
    form["_methods"] = [_method_map(one) for one in schema.methods]
    return form


def read_schema(form: Map) -> Schema:
    severity = field(form, "_default_severity", int, -1)
    return Schema(
        id=read_schema_id(field(form, "_schema_id", dict)),
        description=field(form, "_desc", str, ""),
        severity=None if severity < 0 else _severity(severity),
        properties=tuple(_read_property(one) for one in maps(form.get("_properties", []), "_properties")),
        methods=tuple(_read_method(one) for one in maps(form.get("_methods", []), "_methods")),
    )


def _property_map(one: Property) -> Map:
    form: Map = {"_name": one.name, "_type": one.type.value, "_access": one.access.value}
    if one.index:
        form["_index"] = True
    return _describe(form, one)


def _read_property(form: Map) -> Property:
    return Property(
        **_read_common(form),
        access=_member(Access, field(form, "_access", str, "RO")),
        index=field(form, "_index", bool, False),
    )


def _method_map(one: Method) -> Map:
    form = _describe({"_name": one.name}, one)
    form["_arguments"] = [
        _describe({"_name": arg.name, "_type": arg.type.value, "_dir": arg.direction.value}, arg)
        for arg in one.arguments
    ]
    return form


def _read_method(form: Map) -> Method:
    return Method(
        name=field(form, "_name", str),
        description=field(form, "_desc", str, ""),
        arguments=tuple(
            Argument(**_read_common(one), direction=_member(Direction, field(one, "_dir", str, "I")))
            for one in maps(form.get("_arguments", []), "_arguments")
        ),
    )


def _describe(form: Map, what: Schema | Property | Method | Argument) -> Map:
    for key, value in (
        ("_unit", getattr(what, "unit", "")), ("_desc", what.description), ("_subtype", getattr(what, "subtype", "")),
    ):  # fmt: skip
        if value:
            form[key] = value
    return form


def _read_common(form: Map) -> Map:
    return {
        "name": field(form, "_name", str),
        "type": _member(Type, field(form, "_type", str)),
        "unit": field(form, "_unit", str, ""),
        "description": field(form, "_desc", str, ""),
        "subtype": field(form, "_subtype", str, ""),
    }


def _member(words: Callable[[str], T], word: str) -> T:
    try:
        return words(word)
    except ValueError as error:
        raise FormError(str(error)) from None


# Objects and events


def object_map(what: DataObject) -> Map:
    form: Map = {}
    if what.id is not None:
        form["_object_id"] = object_id_map(what.id)
    if what.schema is not None:
        form["_schema_id"] = schema_id_map(what.schema)
    form["_values"] = what.values
    if what.subtypes:
        form["_subtypes"] = what.subtypes
    form["_create_ts"] = ULong(what.created_ns)
    form["_update_ts"] = ULong(what.updated_ns)
    form["_delete_ts"] = ULong(what.deleted_ns)
    return form


def read_object(form: Map) -> DataObject:
    return DataObject(
        id=_optional(form, "_object_id", read_object_id),
        schema=_optional(form, "_schema_id", read_schema_id),
        values=field(form, "_values", dict, {}),
        subtypes=field(form, "_subtypes", dict, {}),
        created_ns=field(form, "_create_ts", int, 0),
        updated_ns=field(form, "_update_ts", int, 0),
        deleted_ns=field(form, "_delete_ts", int, 0),
    )


def event_map(event: Event) -> Map:
    form: Map = {"_values": event.values, "_timestamp": ULong(event.timestamp_ns), "_severity": UByte(event.severity)}
    if event.schema is not None:
        form["_schema_id"] = schema_id_map(event.schema)
    return form


def read_event(form: Map) -> Event:
    return Event(
        schema=_optional(form, "_schema_id", read_schema_id),
        values=field(form, "_values", dict, {}),
        timestamp_ns=field(form, "_timestamp", int, 0),
        severity=_severity(field(form, "_severity", int, int(Severity.INFO))),
    )


def _optional(form: Map, name: str, read: Callable[[Map], T]) -> T | None:
    """A missing map and an empty one say the same."""
    inner = field(form, name, dict, {})
    return read(inner) if inner else None


def _severity(value: int) -> Severity:
    return Severity(min(max(value, 0), Severity.DEBUG))


# Agents and queries


def attributes_map(one: AgentAttributes) -> Map:
    form: Map = {
        **one.others,
        "_vendor": one.vendor,
        "_product": one.product,
        "_instance": one.instance,
        "_name": one.name,
        "_timestamp": ULong(one.timestamp_ns),
        "_heartbeat_interval": UInt(one.interval_s),
        "_epoch": UInt(one.epoch),
        "_schema_updated": ULong(one.schema_updated_ns),
        "qmf.agent_capability": UInt(one.capability),
    }
    if one.direct_subject:
        form["_direct_subject"] = one.direct_subject
    return form


_OWN = frozenset(
    {
        "_vendor", "_product", "_instance", "_name", "_timestamp", "_heartbeat_interval", "_epoch", "_schema_updated",
        "_direct_subject", "timestamp", "heartbeat_interval", "epoch", "qmf.agent_capability",
    }
)  # fmt: skip


def read_attributes(form: Mapping[str, Any], agent: str) -> AgentAttributes:
    """Older agents leave out the underscore of some, and the name, which the message's header has too."""
    values = {key.removeprefix("_"): value for key, value in form.items() if key in _OWN}
    return AgentAttributes(
        name=field(values, "name", str, agent),
        vendor=field(values, "vendor", str, ""),
        product=field(values, "product", str, ""),
        instance=field(values, "instance", str, ""),
        timestamp_ns=field(values, "timestamp", int),
        interval_s=field(values, "heartbeat_interval", int),
        epoch=field(values, "epoch", int, 0),
        schema_updated_ns=field(values, "schema_updated", int, 0),
        capability=field(values, "qmf.agent_capability", int, 0),
        direct_subject=field(values, "direct_subject", str, ""),
        others={key: value for key, value in form.items() if key not in _OWN},
    )


def query_map(query: Query) -> Map:
    form: Map = {"_what": query.what.value}
    if schema := schema_filter_map(query.schema):
        form["_schema_id"] = schema
    if query.object_id is not None:
        form["_object_id"] = object_id_map(query.object_id)
    if query.where:
        form["_where"] = query.where.source
    return form


def read_query(form: Map) -> Query:
    return Query(
        what=_member(What, field(form, "_what", str)),
        schema=read_schema_filter(field(form, "_schema_id", dict, {})),
        object_id=_optional(form, "_object_id", read_object_id),
        where=read_predicate(field(form, "_where", list, [])),
    )


def read_predicate(source: list[Any]) -> Predicate:
    if not source:
        return EVERYTHING
    try:
        return Predicate(source)
    except PredicateError as error:
        raise FormError(str(error)) from error
