# SPDX-License-Identifier: Apache-2.0
"""Nothing goes onto the bus that would silence a console, and nothing monstrous is taken from it."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdsm.protocols.amqp import UByte, UInt, ULong
from vdsm.protocols.amqp010 import decode_map, encode_map
from vdsm.protocols.qmf2.guard import Limits, Unacceptable, Unsendable, incoming, outgoing


class Letter(str):
    """As a library has a type for a single character."""

    __slots__ = ()


class Colour(StrEnum):
    RED = "red"


any_text = st.text(max_size=30) | st.sampled_from(["x" * 65_535, "x" * 65_536, "é" * 40_000, "\ud800", "\0"])
any_key = any_text | st.integers() | st.none() | st.booleans() | st.just(Letter("k"))
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.builds(UByte, st.integers(-5, 300))
    | st.builds(UInt, st.integers(-5, 2**33))
    | st.builds(ULong, st.integers(-5, 2**65))
    | st.floats()
    | any_text
    | st.binary(max_size=20)
    | st.uuids()
    | st.just(Letter("c"))
    | st.just(Colour.RED)
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(any_key, inner, max_size=4)
        | st.sets(st.integers(), max_size=3)
    ),
)


def assert_harmless(value: Any) -> None:
    """What qpidd forwards without closing anybody's connection."""
    match value:
        case None | bool() | float() | UUID() | bytes():
            pass
        case str():
            assert type(value) is str
            assert len(value.encode()) < 65_536
        case UByte() | UInt() | ULong():
            assert 0 <= value < {UByte: 2**8, UInt: 2**32, ULong: 2**64}[type(value)]
        case int():
            assert type(value) is int
            assert -(2**63) <= value < 2**63
        case dict():
            for key, one in value.items():
                assert type(key) is str
                assert len(key.encode()) < 256
                assert_harmless(one)
        case list():
            for one in value:
                assert_harmless(one)
        case _:
            pytest.fail(f"{value!r} has no form in AMQP")


@given(anything)
def test_nothing_poisonous_is_sent(value: object) -> None:
    fit = outgoing(value)
    assert_harmless(fit)
    encode_map({"value": fit})  # and AMQP 0-10, which every console we know of speaks, has a form for it


safe = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.uuids() | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=4),
)  # fmt: skip


@given(safe)
def test_what_is_fit_is_sent_as_it_is_and_taken_as_it_was(value: object) -> None:
    assert outgoing(value) == value
    assert incoming(outgoing(value), Limits()) == value


@given(st.sets(st.text(max_size=4), max_size=5), st.integers(250, 400))
def test_long_keys_stay_apart(ends: set[str], length: int) -> None:
    value = {"k" * length + end: number for number, end in enumerate(sorted(ends - {"?"}))}
    fit = outgoing(value)
    assert isinstance(fit, dict)
    assert list(fit.values()) == list(value.values())


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1])
def test_a_number_with_no_type_keeps_its_digits(number: int) -> None:
    assert outgoing(number) == f"{number}"


def test_a_long_text_arrives_as_text_again() -> None:
    text = "é" * 50_000
    sent = outgoing({"xml": text})
    assert incoming(sent, Limits()) == {"xml": text}
    assert incoming(decode_map(encode_map(sent)), Limits()) == {"xml": text}


def test_what_cannot_be_sent_is_our_own_mistake() -> None:
    loop: list[object] = []
    loop.append({"again": loop})
    for value in (loop, object(), {"a": [range(3)]}):
        with pytest.raises(Unsendable):
            outgoing(value)


def test_binary_from_older_peers_is_text_where_it_can_be() -> None:
    taken = incoming({b"a": [b"b", memoryview(b"c"), {"d": b"\xff\xfe"}], "e": Letter("f")}, Limits())
    assert taken == {"a": ["b", "c", {"d": b"\xff\xfe"}], "e": "f"}
    assert type(taken["e"]) is str


def deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (deep(40), "deep"),
        (deep(5000), "deep"),
        ("x" * 1_000_000, "bytes of text"),
        (["x" * 1000] * 1000, "bytes of text"),
        ([{"x" * 1_000_000: 1}], "bytes of text"),
        ([{b"x" * 1_000_000: 1}], "bytes of text"),
        ([None] * 100_000, "values"),
        ({1: "a"}, "keys"),
        ({("a",): "a"}, "keys"),
        ({b"\xff": "a"}, "keys"),
        ([object()], "type object"),
        (math.inf.as_integer_ratio, "type builtin"),
    ],
)
def test_what_is_not_taken(value: object, reason: str) -> None:
    with pytest.raises(Unacceptable, match=reason):
        incoming(value, Limits())


@given(anything)
def test_whatever_comes_is_taken_or_refused(value: object) -> None:
    try:
        taken = incoming(value, Limits(depth=6, items=30, size=1000))
    except Unacceptable:
        return
    assert outgoing(taken) is not None or taken is None
