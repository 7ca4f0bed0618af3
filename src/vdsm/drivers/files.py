# SPDX-License-Identifier: Apache-2.0
"""Small files of the kernel and of /etc, believed only as far as they make sense. Reading them may block."""

from __future__ import annotations

import os
import re
from pathlib import Path

READ_PATIENCE_S = 10.0  # these files answer in microseconds; when they do not, something hangs in the kernel
_SIZE_MAX = 4 * 1024 * 1024  # /proc/cpuinfo of 1024 processors is about 1.5 MiB
_PIECE = 64 * 1024
_WORD_MAX = 256
_INT_DIGITS_MAX = 20


def read_text(path: Path) -> str:
    """What the file says; "" if it cannot be read. Bytes that are no UTF-8 become U+FFFD."""
    return read_bytes(path).decode(errors="replace")


def read_bytes(path: Path) -> bytes:
    """In pieces: the kernel refuses to read a setting of /proc/sys into a buffer of some megabytes."""
    found = bytearray()
    try:
        with path.open("rb", buffering=0) as file:
            while len(found) < _SIZE_MAX and (piece := file.read(_PIECE)):
                found += piece
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return b""
    return bytes(found)


def read_word(path: Path) -> str:
    """One cleaned line."""
    return clean(read_text(path))


def read_int(path: Path) -> int | None:
    return to_int(read_text(path))


def names_in(path: Path) -> list[str]:
    """The entries of a directory, sorted; empty if it cannot be read."""
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def numbered(path: Path, prefix: str) -> dict[int, Path]:
    """`node0`, `node1`... of a directory, by number."""
    found = {}
    for name in names_in(path):
        if name.startswith(prefix) and (number := to_int(name[len(prefix) :])) is not None and number >= 0:
            found[number] = path / name
    return dict(sorted(found.items()))


def clean(text: str, limit: int = _WORD_MAX) -> str:
    """One line that is safe to show: without control, format and other unprintable characters."""
    text = text[: 4 * limit].strip()
    if not text.isprintable():
        text = "".join(c for c in text if c.isprintable()).strip()
    return text[:limit]


def to_int(text: str) -> int | None:
    """A decimal number as the kernel writes it."""
    text = text.strip()
    return int(text) if len(text) <= _INT_DIGITS_MAX and re.fullmatch(r"-?[0-9]+", text) else None


def to_float(text: str) -> float | None:
    """A number of digits and at most one dot: no `nan`, no `1e999`."""
    text = text.strip()
    return float(text) if len(text) <= _INT_DIGITS_MAX and re.fullmatch(r"[0-9]+(\.[0-9]*)?", text) else None
