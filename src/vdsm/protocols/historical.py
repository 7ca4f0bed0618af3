# SPDX-License-Identifier: Apache-2.0
"""The historical XML-RPC names: which verb each stands for, its arguments by position, and where its answer is put."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from .dialect import PublishedName, table
from .errors import DialectError
from .forms import Plain

DONE = 0
PROBLEM = "problem"
RESULT = "result"  # the member for answers of verbs that are not published


class Meant(NamedTuple):
    """What a historical call comes to."""

    method: str
    arguments: dict[str, Plain]


def names() -> Iterator[tuple[str, str]]:
    """Every name, and its verb; "" where there is none any more."""
    for name, row in table().names.items():
        yield name, row.method


def method(name: str) -> str | None:
    """The verb a name stands for: "" if that is no more, None for a name that never was."""
    row = table().names.get(name)
    return None if row is None else row.method


def meaning(name: str, params: Sequence[Plain]) -> Meant:
    """Of a name that there is. Raises DialectError for too few or too many arguments."""
    row = table().names[name]
    needed = len(row.args) if row.needs is None else row.needs
    if not needed <= len(params) <= len(row.args):
        raise DialectError(f"{name} takes {needed} to {len(row.args)} arguments, not {len(params)}")
    arguments = {word: value for word, value in zip(row.args, params, strict=False) if word}
    _spread(row, arguments)
    meant = row.method
    for flag, other in row.instead.items():
        if arguments.pop(flag, False) in (True, 1, "true", "True"):
            meant = other
    return Meant(meant, arguments)


def signature(name: str) -> Sequence[str]:
    """The contract's words for the arguments of a name that there is, in order."""
    return table().names[name].args


def _spread(row: PublishedName, arguments: dict[str, Plain]) -> None:
    for name, words in row.spread.items():
        inside = arguments.pop(name, None)
        if not isinstance(inside, dict):
            raise DialectError("Expected `object`", f"$.{name}")
        arguments |= {words.get(f"{word}", f"{word}"): value for word, value in inside.items()}


def answer(verb_method: str, result: Plain) -> dict[str, Plain]:
    """The struct of a verb that went well, with its result (in the dialect's shape) where readers look for it."""
    status = {"code": DONE, "message": "Done"}
    if result is None:
        return {"status": status}
    verb = table().verbs.get(verb_method)
    member = (verb.member if verb is not None else "") or RESULT
    if member == "*" and isinstance(result, Mapping):
        return {**result, "status": status}
    return {"status": status, RESULT if member == "*" else member: result}


def refusal(code: int, message: str, problem: Mapping[str, Plain]) -> dict[str, Plain]:
    """The struct of a verb that did not go well; the whole problem is beside the status, for who looks for it."""
    return {"status": {"code": code, "message": message}, PROBLEM: dict(problem)}
