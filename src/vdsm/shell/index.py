# SPDX-License-Identifier: Apache-2.0
"""The index of commands: made from the contract, cached, made anew when the contract's files change."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import zlib

import vdsm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Index: TypeAlias = dict[str, Any]

HERE = os.path.dirname(os.path.abspath(__file__))
CONTRACT = os.path.join(os.path.dirname(os.path.abspath(vdsm.__file__)), "contract")


def load() -> Index:
    """The index of the contract as it is now."""
    key = fingerprint()
    file = os.path.join(cache_directory(), f"index-{zlib.crc32(CONTRACT.encode()):08x}.json")
    kept = _read(file)
    if kept is not None and kept.get("key") == key:
        return kept
    from .describe import describe

    made: Index = {"key": key, **describe()}
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        _write(file, made)
    return made


def fingerprint() -> str:
    """Changes whenever the index might."""
    parts = [vdsm.__version__]
    for entry in sorted(os.scandir(CONTRACT), key=lambda e: e.name):
        if entry.name.endswith(".py"):
            info = entry.stat()
            parts.append(f"{entry.name}:{info.st_mtime_ns}:{info.st_size}")
    maker = os.stat(os.path.join(HERE, "describe.py"))
    parts.append(f"{maker.st_mtime_ns}:{maker.st_size}")
    return "/".join(parts)


def cache_directory() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "vdsm")


def _read(file: str) -> Index | None:
    """None if there is none, or it may be another user's work: what it holds decides what we send."""
    try:
        with open(file, "rb") as source:
            info = os.fstat(source.fileno())
            if info.st_uid != os.geteuid() or stat.S_IMODE(info.st_mode) & 0o022:
                return None
            kept = json.load(source)
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) else None


def _write(file: str, index: Index) -> None:
    import tempfile

    directory = os.path.dirname(file)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=directory, prefix=".index-")
    try:
        with open(handle, "w", encoding="utf-8") as target:
            json.dump(index, target, separators=(",", ":"))
        os.replace(draft, file)
    except BaseException:
        os.unlink(draft)
        raise
