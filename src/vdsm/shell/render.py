# SPDX-License-Identifier: Apache-2.0
"""Answers for people: the shape the contract gives a result decides between a line, a record and a table."""

from __future__ import annotations

from . import units
from .table import Cell, record, table
from .text import DIM, GREEN, RED, YELLOW, Look, clean, clean_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .index import Index

    Shape = dict[str, Any]
    View = Callable[[Index, Any, Look], str]

NOTHING = "-"
COLORS = {
    "Up": GREEN, "done": GREEN, "up": GREEN, "Paused": YELLOW, "running": YELLOW, "warning": YELLOW, "Down": DIM,
    "down": DIM, "failed": RED, "broken": RED, "aborted": YELLOW, "error": RED,
}  # fmt: skip

# Columns of lists whose items have more than a line can hold; others show all they have.
COLUMNS = {
    "TaskRecord": ["id", "verb", "objectId", "state", "progress", "created", "ended", "caller", "problem"],
    "VmStats": [
        "vmId", "vmName", "status", "elapsedTime", "cpuUser", "cpuSys", "memUsage", "vcpuCount", "accelerator",
        "foreign", "exitMessage", "pauseCode",
    ],
    "DiskSummary": ["id", "name", "storage", "size", "format", "status", "reason", "volumes"],
    "VmInfo": ["vmId", "vmName", "status", "memSize", "smp", "accelerator", "arch", "firmware", "foreign", "kept",
               "autostart", "exitMessage"],
    "AuditRecord": ["id", "time", "caller", "method", "verdict", "duration", "arguments"],
}  # fmt: skip


def render(index: Index, shape: Shape, value: Any, look: Look, *, alone: bool = False) -> str:
    """`alone`: the verb is about one object, so a list of one is that one."""
    from .views import VIEWS

    if alone and isinstance(value, list) and len(value) == 1:
        shape, value = shape["of"], value[0]
    if value is None:
        return ""
    if shape["k"] == "struct" and isinstance(value, dict):
        view: View | None = VIEWS.get(shape["name"])
        return view(index, value, look) if view else struct_record(index, shape["name"], value, look)
    if shape["k"] == "list":
        return _list(index, shape["of"], value, look)
    if shape["k"] == "map":
        return _map(index, shape["of"], value, look)
    if isinstance(value, str):
        return clean_lines(value)
    return cell(index, shape, value).text


def struct_record(index: Index, name: str, value: dict[str, Any], look: Look, indent: int = 0) -> str:
    """What fits on a line as `name value`, then what does not, each under its name."""
    short: list[tuple[str, Cell]] = []
    long: list[str] = []
    for field in _present(index, name, [value]):
        item, shape = value[field["name"]], field["type"]
        if _is_flat(shape, item):
            short.append((words(field["name"]), cell(index, shape, item)))
        else:
            long.append(f"{' ' * indent}{look.paint(words(field['name']), DIM)}")
            long.append(_nested(index, shape, item, look, indent + 2))
    lines = [record(short, look, indent)] if short else []
    return "\n".join(lines + long)


def struct_table(index: Index, name: str, items: list[dict[str, Any]], look: Look, keys: list[str] | None = None,
                 indent: int = 0) -> str:  # fmt: skip
    """Rows of one type. Flags stand together in one column, and a column that is empty throughout is left out."""
    fields = _present(index, name, items)
    if chosen := COLUMNS.get(name):
        fields = [f for f in fields if f["name"] in chosen]
    flags = [f for f in fields if f["type"]["k"] == "bool"]
    columns = [f for f in fields if f not in flags]
    headers = [headline(index, f["name"]) for f in columns]
    rows = [[cell(index, f["type"], item.get(f["name"])) for f in columns] for item in items]
    if flags:
        headers.append("FLAGS")
        for row, item in zip(rows, items, strict=True):
            row.append(Cell(",".join(words(f["name"]) for f in flags if item.get(f["name"])) or NOTHING))
    if keys is not None:
        headers.insert(0, "")
        for row, key in zip(rows, keys, strict=True):
            row.insert(0, Cell(clean(key)))
    used = [i for i in range(len(headers)) if any(row[i].text != NOTHING for row in rows)]
    return table([headers[i] for i in used], [[row[i] for i in used] for row in rows], look, indent)


