# SPDX-License-Identifier: Apache-2.0
"""QMFv1's binary question for a class and its answers.

Consoles that speak QMFv2 for everything else still ask for schemata in this form: they know no other question.
"""

from __future__ import annotations

import struct
from uuid import UUID

from vdsm.protocols.amqp import UByte, UInt
from vdsm.protocols.amqp010 import DecodeError, Reader, encode_map, encode_str8
from vdsm.protocols.qmf2.forms import FormError, Map, field
from vdsm.protocols.qmf2.model import (
    Access,
    Argument,
    Direction,
    Kind,
    Method,
    OldSchemaAnswer,
    OldSchemaRequest,
    Property,
    Schema,
    SchemaId,
    Type,
)

MAGIC = b"AM2"
_REQUEST, _FOUND, _UNKNOWN = b"S", b"s", b"z"
_KINDS = {1: Kind.DATA, 2: Kind.EVENT}
_ACCESS = {1: Access.READ_CREATE, 2: Access.READ_WRITE, 3: Access.READ_ONLY}
_MAX_TEXT = 60_000  # bytes; here a text's length has two bytes, and the whole should pass as one message

# The code of a type, and the type, its subtype and whether it is unsigned.
_TYPES: dict[int, tuple[Type, str, bool]] = {
    1: (Type.INT, "", True), 2: (Type.INT, "", True), 3: (Type.INT, "", True), 4: (Type.INT, "", True),
    6: (Type.STRING, "", False), 7: (Type.STRING, "", False),
    8: (Type.INT, "timestamp", False), 9: (Type.INT, "duration", False), 10: (Type.MAP, "reference", False),
    11: (Type.BOOL, "", False), 12: (Type.FLOAT, "", False), 13: (Type.FLOAT, "", False), 14: (Type.UUID, "", False),
    15: (Type.MAP, "", False), 16: (Type.INT, "", False), 17: (Type.INT, "", False), 18: (Type.INT, "", False),
    19: (Type.INT, "", False), 20: (Type.MAP, "data", False), 21: (Type.LIST, "", False), 22: (Type.LIST, "", False),
}  # fmt: skip
# The last code of each, which is the widest.
_CODES = {meaning: code for code, meaning in _TYPES.items() if code != 22}
_LONG_TEXT = 7


def encode_request(asked: OldSchemaRequest) -> bytes:
    return MAGIC + _REQUEST + struct.pack(">I", asked.sequence) + encode_id(asked.schema)


def encode_found(sequence: int, schema: Schema) -> bytes:
    """Raises EncodeError for a name that has no place in it."""
    head = MAGIC + _FOUND + struct.pack(">I", sequence)
    if schema.id.kind is Kind.EVENT:
        parts = [b"\x02", encode_id(schema.id), struct.pack(">H", len(schema.properties))]
        return head + b"".join(parts + [encode_map(_described(one)) for one in schema.properties])
    properties = [one for one in schema.properties if not one.statistic]
    statistics = [one for one in schema.properties if one.statistic]
    counts = struct.pack(">HHH", len(properties), len(statistics), len(schema.methods))
    parts = [b"\x01", encode_id(schema.id), counts]
    parts += [encode_map(_property_map(one)) for one in properties]
    parts += [encode_map(_described(one)) for one in statistics]
    for method in schema.methods:
        parts.append(encode_map(_method_map(method)))
        parts += [encode_map(_argument_map(one)) for one in method.arguments]
    return head + b"".join(parts)


def encode_unknown(sequence: int, text: str) -> bytes:
    return MAGIC + _UNKNOWN + struct.pack(">II", sequence, 1) + encode_str8(text)


