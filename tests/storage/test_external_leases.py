# SPDX-License-Identifier: Apache-2.0
"""The index of external leases: byte for byte as existing hosts write it, and never believed when it cannot be true."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdsm.core.storage.format import external_leases as xleases
from vdsm.core.storage.format.lines import Malformed

MiB = 1 << 20
GOLDEN = Path(__file__).with_name("golden") / "xleases.index.512"  # the header and the first two records
DOMAIN = "11111111-1111-4111-8111-111111111111"
CHANGED = 1795369135

names = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=48)


def put(index: bytes, name: str, number: int, alignment: int = MiB) -> bytes:
    at = xleases.record_offset(number, alignment) - alignment
    return index[:at] + xleases.record(name, number, alignment) + index[at + xleases.RECORD_BYTES :]


def test_an_empty_one_is_that_of_existing_hosts() -> None:
    index = xleases.empty(DOMAIN, CHANGED)
    assert index[: GOLDEN.stat().st_size] == GOLDEN.read_bytes()
    assert len(index) == xleases.INDEX_BYTES == 512 + 3960 * 64
    found = xleases.decode(index, MiB)
    assert (found.lockspace, found.changed, found.records, found.updating) == (DOMAIN, CHANGED, {}, False)
    assert found.free() == 0


def test_where_things_lie() -> None:
    assert xleases.lease_offset(0, MiB) == 3 * MiB
    assert xleases.lease_offset(7, 8 * MiB) == 80 * MiB
    assert xleases.record_offset(0, MiB) == MiB + 512
    assert xleases.record("vm", 2, MiB) == b"vm".ljust(48, b"\0") + b"\0" + b"00005242880" + b"\0--\n"


@given(held=st.dictionaries(names, st.integers(0, xleases.RECORDS - 1), max_size=20), big=st.booleans())
def test_what_is_written_is_read(held: dict[str, int], big: bool) -> None:
    alignment = 8 * MiB if big else MiB
    kept: dict[int, str] = {number: name for name, number in held.items()}
    index = xleases.empty(DOMAIN, CHANGED)
    for number, name in kept.items():
        index = put(index, name, number, alignment)
    found = xleases.decode(index, alignment)
    assert found.records == {name: number for number, name in kept.items()}
    assert found.free() == min(set(range(len(kept) + 1)) - set(kept))


def test_a_full_one() -> None:
    index = xleases.header(DOMAIN, CHANGED) + b"".join(
        xleases.record(f"lease{number}", number, MiB) for number in range(xleases.RECORDS)
    )
    assert xleases.decode(index, MiB).free() is None


def test_one_that_was_being_changed() -> None:
    index = xleases.header(DOMAIN, CHANGED, updating=True) + xleases.empty(DOMAIN, CHANGED)[512:]
    assert xleases.decode(index, MiB).updating


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        (xleases.empty(DOMAIN, CHANGED)[:-1], "cut off"),
        (bytes(xleases.INDEX_BYTES), "begin"),
        (xleases.empty(DOMAIN, CHANGED).replace(b"0001", b"0002", 1), "begin"),
        (xleases.empty(DOMAIN, CHANGED).replace(b"1795369135", b"179536913x"), "number"),
        (put(put(xleases.empty(DOMAIN, CHANGED), "vm", 1), "vm", 2), "twice"),
        (put(xleases.empty(DOMAIN, CHANGED), "vm", 1, 2 * MiB), "not that of record"),
        (put(xleases.empty(DOMAIN, CHANGED), "vm", 1).replace(b"vm", b"v\n"), "printable"),
        (put(xleases.empty(DOMAIN, CHANGED), "vm", 1).replace(b"vm", b"v\xff"), "printable"),
        (xleases.empty(DOMAIN, CHANGED)[:-1] + b"x", "end"),
    ],
)
def test_what_is_not_believed(index: bytes, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        xleases.decode(index, MiB)


@pytest.mark.parametrize("name", ["n" * 49, "a\nb", "ü", "a\0b"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(Malformed, match="name"):
        xleases.record(name, 0, MiB)


@given(data=st.binary(max_size=200), at=st.integers(0, xleases.INDEX_BYTES - 1))
def test_garbage_is_refused_or_read_truly(data: bytes, at: int) -> None:
    index = xleases.empty(DOMAIN, CHANGED)
    garbled = (index[:at] + data + index[at + len(data) :])[: xleases.INDEX_BYTES]
    try:
        found = xleases.decode(garbled, MiB)
    except Malformed:
        return
    assert all(name.isprintable() and 0 <= number < xleases.RECORDS for name, number in found.records.items())
