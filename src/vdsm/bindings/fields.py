# SPDX-License-Identifier: Apache-2.0
"""HTTP header fields read as values."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

LONGEST_WAIT = 86_400.0  # seconds

_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,64}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Preferences:
    """What `Prefer` asks for (RFC 7240); what we do not know is ignored, as it says."""

    respond_async: bool = False
    wait: float | None = None  # seconds


@functools.lru_cache(maxsize=256)
def preferences(prefer: bytes) -> Preferences:
    respond_async, wait = False, None
    for item in prefer.decode("latin-1").split(","):
        name, _, value = item.partition(";")[0].partition("=")
        match name.strip().lower():
            case "respond-async":
                respond_async = True
            case "wait" if wait is None:
                wait = seconds(value.strip(' \t"'))
    return Preferences(respond_async, wait)


def seconds(text: str) -> float | None:
    """A number of seconds up to a day, else None."""
    if not _DECIMAL.fullmatch(text) or (value := float(text)) > LONGEST_WAIT:
        return None
    return value


@functools.lru_cache(maxsize=256)
def accepts(accept: bytes, offered: str) -> bool:
    """Whether an Accept header takes a media type: its most specific range decides."""
    family = offered.partition("/")[0] + "/*"
    best, quality = -1, 0.0
    for item in accept.decode("latin-1").lower().split(","):
        media, *params = (part.strip() for part in item.split(";"))
        rank = ("*/*", family, offered).index(media) if media in ("*/*", family, offered) else -1
        if rank > best:
            best, quality = rank, _quality(params)
    return quality > 0


def _quality(params: list[str]) -> float:
    for param in params:
        name, _, value = param.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 1.0
    return 1.0


@functools.lru_cache(maxsize=64)
def is_json(content_type: bytes) -> bool:
    media, *params = (part.strip() for part in content_type.decode("latin-1").lower().split(";"))
    charsets = [p.partition("=")[2].strip('" ') for p in params if p.startswith("charset")]
    return media == "application/json" and all(c in ("utf-8", "utf8") for c in charsets)


def matches_etag(if_none_match: bytes, etag: bytes) -> bool:
    """Whether the client has this very body (weak comparison, as RFC 9110 has it for reads)."""
    if if_none_match == etag:
        return True
    tags = (tag.strip().removeprefix(b"W/") for tag in if_none_match.split(b","))
    return any(tag in (etag, b"*") for tag in tags)


def sane_id(text: bytes) -> str | None:
    """An id a client gave its request, if it can go into logs and headers as it is."""
    given = text.decode("latin-1")
    return given if _SANE_ID.fullmatch(given) else None


def joined(pairs: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Repeated fields as one, as RFC 9110 has it."""
    found: dict[bytes, bytes] = {}
    for name, value in pairs:
        found[name] = found[name] + b", " + value if name in found else value
    return found
