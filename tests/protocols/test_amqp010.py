# SPDX-License-Identifier: Apache-2.0
"""Maps and lists of AMQP 0-10: known bytes, there and back, and any bytes at all."""

from __future__ import annotations

import time
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdsm.protocols.amqp import UByte, UInt, ULong
from vdsm.protocols.amqp010 import (
    MAX_DEPTH,
    MAX_ITEMS,
    DecodeError,
    EncodeError,
    decode_list,
    decode_map,
    encode_list,
    encode_map,
)

ID = UUID("00112233-4455-6677-8899-aabbccddeeff")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | texts
    | st.binary(max_size=20)
    | st.uuids()
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))
some_maps = st.dictionaries(texts, values, max_size=6)


@given(some_maps)
def test_a_map_is_read_as_it_was_written(value: dict[str, object]) -> None:
    assert decode_map(encode_map(value)) == value


@given(st.lists(values, max_size=6))
def test_a_list_is_read_as_it_was_written(value: list[object]) -> None:
    assert decode_list(encode_list(value)) == value


@pytest.mark.parametrize(
    ("hexadecimal", "value"),
    [
        ("00000004 00000000", {}),
        ("00000000", {}),
        ("", {}),
        ("0000000c 00000001 01 61 95 0003 78797a", {"a": "xyz"}),
        ("0000000a 00000001 01 61 21 ffffffff", None),  # its size is one too small
        ("0000000b 00000001 01 61 21 ffffffff", {"a": -1}),
        ("0000000f 00000001 01 61 32 ffffffffffffffff", {"a": 2**64 - 1}),
        ("00000017 00000001 01 61 48 00112233445566778899aabbccddeeff", {"a": ID}),
        ("00000008 00000001 01 61 08 01", {"a": True}),
        ("00000007 00000001 01 61 f0", {"a": None}),
        ("00000009 00000001 01 61 80 01 ff", {"a": b"\xff"}),
        ("0000000d 00000001 01 61 a0 00000002 fffe", {"a": b"\xff\xfe"}),
        ("0000000a 00000001 01 61 86 02 00e9", {"a": "é"}),
        ("00000010 00000001 01 61 aa 00000005 08 00000000", {"a": []}),
        ("00000012 00000001 01 61 aa 00000007 11 00000001 0005", {"a": [5]}),
        ("00000012 00000001 01 61 a8 00000007 00000001 01 62 f1", {"a": {"b": True}}),
        ("0000000b 00000001 01 61 22 ffffffff", {"a": 2**32 - 1}),
        ("0000000c 00000001 01 61 c0 0102030405", {"a": b"\1\2\3\4\5"}),
    ],
)
def test_known_bytes(hexadecimal: str, value: object) -> None:
    data = bytes.fromhex(hexadecimal)
    if value is None:
        with pytest.raises(DecodeError):
            decode_map(data)
    else:
        assert decode_map(data) == value


def test_the_types_that_python_does_not_have_keep_their_width() -> None:
    written = encode_map({"a": UByte(1), "b": UInt(1), "c": ULong(1), "d": 1})
    assert written.hex(" ") == (
        "00 00 00 25 00 00 00 04 01 61 02 01 01 62 22 00 00 00 01"
        " 01 63 32 00 00 00 00 00 00 00 01 01 64 31 00 00 00 00 00 00 00 01"
    )


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_an_error(data: bytes) -> None:
    for decode in (decode_map, decode_list):
        try:
            found = decode(data)
        except DecodeError:
            continue
        assert isinstance(found, dict | list)


@given(some_maps, st.data())
def test_a_map_with_a_byte_changed_or_cut_off_never_breaks_the_reader(
    value: dict[str, object], data: st.DataObject
) -> None:
    raw = bytearray(encode_map(value))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] = data.draw(st.integers(0, 255))
    for damaged in (bytes(raw), bytes(raw[:place])):
        try:
            found = decode_map(damaged)
        except DecodeError:
            continue
        assert len(found) <= len(damaged)


def test_little_data_cannot_ask_for_much_work() -> None:
    nothings = bytes.fromhex("00000010 00000001 01 61 aa 00000005 f0 ffffffff")
    nested = bytes.fromhex("00000000")
    for _ in range(MAX_DEPTH + 2):
        nested = (len(nested) + 5).to_bytes(4, "big") + bytes.fromhex("00000001 a9") + nested
    began = time.perf_counter()
    with pytest.raises(DecodeError, match=f"more than {MAX_ITEMS}"):
        decode_map(nothings)
    with pytest.raises(DecodeError, match="deep"):
        decode_list(nested)
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize("value", [{"a" * 256: 1}, {"a": 2**64}, {"a": UInt(2**32)}, {"a": object()}])
def test_what_has_no_form(value: dict[str, object]) -> None:
    with pytest.raises(EncodeError):
        encode_map(value)


def test_a_value_that_holds_itself_has_no_form() -> None:
    value: dict[str, object] = {}
    value["self"] = value
    with pytest.raises(EncodeError, match="deep"):
        encode_map(value)
