# SPDX-License-Identifier: Apache-2.0
"""What the bridge knows of each verb beside the contract: its handler, its subject, the fields that need more."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from vdsm.contract import VERBS, AnyVerb, ContractError, Needs
from vdsm.contract.access import Privilege
from vdsm.contract.codec import to_shown
from vdsm.contract.errors import Problem
from vdsm.contract.types import Secret

from .handlers import Handler, Mark, Precondition, handlers_of

SHOWN = 256  # characters of a text that an audit line keeps


class Subjects(typing.Protocol):
    """A service whose objects are the subjects of a noun's verbs."""

    def subject(self, object_id: str) -> object:
        """The object as preconditions see it. Raises the noun's "no such" problem."""


@dataclass(frozen=True, slots=True)
class GuardedFields:
    """The fields of a verb's parameters that need a privilege of their own as soon as they carry a value."""

    paths: tuple[tuple[tuple[str, ...], Privilege], ...]

    @staticmethod
    def of(params: type[msgspec.Struct]) -> GuardedFields:
        return GuardedFields(tuple(_guarded(params)))

    def __bool__(self) -> bool:
        return bool(self.paths)

    def needs(self, args: msgspec.Struct) -> Iterator[Privilege]:
        """Privileges that these very arguments need beside the verb's."""
        for path, privilege in self.paths:
            value: object = args
            for name in path:
                value = getattr(value, name, None)
            if value:
                yield privilege


@dataclass(frozen=True, slots=True)
class Entry:
    """One verb, ready to be called."""

    verb: AnyVerb
    handler: Handler
    fields: tuple[str, ...]
    requires: tuple[Precondition[typing.Any], ...]
    exclusive: bool
    subjects: Subjects | None  # None: the verb is about no object in particular
    guarded: GuardedFields
    secretive: bool  # its answer holds a secret, and is nowhere kept

    @property
    def subject_param(self) -> str:
        return f"{self.verb.noun}_id" if self.subjects else ""

    def refusals(self, subject: object) -> Iterator[Problem]:
        """Every precondition that is not met."""
        for precondition in self.requires:
            if (problem := precondition(subject)) is not None:
                yield problem


def entries_of(services: Sequence[object]) -> Mapping[str, Entry]:
    """Bind every verb. Raises ContractError for one without a handler, or with two."""
    entries: dict[str, Entry] = {}
    for service in services:
        for mark, handler in handlers_of(service):
            if entries.setdefault(mark.verb.method, entry := _entry(service, mark, handler)) is not entry:
                raise ContractError(f"{mark.verb.method} has two handlers")
    if missing := VERBS.keys() - entries.keys():
        raise ContractError(f"verbs without a handler: {', '.join(sorted(missing))}")
    return entries


def _entry(service: object, mark: Mark, handler: Handler) -> Entry:
    verb = mark.verb
    fields = verb.params.__struct_fields__
    if list(inspect.signature(handler).parameters)[1:] != list(fields):
        raise ContractError(f"{verb.method}: the handler's parameters are not the contract's")
    has_subject = f"{verb.noun}_id" in verb.params.__struct_fields__ and _required(verb.params, f"{verb.noun}_id")
    subjects = typing.cast("Subjects", service) if has_subject and hasattr(service, "subject") else None
    return Entry(
        verb,
        handler,
        fields,
        mark.requires,
        mark.exclusive,
        subjects,
        GuardedFields.of(verb.params),
        _secretive(verb.result),
    )


def _required(struct: type[msgspec.Struct], name: str) -> bool:
    return any(f.name == name and f.required for f in msgspec.structs.fields(struct))


def _guarded(struct: type[msgspec.Struct], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Privilege]]:
    for name, hint in _hints(struct).items():
        for part in _parts(hint):
            for mark in getattr(part, "__metadata__", ()):
                if isinstance(mark, Needs):
                    yield (*path, name), mark.privilege
            if isinstance(part, type) and issubclass(part, msgspec.Struct):
                yield from _guarded(part, (*path, name))


def _secretive(hint: object) -> bool:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _holds_secret(hint)
    return hint is Secret or any(_secretive(part) for part in typing.get_args(hint))


@functools.cache
def _holds_secret(struct: type[msgspec.Struct]) -> bool:
    return any(_secretive(hint) for hint in _hints(struct).values())


@functools.cache
def _hints(struct: type[msgspec.Struct]) -> Mapping[str, object]:
    """Of its fields; `typing` evaluates them anew each time, and types share types."""
    return typing.get_type_hints(struct, include_extras=True)


def _parts(hint: object) -> Iterator[object]:
    yield hint
    if typing.get_origin(hint) not in (list, dict):
        for arg in typing.get_args(hint):
            yield from _parts(arg)


def shown(args: msgspec.Struct | None, params: Mapping[str, object]) -> str:
    """Arguments as an audit line keeps them: no secrets, long texts cut; of what could not be read, the names."""
    value: object = {"unread": sorted(map(str, params))} if args is None else _cut(to_shown(args))
    return msgspec.json.encode(value).decode()


def _cut(value: object) -> object:
    match value:
        case str() if len(value) > SHOWN:
            return f"{value[:SHOWN]}... ({len(value)} characters)"
        case dict():
            return {k: _cut(v) for k, v in value.items()}
        case list():
            return [_cut(v) for v in value]
        case _:
            return value
