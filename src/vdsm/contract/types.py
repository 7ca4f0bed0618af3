# SPDX-License-Identifier: Apache-2.0
"""Words every noun uses: identifiers, names, units, and the bases of input and output types."""

from __future__ import annotations

import hmac
from typing import Annotated

import msgspec
from msgspec import Meta

# `$(?!\n)`: in Python `$` also matches before a final newline, in JSON Schema's dialect it does not; this form is
# strict in both.
END = r"$(?!\n)"

Uuid = Annotated[
    str,
    Meta(
        pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}" + END,
        description="A UUID in lower case with dashes.",
        examples=["5f0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11"],
    ),
]
VmId = Uuid
TaskId = Uuid
JobId = Uuid

VmName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,127}" + END,
        description="1 to 128 of letters, digits and _ . + @ -, beginning with a letter, digit or _.",
        examples=["web1"],
    ),
]

HostPath = Annotated[
    str,
    Meta(
        pattern=r"^/[^\x00-\x1f\x7f]{0,4094}" + END,
        description="An absolute path on the host, inside a directory the daemon's configuration allows.",
        examples=["/var/lib/vdsm/images/web1.qcow2"],
    ),
]

MacAddress = Annotated[
    str, Meta(pattern=r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}" + END, description="Six hexadecimal pairs, in lower case.")
]

MiB = Annotated[int, Meta(ge=0, le=2**40, description="Mebibytes.")]
Bytes = Annotated[int, Meta(ge=0, le=2**63 - 1, description="Bytes.")]
Seconds = Annotated[float, Meta(ge=0, le=86_400, description="Seconds, at most a day.")]
Percent = Annotated[float, Meta(ge=0, description="Percent; of one CPU unless it says otherwise.")]
UnixTime = Annotated[float, Meta(description="Seconds since 1970-01-01T00:00:00Z.")]
EventId = Annotated[int, Meta(ge=0, le=2**53 - 1, description="A position in the event journal.")]
Text = Annotated[str, Meta(max_length=4096)]


class Input(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Base of what a caller sends: an unknown field is refused."""


class Output(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of what the daemon answers."""


class Secret:
    """A text that is never shown: its repr and str are `***`, and logs, events, audit lines and problems carry those.

    On the wire it is the bare text, through the hooks in `vdsm.contract.codec`.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__
