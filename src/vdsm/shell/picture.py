# SPDX-License-Identifier: Apache-2.0
"""A picture of a screen, into a file."""

from __future__ import annotations

import base64
import os
import sys

from .faults import usage
from .text import say
from .units import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SUFFIXES = {"image/png": ".png", "image/x-portable-pixmap": ".ppm", "image/jpeg": ".jpg"}


def save(screenshot: dict[str, Any], file: str | None) -> None:
    """Write it to `file`, or for - and for None to standard output, though never to a terminal. Raises Fault."""
    data = base64.b64decode(screenshot["data"])
    kind = screenshot["mime_type"]
    if file in (None, "-"):
        if sys.stdout.isatty():
            raise usage("a picture is not for a terminal", "Name a file: `-o screen.png`.")
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    assert file is not None
    try:
        with open(file, "wb") as target:
            target.write(data)
    except OSError as error:
        raise usage(f"{file} cannot be written: {error.strerror}") from None
    say(f"{file}: {kind}, {size(len(data))}")
    suffix = os.path.splitext(file)[1].lower()
    if suffix in SUFFIXES.values() and SUFFIXES.get(kind, suffix) != suffix:
        say(f"note: that is not what {suffix} promises; QEMU made {kind}")
