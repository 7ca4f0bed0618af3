# SPDX-License-Identifier: Apache-2.0
"""AMQP 1.0: what is written is what Proton, another's codec, reads, and what it writes is read as it was meant."""

from __future__ import annotations

import math
import uuid
from typing import Any

import proton
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdsm.protocols.amqp import UByte, UInt, ULong
from vdsm.protocols.amqp10 import encode_body
from vdsm.protocols.amqp10_reading import MOST_VALUES, DecodeError, decode_message

KINDS = {UByte: proton.ubyte, UInt: proton.uint, ULong: proton.ulong, int: int}
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.integers(0, 2**8 - 1).map(UByte)
    | st.integers(0, 2**32 - 1).map(UInt)
    | st.integers(0, 2**64 - 1).map(ULong)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
    | st.uuids()
    | st.binary(max_size=300)
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner, max_size=5)
)
bodies = st.dictionaries(st.text(max_size=9), values, max_size=5) | st.lists(values, max_size=5)


def read(encoded: bytes) -> proton.Message:
    message = proton.Message()
    message.decode(encoded)
    return message


def same(read: Any, written: Any) -> bool:
    match written:
        case dict():
            return set(read) == set(written) and all(same(read[key], item) for key, item in written.items())
        case list():
            return len(read) == len(written) and all(map(same, read, written))
        case bytes():
            return bytes(read) == written
        case bool() | None:
            return read is written
        case int():
            return read == written and type(read) is KINDS[type(written)]
    return type(read) is type(written) and bool(read == written)


@given(bodies)
def test_any_body_is_read_as_it_was_written(body: Any) -> None:
    assert same(read(encode_body(body)).body, body)


@given(st.lists(values, max_size=5))
def test_a_list_may_be_a_sequence(body: list[Any]) -> None:
    message = read(encode_body(body, list_as_sequence=True))
    assert message.inferred
    assert same(message.body, body)


@pytest.mark.parametrize("body", [b"", b"\0" * 300, None])
def test_bytes_are_data_and_nothing_is_null(body: bytes | None) -> None:
    message = read(encode_body(body))
    assert message.inferred == (body is not None)
    assert body == (None if message.body is None else bytes(message.body))


@pytest.mark.parametrize("count", [0, 1, 126, 127, 128, 255, 256, 70_000])
@pytest.mark.parametrize("item", [None, 1, "text", {"a": []}], ids=repr)
def test_every_size_has_its_form(count: int, item: Any) -> None:
    if count * 4 > 65_000 and item is not None:
        return  # more than Proton reads
    body = [item] * min(count, 65_000)
    assert read(encode_body(body)).body == body
    named = {f"k{number}": item for number in range(min(count, 16_000))}
    assert read(encode_body(named)).body == named


@pytest.mark.parametrize(
    "body", [{"a": 2**63}, {"a": ULong(2**64)}, {"a": UByte(-1)}, {"a": object}, {"a": "\ud800"}], ids=repr
)
def test_what_has_no_form_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        encode_body(body)


def test_depth_without_end_is_refused() -> None:
    body: dict[str, Any] = {}
    body["a"] = [body]
    with pytest.raises(ValueError, match="deep"):
        encode_body(body)


def test_numbers_that_are_none_arrive_as_such() -> None:
    (value,) = read(encode_body([math.nan])).body
    assert math.isnan(value)
    assert read(encode_body([uuid.UUID(int=7)])).body == [uuid.UUID(int=7)]


# ---- reading ---------------------------------------------------------------------------------------------------------

