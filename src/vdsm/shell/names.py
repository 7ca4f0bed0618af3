# SPDX-License-Identifier: Apache-2.0
"""What a person calls an object, to its id: its name, its id, or the beginning of either."""

from __future__ import annotations

from .faults import did_you_mean, missing
from .text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .session import Session

HEX = frozenset("0123456789abcdef")
CANDIDATES = 10  # shown for a name that means several


def resolve_all(session: Session, method: str, params: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Put ids in the place of names, wherever the verb's parameters mean objects. Raises Fault."""
    for param in session.index["verbs"][method]["params"]:
        value, noun = params.get(param["name"]), param.get("ref")
        if not value or not noun or param.get("exact"):
            continue
        many = isinstance(value, list)
        ids = [resolve(session, noun, text, given) for text in (value if many else [value])]
        params[param["name"]] = ids if many else ids[0]


def resolve(session: Session, noun: str, text: str, given: Mapping[str, Any]) -> str:
    """The id of the one object that `text` means. Raises Fault for none and for several."""
    if is_uuid(text):
        return text
    objects = session.objects(noun, given)
    found = pick(objects, text)
    if len(found) == 1:
        return found[0][0]
    list_command = " ".join(session.index["verbs"][session.index["nouns"][noun]["list"]]["command"])
    if not found:
        near = did_you_mean(text, [name or object_id for object_id, name in objects])
        hint = f"{near} `vdsmsh {list_command}` lists the ones there are.".lstrip()
        raise missing(f"there is no {noun} {clean(text)!r}", hint)
    shown = ", ".join(f"{clean(name)} ({key})" if name else key for key, name in found[:CANDIDATES])
    more = f" and {len(found) - CANDIDATES} more" if len(found) > CANDIDATES else ""
    raise missing(f"{clean(text)!r} may mean {shown}{more}", "Say more of the name, or use the id.")


def pick(objects: list[tuple[str, str]], text: str) -> list[tuple[str, str]]:
    """The objects that a text may mean: the whole id, else the whole name, else beginnings of either."""
    if not text:
        return []  # some objects have no name: that is not what is meant
    return (
        [o for o in objects if o[0] == text]
        or [o for o in objects if o[1] == text]
        or [o for o in objects if o[0].startswith(text) or o[1].startswith(text)]
    )


def is_uuid(text: str) -> bool:
    parts = text.split("-")
    return [len(p) for p in parts] == [8, 4, 4, 4, 12] and all(HEX.issuperset(p) for p in parts)
