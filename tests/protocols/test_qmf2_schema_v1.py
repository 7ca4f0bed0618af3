# SPDX-License-Identifier: Apache-2.0
"""QMFv1's binary schema: known bytes, there and back, and any bytes at all."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdsm.protocols.amqp010 import DecodeError, decode_map
from vdsm.protocols.qmf2 import schema_v1
from vdsm.protocols.qmf2.forms import FormError
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

HASH = UUID("00112233-4455-6677-8899-aabbccddeeff")

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MEANINGS = (
    (Type.INT, "", True), (Type.INT, "", False), (Type.INT, "timestamp", False), (Type.INT, "duration", False),
    (Type.STRING, "", False), (Type.MAP, "", False), (Type.MAP, "reference", False), (Type.MAP, "data", False),
    (Type.LIST, "", False), (Type.BOOL, "", False), (Type.FLOAT, "", False), (Type.UUID, "", False),
)  # fmt: skip


@st.composite
def commons(draw: st.DrawFn) -> dict[str, object]:
    kind, subtype, unsigned = draw(st.sampled_from(MEANINGS))
    return {
        "name": draw(names), "type": kind, "subtype": subtype, "unsigned": unsigned,
        "unit": draw(names), "description": draw(names),
    }  # fmt: skip


properties = st.builds(
    lambda common, access, index, optional: Property(**common, access=access, index=index, optional=optional),
    commons(), st.sampled_from(Access), st.booleans(), st.booleans(),
)  # fmt: skip
statistics = commons().map(lambda common: Property(**common, statistic=True))
arguments = st.builds(lambda common, way: Argument(**common, direction=way), commons(), st.sampled_from(Direction))
methods = st.builds(
    lambda name, args, text: Method(name=name, arguments=tuple(args), description=text),
    names, st.lists(arguments, max_size=4), names,
)  # fmt: skip
classes = st.builds(
    lambda one, first, second, calls: Schema(id=one, properties=tuple(first + second), methods=tuple(calls)),
    st.builds(SchemaId, names, names, st.just(Kind.DATA), st.uuids()),
    st.lists(properties, max_size=4), st.lists(statistics, max_size=4), st.lists(methods, max_size=4),
)  # fmt: skip
event_properties = commons().map(lambda common: Property(**common))
events = st.builds(
    lambda one, values: Schema(id=one, properties=tuple(values)),
    st.builds(SchemaId, names, names, st.just(Kind.EVENT), st.uuids()),
    st.lists(event_properties, max_size=4),
)  # fmt: skip


@given(classes | events, st.integers(0, 2**32 - 1))
def test_a_schema_is_read_as_it_was_written(schema: Schema, sequence: int) -> None:
    assert schema_v1.decode(schema_v1.encode_found(sequence, schema), "a") == OldSchemaAnswer("a", sequence, schema)


@given(names, names, st.uuids(), st.integers(0, 2**32 - 1))
def test_a_question_is_read_as_it_was_written(package: str, name: str, digest: UUID, sequence: int) -> None:
    asked = OldSchemaRequest(sequence, SchemaId(package, name, hash=digest))
    assert schema_v1.decode(schema_v1.encode_request(asked)) == asked


def test_the_bytes_of_a_question() -> None:
    data = bytes.fromhex("414d3253 00000007 08 6f72672e7664736d 02 564d 00112233445566778899aabbccddeeff")
    asked = OldSchemaRequest(7, SchemaId("org.vdsm", "VM", hash=HASH))
    assert schema_v1.decode(data) == asked
    assert schema_v1.encode_request(asked) == data


def test_the_bytes_of_a_class() -> None:
    """Four members are mandatory in a property, and only methods' arguments have a direction."""
    schema = Schema(
        id=SchemaId("p", "C", Kind.DATA, HASH),
        properties=(
            Property(name="id", type=Type.STRING, index=True),
            Property(name="up", type=Type.INT, unsigned=True, statistic=True, unit="s"),
        ),
        methods=(Method(name="go", arguments=(Argument(name="x", type=Type.BOOL, direction=Direction.BOTH),)),),
    )
    data = schema_v1.encode_found(1, schema)
    head = bytes.fromhex("414d3273 00000001 01 0170 0143 00112233445566778899aabbccddeeff 0001 0001 0001")
    assert data.startswith(head)
    found = []
    rest = data[len(head) :]
    while rest:
        end = 4 + int.from_bytes(rest[:4], "big")
        found.append(decode_map(rest[:end]))
        rest = rest[end:]
    assert found == [
        {"name": "id", "type": 7, "access": 3, "index": 1, "optional": 0},
        {"name": "up", "type": 4, "unit": "s"},
        {"name": "go", "argCount": 1},
        {"name": "x", "type": 11, "dir": "IO"},
    ]
    # Only the codes that every console of this form reads: u8, i32, u32, bool and text of two bytes' length.
    assert data[len(head) :][8:].startswith(b"\x04name\x95\x00\x02id\x04type\x02\x07")


def test_the_bytes_of_not_knowing() -> None:
    data = bytes.fromhex("414d327a 00000009 00000001 03 6e6f21")
    assert schema_v1.encode_unknown(9, "no!") == data
    assert schema_v1.decode(data, "a") == OldSchemaAnswer("a", 9, None, "no!")


def test_types_of_our_own_are_the_nearest_old_ones() -> None:
    values = (
        Property(name="a", type=Type.VOID), Property(name="b", type=Type.INT, subtype="MiB", unsigned=True),
        Property(name="c", type=Type.INT, subtype="timestamp", unsigned=True),
    )  # fmt: skip
    answer = schema_v1.decode(schema_v1.encode_found(1, Schema(id=SchemaId("p", "E", Kind.EVENT), properties=values)))
    assert isinstance(answer, OldSchemaAnswer)
    assert answer.schema is not None
    assert [(one.type, one.subtype) for one in answer.schema.properties] == [
        (Type.STRING, ""), (Type.INT, ""), (Type.INT, "timestamp"),
    ]  # fmt: skip


@given(st.sampled_from([b"S", b"s", b"z", b"B", b""]), st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error(opcode: bytes, data: bytes) -> None:
    try:
        found = schema_v1.decode(b"AM2" + opcode + data)
    except (DecodeError, FormError):
        return
    assert isinstance(found, OldSchemaRequest | OldSchemaAnswer)


@given(classes | events, st.data())
def test_damage_never_breaks_the_reader(schema: Schema, data: st.DataObject) -> None:
    raw = bytearray(schema_v1.encode_found(1, schema))
    place = data.draw(st.integers(4, len(raw) - 1))
    raw[place] = data.draw(st.integers(0, 255))
    for damaged in (bytes(raw), bytes(raw[:place])):
        try:
            found = schema_v1.decode(damaged)
        except (DecodeError, FormError):
            continue
        assert isinstance(found, OldSchemaAnswer)


def test_a_large_count_costs_nothing() -> None:
    head = bytes.fromhex("414d3273 00000001 01 0170 0143 00112233445566778899aabbccddeeff ffff ffff ffff")
    with pytest.raises(DecodeError):
        schema_v1.decode(head)
