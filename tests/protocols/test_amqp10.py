# SPDX-License-Identifier: Apache-2.0
"""Bodies as AMQP 1.0: what is written is what Proton, another's reader, reads."""

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
    "body", [{"a": 2**63}, {"a": ULong(2**64)}, {"a": UByte(-1)}, {"a": object()}, {"a": "\ud800"}], ids=repr
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
