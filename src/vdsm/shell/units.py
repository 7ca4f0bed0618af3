# SPDX-License-Identifier: Apache-2.0
"""Numbers for people."""

from __future__ import annotations

import time

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def quantity(number: float, unit: str) -> str:
    """A number with its unit."""
    if unit == "time":
        return moment(number)
    if unit == "s":
        return duration(number)
    if unit in _BINARY:
        return size(number, _BINARY.index(unit))
    return f"{f'{number:.1f}'.removesuffix('.0')} {unit}" if unit else plain(number)


def plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:.6g}"


def size(number: float, step: int = 0) -> str:
    """Bytes, or 1024 to the power of `step` times as many."""
    while abs(number) >= 1023.5 and step < len(_BINARY) - 1:
        number /= 1024
        step += 1
    text = f"{number:.1f}".removesuffix(".0") if number < 100 else f"{number:.0f}"
    return f"{text} {_BINARY[step]}"


def duration(seconds: float) -> str:
    """The two largest parts: "3 d 4 h", "2 min 5 s"."""
    if seconds < 1:
        return "0 s" if seconds <= 0 else f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    rest = round(seconds)
    for length, name, smaller, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if rest >= length:
            count, left = divmod(rest, length)
            return f"{count} {name} {left // smaller} {small}" if left // smaller else f"{count} {name}"
    raise AssertionError("at least a minute")


def moment(seconds: float, *, date: bool = True) -> str:
    """Local time."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return plain(seconds)
