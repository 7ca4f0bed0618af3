# SPDX-License-Identifier: Apache-2.0
"""Aligned tables and records."""

from __future__ import annotations

from .text import BOLD, DIM, Look, cells, cut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

GAP = "  "
SHORT_ID = 8  # a beginning of an id that is as good as the whole to every command
NARROWEST = 8


class Cell:
    """A text, how it is painted, and to which side it goes."""

    __slots__ = ("color", "right", "text")

    def __init__(self, text: str, *, color: str = "", right: bool = False) -> None:
        self.text = text
        self.color = color
        self.right = right


def table(headers: Sequence[str], rows: Sequence[Sequence[Cell]], look: Look, indent: int = 0) -> str:
    """Rows below headers. Where the terminal is too narrow ids are shortened, then the widest columns cut."""
    rights = [bool(rows) and all(row[i].right or row[i].text == "-" for row in rows) for i in range(len(headers))]
    texts = [[cell.text for cell in row] for row in rows]
    widths = _fit(headers, texts, None if look.width is None else look.width - indent)
    lines = [_line([Cell(h, color=BOLD) for h in headers], widths, rights, look, indent)]
    for row, shown in zip(rows, texts, strict=True):
        painted = [Cell(text, color=cell.color) for cell, text in zip(row, shown, strict=True)]
        lines.append(_line(painted, widths, rights, look, indent))
    return "\n".join(lines)


def record(pairs: Sequence[tuple[str, Cell]], look: Look, indent: int = 0) -> str:
    """One name and value a line, the values below each other."""
    width = max((cells(name) for name, _ in pairs), default=0)
    lines = []
    for name, cell in pairs:
        label = look.paint(name, DIM) + " " * (width - cells(name))
        lines.append(f"{' ' * indent}{label}{GAP}{look.paint(cell.text, cell.color)}".rstrip())
    return "\n".join(lines)


def _fit(headers: Sequence[str], texts: list[list[str]], limit: int | None) -> list[int]:
    """The width of each column; shortens `texts` to it."""

    def measure() -> list[int]:
        return [max([cells(h), *(cells(row[i]) for row in texts)]) for i, h in enumerate(headers)]

    widths = measure()
    if limit is None or _total(widths) <= limit:
        return widths
    for row in texts:
        row[:] = [text[:SHORT_ID] if _is_id(text) else text for text in row]
    widths = measure()
    while (over := _total(widths) - limit) > 0:
        widest = max(range(len(widths)), key=widths.__getitem__)
        if widths[widest] <= NARROWEST:
            break
        widths[widest] = max(NARROWEST, widths[widest] - over, sorted(widths)[-2] - 1 if len(widths) > 1 else 0)
    for row in texts:
        row[:] = [cut(text, width) for text, width in zip(row, widths, strict=True)]
    return widths


def _total(widths: list[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _is_id(text: str) -> bool:
    return len(text) == 36 and text[8] == text[13] == text[18] == text[23] == "-"


def _line(row: Sequence[Cell], widths: list[int], rights: list[bool], look: Look, indent: int) -> str:
    parts = []
    for cell, width, right in zip(row, widths, rights, strict=True):
        text = cut(cell.text, width)
        space = " " * (width - cells(text))
        painted = look.paint(text, cell.color)
        parts.append(space + painted if right else painted + space)
    return f"{' ' * indent}{GAP.join(parts)}".rstrip()