def decode(data: bytes, agent: str = "") -> OldSchemaRequest | OldSchemaAnswer:
    """Any of the three. Raises DecodeError or FormError."""
    if data[:3] != MAGIC:
        raise DecodeError("it does not begin as a message of QMFv1 does")
    reader = Reader(data[4:])
    sequence = reader.read_uint(4)
    match data[3:4]:
        case b"S":
            package, name, digest = reader.read_str8(), reader.read_str8(), UUID(bytes=reader.read_bytes(16))
            return OldSchemaRequest(sequence, SchemaId(package, name, hash=digest))
        case b"s":
            return OldSchemaAnswer(agent, sequence, _read_schema(reader))
        case b"z":
            reader.read_uint(4)
            return OldSchemaAnswer(agent, sequence, None, reader.read_str8())
    raise DecodeError(f"{data[3:4]!r} is no message of QMFv1 that is understood here")


def encode_id(one: SchemaId) -> bytes:
    return encode_str8(one.package) + encode_str8(one.name) + one.hash.bytes


def _described(one: Property | Argument) -> Map:
    return _with_texts({"name": one.name, "type": UByte(_code(one))}, one)


def _code(one: Property | Argument) -> int:
    """A subtype of our own has no code, so the bare type's counts; nothing at all is shown as text."""
    by_subtype = _CODES.get((one.type, one.subtype, False)) if one.subtype else None
    return by_subtype or _CODES.get((one.type, "", one.unsigned), _LONG_TEXT)


def _with_texts(form: Map, one: Property | Argument | Method) -> Map:
    for key, text in (("unit", getattr(one, "unit", "")), ("desc", one.description)):
        if text:
            form[key] = text.encode()[:_MAX_TEXT].decode(errors="ignore")
    return form


def _property_map(one: Property) -> Map:
    access = next(code for code, word in _ACCESS.items() if word is one.access)
    rest = {"access": UByte(access), "index": UByte(one.index), "optional": UByte(one.optional)}
    return _described(one) | rest


def _method_map(one: Method) -> Map:
    return _with_texts({"name": one.name, "argCount": UInt(len(one.arguments))}, one)


def _argument_map(one: Argument) -> Map:
    return _described(one) | {"dir": one.direction.value}


def _read_schema(reader: Reader) -> Schema:
    kind = _KINDS.get(reader.read_uint(1))
    if kind is None:
        raise DecodeError("a class is of kind 1, data, or 2, event")
    package, name = reader.read_str8(), reader.read_str8()
    schema = SchemaId(package, name, kind, UUID(bytes=reader.read_bytes(16)))
    if kind is Kind.EVENT:
        return Schema(id=schema, properties=_read_properties(reader, reader.read_uint(2)))
    properties, statistics, methods = (reader.read_uint(2) for _ in range(3))
    return Schema(
        id=schema,
        properties=_read_properties(reader, properties) + _read_properties(reader, statistics, statistic=True),
        methods=tuple(_read_method(reader) for _ in range(methods)),
    )


def _read_properties(reader: Reader, count: int, *, statistic: bool = False) -> tuple[Property, ...]:
    return tuple(_read_property(reader.read_map(), statistic) for _ in range(count))


def _read_property(form: Map, statistic: bool) -> Property:
    return Property(
        **_read_common(form),
        access=_ACCESS.get(field(form, "access", int, 3), Access.READ_ONLY),
        index=bool(field(form, "index", int, 0)),
        optional=bool(field(form, "optional", int, 0)),
        statistic=statistic,
    )


def _read_method(reader: Reader) -> Method:
    form = reader.read_map()
    return Method(
        name=field(form, "name", str),
        description=field(form, "desc", str, ""),
        arguments=tuple(_read_argument(reader.read_map()) for _ in range(field(form, "argCount", int, 0))),
    )


def _read_argument(form: Map) -> Argument:
    try:
        direction = Direction(field(form, "dir", str, "I").upper())
    except ValueError as error:
        raise FormError(str(error)) from None
    return Argument(**_read_common(form), direction=direction)


def _read_common(form: Map) -> Map:
    code = field(form, "type", int)
    if code not in _TYPES:
        raise FormError(f"there is no type {code}")
    kind, subtype, unsigned = _TYPES[code]
    texts = {"unit": field(form, "unit", str, ""), "description": field(form, "desc", str, "")}
    return {"name": field(form, "name", str), "type": kind, "subtype": subtype, "unsigned": unsigned} | texts