# What Proton is given, and what is to come of it.
foreign = (
    leaves.map(lambda value: (KINDS.get(type(value), lambda same: same)(value), value))
    | st.integers(-128, 127).map(lambda n: (proton.byte(n), n))
    | st.integers(0, 2**16 - 1).map(lambda n: (proton.ushort(n), n))
    | st.integers(-(2**31), 2**31 - 1).map(lambda n: (proton.int32(n), n))
    | st.integers(0, 2**60).map(lambda n: (proton.timestamp(n), n))
    | st.floats(width=32, allow_nan=False).map(lambda f: (proton.float32(f), f))
    | st.text(st.characters(max_codepoint=127), max_size=20).map(lambda text: (proton.symbol(text), text))
    | st.characters(exclude_categories=["Cs"]).map(lambda one: (proton.char(one), one))
    | st.integers(0, 9).map(lambda n: (proton.Described(proton.symbol("x"), n), n))
    | st.lists(st.integers(0, 9), max_size=4).map(
        lambda items: (proton.Array(proton.UNDESCRIBED, proton.Data.LONG, *items), items)
    )
)


@given(st.dictionaries(st.text(max_size=9), foreign, max_size=6), st.booleans())
def test_what_another_writes_is_read(pairs: dict[str, Any], in_list: bool) -> None:
    theirs, ours = ({key: pair[side] for key, pair in pairs.items()} for side in (0, 1))
    message = proton.Message([theirs] if in_list else theirs)
    message.inferred = in_list
    assert repr(decode_message(bytes(message.encode())).body) == repr([ours] if in_list else ours)


def test_every_part_of_a_head_is_read() -> None:
    message: Any = proton.Message(body=b"data", subject="s", address="to", reply_to="r", id=uuid.uuid4())
    message.correlation_id = uuid.UUID(int=5)
    message.properties = {"a": proton.uint(5), "b": None}
    message.user_id = b"me"
    message.ttl = 2.5
    message.durable = message.first_acquirer = True
    message.delivery_count = 1
    message.content_type = "amqp/map"
    message.annotations = {proton.symbol("x-opt"): [1, 2]}
    message.creation_time = 5.0
    message.group_id, message.group_sequence, message.reply_to_group_id = "g", 1, "h"
    message.inferred = True
    read = decode_message(bytes(message.encode()))
    assert (read.address, read.subject, read.reply_to, read.content_type) == ("to", "s", "r", "amqp/map")
    assert (read.correlation_id, read.user_id, read.ttl, read.redelivered) == (uuid.UUID(int=5), "me", 2.5, True)
    assert (read.properties, read.body) == ({"a": 5, "b": None}, b"data")
    assert type(read.properties["a"]) is UInt


@given(bodies, st.data())
def test_broken_bytes_are_refused_and_nothing_worse(body: Any, data: st.DataObject) -> None:
    whole = bytearray(proton.Message(subject="s", properties={"a": 1}).encode()[:-4] + encode_body(body))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    for broken in (bytes(whole), bytes(whole[:cut])):
        try:
            decode_message(broken)
        except DecodeError:
            pass


@pytest.mark.parametrize(
    "section",
    [
        b"\x00\x53\x77\xf0\x00\x00\x00\x05\xff\xff\xff\xff\x40",  # four thousand million nulls in six bytes
        b"\x00\x53\x77\xd0\x00\x00\x00\x04\xff\xff\xff\xff",
        b"\x00\x53\x77\xd1\x00\x00\x00\x05\x00\x00\x00\x01\x40",
        b"\x00\x53\x77\xb1\xff\xff\xff\xff",
        b"\x00\x53\x77" + b"\x00" * 5000,
        b"\x00\x53\x77" + b"\xc0\x7f\x01" * 5000,
        b"\x00\x53\x77\xc1\x04\x02\x45\x40\x40",  # a list for a key
        b"\x00\x53\x75\x40",
        b"\x00\x53\x99\x40",
        b"\x53\x77\x40",
        b"\x00\x53\x77\x74\x00\x00\x00\x00",  # a decimal
        b"\x00\x53\x77\xa1\x01\xff",
    ],
)
def test_sizes_that_are_not_there_and_forms_that_are_none(section: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_message(section)


def test_more_values_than_are_taken() -> None:
    assert decode_message(encode_body([None] * MOST_VALUES)).body == [None] * MOST_VALUES
    with pytest.raises(DecodeError):
        decode_message(encode_body([None] * (MOST_VALUES + 1)))
