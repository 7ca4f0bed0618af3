# SPDX-License-Identifier: Apache-2.0
"""`KEY=value` lines, as every metadata file of a storage domain has them. Such a file is hostile until it is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

E = TypeVar("E", bound=StrEnum)

_KEY = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NUMBER = re.compile(r"-?[0-9]{1,19}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


class Malformed(ValueError):
    """A metadata file that cannot be what it should be; the text says why."""


def split(lines: list[str]) -> dict[str, str]:
    """Raises Malformed for a line that is none, and for a key that is there twice."""
    found: dict[str, str] = {}
    printable = not _UNPRINTABLE.search("".join(lines))
    for line in lines:
        key, mark, value = line.partition("=")
        if not mark or not _KEY.fullmatch(key):
            raise Malformed(f"it has a line that is no KEY=value: {line[:40]!r}")
        if key in found:
            raise Malformed(f"it has {key} twice")
        if not printable and _UNPRINTABLE.search(value):
            raise Malformed(f"its {key} has control characters")
        found[key] = value
    return found


class Fields:
    """Takes typed values out of the lines; what is left over is kept as it is."""

    def __init__(self, lines: Mapping[str, str]) -> None:
        self._left = dict(lines)

    def text(self, key: str, default: str | None = None) -> str:
        value = self._left.pop(key, default)
        if value is None:
            raise Malformed(f"it has no {key}")
        return value

    def number(self, key: str, least: int, most: int, default: int | None = None) -> int:
        text = self.text(key, None if default is None else str(default))
        if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
            raise Malformed(f"its {key} is {text[:40]!r}, not a number from {least} to {most}")
        return int(text)

    def uuid(self, key: str) -> str:
        return _as_uuid(key, self.text(key))

    def uuids(self, key: str) -> tuple[str, ...]:
        text = self.text(key, "")
        return tuple(_as_uuid(key, part) for part in text.split(",")) if text else ()

    def pairs(self, key: str) -> dict[str, str]:
        """`<uuid>:<word>,<uuid>:<word>`."""
        found: dict[str, str] = {}
        text = self.text(key, "")
        for part in text.split(",") if text else []:
            name, mark, word = part.partition(":")
            if not mark or _as_uuid(key, name) in found:
                raise Malformed(f"its {key} has {part[:60]!r}")
            found[name] = word
        return found

    def word(self, key: str, kind: type[E]) -> E:
        text = self.text(key)
        try:
            return kind(text)
        except ValueError:
            raise Malformed(f"its {key} is {text[:40]!r}, none of {', '.join(kind)}") from None

    def rest(self) -> dict[str, str]:
        """Lines that nobody took."""
        return dict(self._left)


def _as_uuid(key: str, text: str) -> str:
    if not _UUID.fullmatch(text):
        raise Malformed(f"its {key} is {text[:40]!r}, which is no id")
    return text


def is_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None
