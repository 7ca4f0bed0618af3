# SPDX-License-Identifier: Apache-2.0
"""Text for a terminal: nothing a name holds can steer it, columns align, colours only where they are wanted."""

from __future__ import annotations

import os
import shutil
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"


class Look:
    """How output may look: colours, and the width there is (None: no limit, nothing is shortened)."""

    __slots__ = ("color", "unicode", "width")

    def __init__(self, *, color: bool = False, width: int | None = None, unicode: bool = True) -> None:
        self.color = color
        self.width = width
        self.unicode = unicode

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.color and code and text else text


def look_of(stream: TextIO) -> Look:
    """What this stream allows. https://no-color.org: NO_COLOR, if not empty, wins."""
    terminal = stream.isatty()
    dumb = os.environ.get("TERM", "") in ("", "dumb")
    encoding = (stream.encoding or "").lower().replace("-", "")
    return Look(
        color=terminal and not dumb and not os.environ.get("NO_COLOR"),
        width=shutil.get_terminal_size().columns if terminal else None,
        unicode=encoding.startswith("utf"),
    )


def clean(text: str) -> str:
    """One line, without what moves the cursor, changes colours or turns the direction of writing."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def clean_lines(text: str) -> str:
    """The same for a text of several lines."""
    return "\n".join(clean(line.replace("\t", "    ")) for line in text.split("\n"))


def clean_json(text: str) -> str:
    """A JSON document whose texts hold nothing of the kind, and are the same to a program."""
    if all(line.isprintable() for line in text.split("\n")):
        return text
    return "".join(c if c == "\n" or c.isprintable() else _json_escaped(c) for c in text)


def cells(text: str) -> int:
    """Columns a text takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, width: int, mark: str = "…") -> str:
    """At most so many columns."""
    if cells(text) <= width:
        return text
    while text and cells(text) > width - 1:
        text = text[:-1]
    return text + mark


def say(line: str) -> None:
    """A line for the person, beside the output."""
    print(line, file=sys.stderr, flush=True)


def _escaped(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def _json_escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
