# SPDX-License-Identifier: Apache-2.0
"""Text from a command line to the value a parameter takes."""

from __future__ import annotations

import json
import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .index import Index

TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
NONE = "none"

_FACTORS: dict[str, dict[str, float]] = {
    "MiB": {"m": 1, "mib": 1, "g": 1024, "gib": 1024, "t": 1024 * 1024, "tib": 1024 * 1024},
    "B": {"k": 2**10, "kib": 2**10, "m": 2**20, "mib": 2**20, "g": 2**30, "gib": 2**30, "t": 2**40, "tib": 2**40},
    "s": {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400},
}


class BadValue(ValueError):
    """The text is none of what the parameter takes; says what it takes."""


def value(index: Index, shape: dict[str, Any], text: str) -> Any:
    """One value of a shape. Raises BadValue."""
    kind = shape["k"]
    if shape.get("null") and text == NONE and kind not in ("str", "secret"):
        return None
    if kind == "bool":
        return _flag(text)
    if kind in ("int", "float", "names"):
        return _number(text, kind != "float", shape.get("unit", ""))
    if kind == "enum":
        return _choice(text, shape["of"])
    if kind == "struct":
        return _struct(index, shape["name"], text)
    if kind == "list":
        return [value(index, shape["of"], part) for part in text.split(",")] if text else []
    if kind == "map":
        return dict([pair(index, shape["of"], text)])
    if shape.get("file") and text.startswith("@"):
        return read_file(text[1:])
    return text


def pair(index: Index, shape: dict[str, Any], text: str) -> tuple[str, Any]:
    """`name=value`. Raises BadValue."""
    name, mark, rest = text.partition("=")
    if not mark or not name:
        raise BadValue(f"expected name=value, got {text!r}")
    return name, value(index, shape, rest)


def read_file(name: str) -> str:
    """Raises BadValue."""
    try:
        with open(name, encoding="utf-8") as source:
            return source.read()
    except (OSError, UnicodeDecodeError) as error:
        raise BadValue(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def example(index: Index, shape: dict[str, Any]) -> str:
    """What a value looks like, for help."""
    kind = shape["k"]
    if kind == "bool":
        return "true|false"
    if kind == "enum":
        return "|".join(shape["of"])
    if kind == "names":
        return "|".join(shape["of"])
    if kind == "struct":
        fields = index["types"][shape["name"]]
        text = ",".join(f"{kebab(f)}={example(index, f['type'])}" for f in fields)
        return f"{text} or none" if shape.get("null") else text
    if kind in ("list", "map"):
        inner = example(index, shape["of"])
        return f"NAME={inner}" if kind == "map" else inner
    words = {"MiB": "MIB|2G", "s": "SECONDS", "B": "BYTES|10G"}
    if shape.get("file"):
        return "@FILE"
    return words.get(shape.get("unit", ""), {"int": "N", "float": "X", "secret": "@FILE|-"}.get(kind, "TEXT"))


def kebab(field: dict[str, Any]) -> str:
    name: str = field["py"].rstrip("_").replace("_", "-")
    return name


def _flag(text: str) -> bool:
    if text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise BadValue(f"expected true or false, got {text!r}")


def _number(text: str, whole: bool, unit: str) -> int | float:
    """A number, also with a suffix of its unit: 2G for 2048 MiB, 5m for 300 s."""
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    suffix = text[len(digits) :].strip().lower()
    factors = _FACTORS.get(unit, {})
    wanted = "a whole number" if whole else "a number"
    if factors:
        wanted += f" ({unit}, or with one of {', '.join(factors)})"
    try:
        if suffix and suffix not in factors:
            raise ValueError
        number: int | float = int(digits) if whole and not suffix else float(digits)
    except ValueError:
        raise BadValue(f"expected {wanted}, got {text!r}") from None
    number *= factors[suffix] if suffix else 1
    if not math.isfinite(number) or (whole and number != int(number)):
        raise BadValue(f"expected {wanted}, got {text!r}")
    return int(number) if whole else number


def _choice(text: str, known: list[str]) -> str:
    found = [k for k in known if k == text] or [k for k in known if k.lower() == text.lower()]
    if not found:
        raise BadValue(f"expected one of {', '.join(known)}, got {text!r}")
    return found[0]


def _struct(index: Index, name: str, text: str) -> Any:
    """`key=value,key=value`, or JSON; a first value without its key is the first field's."""
    if text.startswith("{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise BadValue(f"not JSON: {error}") from None
    fields = index["types"][name]
    known = {word: f for f in fields for word in (kebab(f), f["name"])}
    made: dict[str, Any] = {}
    for at, part in enumerate(text.split(",") if text else []):
        word, mark, rest = part.partition("=")
        field = known.get(word) if mark else None
        if field is None and at == 0 and not mark:
            field, rest = fields[0], part
        if field is None:
            raise BadValue(f"{word!r} is none of {', '.join(kebab(f) for f in fields)}")
        if field["name"] in made:
            raise BadValue(f"{kebab(field)} is there twice")
        try:
            made[field["name"]] = value(index, field["type"], rest)
        except BadValue as fault:
            raise BadValue(f"{kebab(field)}: {fault}") from None
    return made
