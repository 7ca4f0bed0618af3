# SPDX-License-Identifier: Apache-2.0
"""Tables, records and documents: aligned, and harmless to a terminal."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vdsm.shell import show, units
from vdsm.shell.render import headline, render, words
from vdsm.shell.table import Cell, table
from vdsm.shell.text import Look, cells, clean, clean_json, cut
from vdsm.shell.views import event_line

PLAIN = Look()
ID = "83475570-93e1-5285-9ac1-3c2af041745e"
NASTY = "a\x1b[31mred\x9b1m\u202eback\x07\r\n"


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (256, "MiB", "256 MiB"), (2048, "MiB", "2 GiB"), (1536, "MiB", "1.5 GiB"), (0, "B", "0 B"),
        (1023, "B", "1023 B"), (10**15, "B", "909 TiB"), (0, "s", "0 s"), (0.25, "s", "250 ms"), (59, "s", "59 s"),
        (2**40 - 1, "B", "1 TiB"), (125, "s", "2 min 5 s"),
        (3600, "s", "1 h"), (90_061, "s", "1 d 1 h"), (59.9999, "s", "60 s"),
        (12.5, "%", "12.5 %"),
        (100.0, "%", "100 %"), (7, "", "7"),
        (1e300, "time", "1e+300"),
    ],
)  # fmt: skip
def test_units(number: float, unit: str, text: str) -> None:
    assert units.quantity(number, unit) == text


def test_columns_align_also_with_wide_letters() -> None:
    text = table(["A", "B"], [[Cell("機械"), Cell("1", right=True)], [Cell("x"), Cell("100", right=True)]], PLAIN)
    assert text.splitlines() == ["A       B", "機械    1", "x     100"]


def test_a_narrow_terminal_shortens_ids_first_and_then_cuts() -> None:
    rows = [[Cell(ID), Cell("n" * 30), Cell("Up")]]
    assert ID in table(["ID", "NAME", "S"], rows, PLAIN)
    assert table(["ID", "NAME", "S"], rows, Look(width=60)).splitlines()[1] == f"{ID[:8]}  {'n' * 30}  Up"
    narrow = table(["ID", "NAME", "S"], rows, Look(width=25)).splitlines()[1]
    assert narrow.startswith(ID[:8])
    assert "…" in narrow
    assert len(narrow) <= 25


@given(st.lists(st.lists(st.text(max_size=30).map(clean), min_size=3, max_size=3), min_size=1), st.integers(40, 120))
def test_no_line_is_wider_than_the_terminal(texts: list[list[str]], width: int) -> None:
    shown = table(["A", "B", "C"], [[Cell(t) for t in row] for row in texts], Look(width=width))
    assert max(cells(line) for line in shown.split("\n")) <= width


@given(st.text())
def test_nothing_steers_the_terminal(text: str) -> None:
    assert clean(text).isprintable()
    assert clean(clean(text)) == clean(text)


@given(st.text(), st.integers(1, 20))
def test_a_cut_text_fits(text: str, width: int) -> None:
    assert cells(cut(clean(text), width)) <= width


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda t: st.lists(t) | st.dictionaries(st.text(), t)
    )
)
def test_documents_are_harmless_and_whole(value: object) -> None:
    shown = show.document(value, "json")
    assert all(line.isprintable() for line in shown.split("\n"))
    assert json.loads(shown) == value


@pytest.mark.parametrize("value", [{"name": NASTY}, "x", None, {"a": [1, {"b": "ä"}]}, []])
def test_yaml(value: object) -> None:
    shown = show.document(value, "yaml")
    assert yaml.safe_load(shown) == value
    assert all(line.isprintable() for line in shown.split("\n"))


def test_unpaired_halves_of_letters_stay_json() -> None:
    assert json.loads(clean_json(json.dumps("\ud800", ensure_ascii=False))) == "\ud800"


def vm_row(**more: object) -> dict[str, Any]:
    return {
        "vmId": ID, "vmName": "a", "status": "Up", "foreign": False, "kept": True, "autostart": True, "memory": 2048,
        "vcpus": 2, "accelerator": "tcg", "cpuUsage": 3.25, "elapsedTime": 65, **more,
    }  # fmt: skip


def test_a_list_of_machines(index: dict[str, Any]) -> None:
    shape = index["verbs"]["VM.list"]["result"]
    head, row, nasty = render(index, shape, [vm_row(), vm_row(vmName=NASTY)], PLAIN).splitlines()
    assert head.split() == [
        "ID", "NAME", "STATUS", "MEMORY", "VCPUS", "ACCELERATOR", "CPU", "USAGE", "ELAPSED", "TIME", "FLAGS",
    ]  # fmt: skip
    for part in (ID, "2 GiB", "3.2 %", "1 min 5 s", "kept,autostart"):
        assert part in row
    assert "\\x1b[31mred" in nasty


def test_columns_nobody_fills_are_left_out(index: dict[str, Any]) -> None:
    shape = index["verbs"]["VM.list"]["result"]
    text = render(index, shape, [vm_row(cpuUsage=None, elapsedTime=None)], PLAIN)
    assert "CPU USAGE" not in text
    assert render(index, shape, [{"vmName": "a"}], PLAIN).splitlines() == ["NAME", "a"]


def test_colours_only_where_wanted(index: dict[str, Any]) -> None:
    shape = index["verbs"]["VM.list"]["result"]
    assert "\x1b" not in render(index, shape, [vm_row()], PLAIN)
    assert "\x1b[32mUp\x1b[0m" in render(index, shape, [vm_row()], Look(color=True))


def test_every_result_type_can_be_shown(index: dict[str, Any]) -> None:
    """Of each verb, an answer with nothing in it and one with something everywhere."""

    def sample(shape: dict[str, Any], full: bool, depth: int = 0) -> Any:
        kind = shape["k"]
        if shape.get("null") and not full:
            return None
        if kind == "struct":
            fields = index["types"][shape["name"]]
            return {f["name"]: sample(f["type"], full, depth + 1) for f in fields if depth < 6}
        if kind == "union":
            return {"type": "VM_status", "status": "Up", "vmName": "a"}
        if kind in ("list", "map"):
            inner = [sample(shape["of"], full, depth + 1)] if full else []
            return inner if kind == "list" else {f"k{i}": v for i, v in enumerate(inner)}
        simple = {"int": 5, "float": 1.5, "bool": True, "str": "text", "secret": "s", "names": -1, "none": None}
        return shape["of"][0] if kind == "enum" else simple[kind]

    for method, verb in index["verbs"].items():
        for full in (False, True):
            if verb["result"] is not None:
                text = render(index, verb["result"], sample(verb["result"], full), PLAIN, alone=True)
                assert all(line.isprintable() for line in text.split("\n")), method


def test_an_event(index: dict[str, Any]) -> None:
    data = {"type": "VM_status", "vmId": ID, "vmName": NASTY, "status": "Up", "reason": "start", "pauseCode": ""}
    usual = {"foreign": False, "timeOffset": 0}
    line = event_line({"id": 7, "time": 0.0, "severity": "info", "subject": ID, "data": {**data, **usual}}, PLAIN)
    assert line.startswith("7  19")
    assert line.endswith("Up, reason: start")
    assert line.isprintable()


@pytest.mark.parametrize(
    ("name", "text"),
    [("memSize", "mem size"), ("ISCSIInitiatorName", "iscsi initiator name"), ("supportedENGINEs", "supported engines"),
     ("vm.free_hugepages", "vm.free hugepages"), ("systemUUID", "system uuid")],
)  # fmt: skip
def test_words(name: str, text: str) -> None:
    assert words(name) == text


def test_headlines_leave_out_what_the_command_says(index: dict[str, Any]) -> None:
    assert headline(index, "vmName") == "NAME"
    assert headline(index, "vmware") == "VMWARE"
