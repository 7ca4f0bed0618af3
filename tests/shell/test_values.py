# SPDX-License-Identifier: Apache-2.0
"""Text from the command line to values."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdsm.shell.describe import describe
from vdsm.shell.values import BadValue, value

INDEX = describe()  # not an argument of property tests: hypothesis would print it

NIC = {"k": "struct", "name": "Nic"}


@pytest.mark.parametrize(
    ("shape", "text", "expected"),
    [
        ({"k": "int"}, "-5", -5),
        ({"k": "int", "unit": "MiB"}, "2G", 2048),
        ({"k": "int", "unit": "MiB"}, "512 MiB", 512),
        ({"k": "int", "unit": "MiB"}, "1.5g", 1536),
        ({"k": "int", "unit": "B"}, "4K", 4096),
        ({"k": "float", "unit": "s"}, "2m", 120.0),
        ({"k": "float", "unit": "s"}, "100ms", 0.1),
        ({"k": "float"}, "1e3", 1000.0),
        ({"k": "bool"}, "Yes", True),
        ({"k": "bool"}, "off", False),
        ({"k": "enum", "of": ["DEBUG", "INFO"]}, "debug", "DEBUG"),
        ({"k": "list", "of": {"k": "int"}}, "1,2", [1, 2]),
        ({"k": "list", "of": {"k": "int"}}, "", []),
        ({"k": "map", "of": {"k": "str"}}, "a=b=c", {"a": "b=c"}),
        ({"k": "str"}, "@home", "@home"),
        ({"k": "str", "null": True}, "none", "none"),
        (NIC | {"null": True}, "none", None),
        (NIC, "kind=bridge,source=br0", {"kind": "bridge", "source": "br0"}),
        (NIC, "user", {"kind": "user"}),
        (NIC, '{"kind": "user"}', {"kind": "user"}),
        ({"k": "struct", "name": "Disk"}, "/a.qcow2,format=qcow2,read-only=true",
         {"path": "/a.qcow2", "format": "qcow2", "readOnly": True}),
    ],
)  # fmt: skip
def test_what_is_understood(index: dict[str, Any], shape: dict[str, Any], text: str, expected: object) -> None:
    found = value(index, shape, text)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("shape", "text", "words"),
    [
        ({"k": "int"}, "1.5", "whole number"),
        ({"k": "int"}, "", "whole number"),
        ({"k": "int", "unit": "MiB"}, "5X", "mib"),
        ({"k": "int", "unit": "MiB"}, "0.3m", "whole number"),
        ({"k": "float"}, "nan", "a number"),
        ({"k": "float"}, "1e999", "a number"),
        ({"k": "bool"}, "maybe", "true or false"),
        ({"k": "enum", "of": ["a", "b"]}, "c", "a, b"),
        ({"k": "map", "of": {"k": "str"}}, "nothing", "name=value"),
        (NIC, "kind=warp", "kind: expected one of"),
        (NIC, "user,speed=1", "'speed' is none of kind, source"),
        (NIC, "user,kind=user", "twice"),
        (NIC, "{", "JSON"),
    ],
)
def test_what_is_not(index: dict[str, Any], shape: dict[str, Any], text: str, words: str) -> None:
    with pytest.raises(BadValue, match=words):
        value(index, shape, text)


def test_a_long_text_can_come_from_a_file(index: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "d.xml").write_text("<domain/>")
    shape = {"k": "str", "file": True}
    assert value(index, shape, f"@{tmp_path}/d.xml") == "<domain/>"
    with pytest.raises(BadValue, match="cannot be read: No such file"):
        value(index, shape, f"@{tmp_path}/none")


@given(st.integers(-(2**63), 2**63))
def test_integers_come_back(number: int) -> None:
    assert value(INDEX, {"k": "int"}, str(number)) == number


@given(st.text())
def test_whatever_is_typed_is_a_value_or_a_bad_value(text: str) -> None:
    for shape in ({"k": "int", "unit": "s"}, {"k": "float"}, NIC, {"k": "bool"}, {"k": "list", "of": {"k": "int"}}):
        with contextlib.suppress(BadValue):
            value(INDEX, shape, text)
