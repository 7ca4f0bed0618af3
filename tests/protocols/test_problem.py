# SPDX-License-Identifier: Apache-2.0
"""Problem documents: both ways, and what strangers send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdsm.protocols.problem import decode, encode

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.fixed_dictionaries(
    {"type": TEXT, "title": TEXT, "status": st.integers(100, 599), "detail": TEXT},
    optional={"hint": TEXT, "facts": st.dictionaries(TEXT, TEXT, max_size=3), "code": st.integers()},
)


@given(MEMBERS, TEXT.filter(bool))
def test_what_is_written_is_read(members: dict[str, object], instance: str) -> None:
    assert decode(encode(members, instance=instance)) == {**members, "instance": instance}
    assert decode(encode(members)) == members


@given(st.dictionaries(TEXT | st.sampled_from(["type", "title", "status", "detail", "instance"]), VALUE, max_size=8))
def test_a_strangers_members_have_the_right_types_or_are_gone(members: dict[str, object]) -> None:
    found = decode(encode(members))
    assert isinstance(found["type"], str)
    for name in ("title", "detail", "instance"):
        assert isinstance(found.get(name, ""), str)
    assert type(found.get("status", 0)) is int
    others = {name for name in members if name not in ("type", "title", "status", "detail", "instance")}
    assert others <= set(found)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_document_or_an_error(document: bytes) -> None:
    try:
        decode(document)
    except ValueError:
        return
    assert document.strip().startswith(b"{")


@pytest.mark.parametrize("document", [b"", b"null", b"[]", b'"x"', b"{", b"[" * 100_000, b"\xff", b'{"a":1e999}'])
def test_what_is_no_object_is_an_error(document: bytes) -> None:
    with pytest.raises(ValueError):
        decode(document)