def cell(index: Index, shape: Shape, value: Any) -> Cell:
    """A value on one line."""
    kind = shape["k"]
    if value is None or value == "" or value == [] or value == {}:
        return Cell(NOTHING)
    if kind == "names":
        return Cell(shape["of"].get(str(value), str(value)))
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, int | float):
        unit = shape.get("unit", "")
        return Cell(units.quantity(value, unit), right=unit != "time")
    if isinstance(value, str):
        return Cell(clean(value), color=COLORS.get(value, ""))
    if isinstance(value, list):
        flat = all(isinstance(v, str | int | float) for v in value)
        return Cell(", ".join(clean(str(v)) for v in value) if flat else str(len(value)), right=not flat)
    if "detail" in value:  # a problem
        return Cell(clean(value["detail"]), color=RED)
    if kind == "struct":
        parts = [
            (f["name"], cell(index, f["type"], value[f["name"]]).text) for f in _present(index, shape["name"], [value])
        ]
        return Cell(", ".join(f"{words(n)} {t}" for n, t in parts if t != NOTHING) or NOTHING)
    return Cell(", ".join(f"{clean(k)}={clean(str(v))}" for k, v in value.items()))


def words(name: str) -> str:
    """`memSize` -> `mem size`, `ISCSIName` -> `iscsi name`."""
    spaced = ""
    for at, letter in enumerate(name):
        before, after = name[at - 1 : at], name[at + 1 : at + 3]
        begins = before.islower() or (before.isupper() and len(after) == 2 and after.islower())
        spaced += f" {letter}" if at and letter.isupper() and begins else letter
    return clean(spaced.replace("_", " ").lower())


def headline(index: Index, name: str) -> str:
    """`vmName` -> `NAME`: whose name it is says the command."""
    for noun in index["nouns"]:
        if name.startswith(noun) and name[len(noun) :][:1].isupper():
            name = name[len(noun) :]
    return words(name).upper()


def _list(index: Index, of: Shape, items: list[Any], look: Look) -> str:
    if of["k"] == "struct":
        return struct_table(index, of["name"], items, look) if items else ""
    return "\n".join(cell(index, of, item).text for item in items)


def _map(index: Index, of: Shape, value: dict[str, Any], look: Look) -> str:
    if of["k"] == "struct":
        return struct_table(index, of["name"], list(value.values()), look, list(value)) if value else ""
    if any(isinstance(v, str) and "\n" in v for v in value.values()):
        return "\n".join(f"{look.paint(f'# {clean(k)}', DIM)}\n{clean_lines(v)}" for k, v in value.items())
    return record([(clean(k), cell(index, of, v)) for k, v in value.items()], look)


def _nested(index: Index, shape: Shape, value: Any, look: Look, indent: int) -> str:
    if shape["k"] == "struct":
        return struct_record(index, shape["name"], value, look, indent)
    of = shape["of"]
    if of["k"] == "struct":
        many = list(value.values()) if isinstance(value, dict) else value
        keys = list(value) if isinstance(value, dict) else None
        return struct_table(index, of["name"], many, look, keys, indent)
    if isinstance(value, dict):
        return record([(clean(k), cell(index, of, v)) for k, v in value.items()], look, indent)
    return _wrapped(", ".join(clean(str(v)) for v in value), look, indent)


def _wrapped(text: str, look: Look, indent: int) -> str:
    import textwrap

    space = " " * indent
    return textwrap.fill(text, look.width or 120, initial_indent=space, subsequent_indent=space)


def _is_flat(shape: Shape, value: Any) -> bool:
    if not value or shape["k"] not in ("list", "map", "struct") or "detail" in value:
        return True
    if isinstance(value, list):
        return all(isinstance(v, str | int | float) for v in value) and sum(len(str(v)) + 2 for v in value) < 60
    if shape["k"] == "struct":
        return len(value) <= 4 and not any(isinstance(v, list | dict) for v in value.values())
    return False


def _present(index: Index, name: str, items: list[dict[str, Any]]) -> list[Shape]:
    """The fields the items have: of a type this version knows less of, those it does not know as well."""
    fields: list[Shape] = [f for f in index["types"].get(name, []) if any(f["name"] in item for item in items)]
    known = {f["name"] for f in fields}
    extra = dict.fromkeys(k for item in items for k in item if k not in known)
    return fields + [{"name": k, "type": {"k": "str"}} for k in extra]
