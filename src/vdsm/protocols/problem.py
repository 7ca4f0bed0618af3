# SPDX-License-Identifier: Apache-2.0
"""RFC 9457 problem documents: members <-> `application/problem+json`."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

MEDIA_TYPE = "application/problem+json"

_STANDARD: Mapping[str, type] = {"type": str, "title": str, "status": int, "detail": str, "instance": str}


def encode(members: Mapping[str, object], *, instance: str = "") -> bytes:
    """A document of the members; `instance` names this one occurrence."""
    return msgspec.json.encode({**members, "instance": instance} if instance else members)


def decode(document: bytes) -> dict[str, object]:
    """The members of a document, with what the standard says of missing and misshapen ones.

    Raises ValueError if it is no JSON object.
    """
    try:
        members = msgspec.json.decode(document, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"no problem document: {error}") from None
    kept = {k: v for k, v in members.items() if k not in _STANDARD or _fits(v, _STANDARD[k])}
    return {"type": "about:blank", **kept}


def _fits(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
