# SPDX-License-Identifier: Apache-2.0
"""The published loose shapes, to and from the contract's plain data. Driven by a table: no verb has code of its own.

`JSONRPC` and `XMLRPC` are the two dialects. A binding gives every call's parameters to `arguments` and every answer,
as `contract.codec.to_plain` makes it, to `result`. The table, dialect.json, is made by scripts/generate.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import msgspec

from . import old_machine
from .errors import DialectError
from .forms import SCALARS, Convert, Form, Forms, Plain, Shape, clean
from .old_machine import MachineWords

TASK_ID = "task-id"
NOTHING = "nothing"
_DONE = {"code": 0, "message": "Done"}
_AS_IT_IS: list[str] = []


class PublishedVerb(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one published verb is called and answered."""

    params: list[str]  # in order
    takes: dict[str, Form] = {}  # forms of arguments, or the name of a rule for them
    lift: dict[str, tuple[str, str]] = {}  # argument: the struct argument and its member that may say it instead
    gives: Form = None
    status: bool = False  # it answers with the status itself
    early: str = ""
    member: str = ""  # of the XML-RPC struct the answer stands under; "*": its members are spread over it


class PublishedEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one event of the contract is said."""

    topic: str
    nested: bool  # under the id of its object, as a field of the params
    fields: dict[str, str]  # of the contract's event -> published; `struct.member` stands in a struct
    unless: str = ""  # a flag of the contract's event; one that has it is not said
    forms: dict[str, str] = {}
    words: dict[str, dict[str, str]] = {}  # of a field; an event with another word is not said


class PublishedName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One historical XML-RPC name. Without a method it is known, and nothing here can do it."""

    method: str = ""
    args: list[str] = _AS_IT_IS  # the contract's words in order; "" for one that did nothing
    needs: int | None = None  # how many must be given; None: all
    spread: dict[str, dict[str, str]] = {}  # a struct argument whose members are arguments, some under other names
    instead: dict[str, str] = {}  # a flag, and the method it asks for


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    types: dict[str, Shape]
    verbs: dict[str, PublishedVerb]
    events: dict[str, PublishedEvent]
    machine: MachineWords
    names: dict[str, PublishedName]


@functools.cache
def table() -> Table:
    """What ships in dialect.json."""
    return msgspec.json.decode(resources.files(__package__).joinpath("dialect.json").read_bytes(), type=Table)


class Dialect:
    """One wire's way to say what the contract says.

    `bare`: answers stand alone, with no status beside, so that `true` stands for none.
    """

    def __init__(self, name: str, *, bare: bool) -> None:
        self.name = name
        self._bare = bare
        self._gives: dict[str, Convert] = {}
        self._takes: dict[str, dict[str, Convert]] = {}

    @functools.cached_property
    def _forms(self) -> Forms:
        return Forms(table().types)

    def arguments(
        self, method: str, params: Mapping[str, Plain] | Sequence[Plain], names: Sequence[str] = ()
    ) -> dict[str, Plain]:
        """The contract's arguments by wire name, of published ones by name or by position.

        `names` are the contract's own wire names in order, for positions of a verb that is not published. Nulls are
        left out. The bridge is then to be called with `text_numbers`. Raises DialectError.
        """
        verb = table().verbs.get(method)
        given = (
            dict(params) if isinstance(params, Mapping) else by_position(method, params, verb.params if verb else names)
        )
        if verb is not None:
            _lift(verb, given)
            for name, take in self._rules(method, verb).items():
                if given.get(name) is not None:
                    given[name] = take(given[name])
        return {name: value for name, value in given.items() if value is not None}

    def result(self, method: str, plain: Plain) -> Plain:
        """What the published answer is, of the contract's, without the status beside it (see `historical`)."""
        verb = table().verbs.get(method)
        if plain is None:
            return None if not self._bare else dict(_DONE) if verb is not None and verb.status else True
        give = self._gives.get(method)
        if give is None:
            give = self._gives[method] = self._forms.of(verb.gives if verb is not None else None)
        return give(plain)

    def event(self, record: Mapping[str, Plain]) -> tuple[str, dict[str, Plain]] | None:
        """Name ("|virt|VM_status|<id>") and params of the published event, of a plain EventRecord.

        None for an event that has no published form.
        """
        data: Mapping[str, Plain] = record["data"]
        event = table().events.get(data["type"])
        if event is None or (event.unless and data.get(event.unless)):
            return None
        said: dict[str, Plain] = {}
        for name, published in event.fields.items():
            value = data.get(name)
            if value is None or value == "":
                continue
            words = event.words.get(published)
            if words is not None and (value := words.get(value)) is None:
                return None
            struct, _, member = published.rpartition(".")
            into = said.setdefault(struct, {}) if struct else said
            into[member] = SCALARS[event.forms[published]](value) if published in event.forms else value
        subject, when = record["subject"], record["notifyTime"]
        return event.topic + subject, {subject: said, "notify_time": when} if event.nested else {
            **said,
            "notify_time": when,
        }

    def early(self, method: str) -> str:
        """How the published form of a TASK verb answers, which does not wait for the task's end.

        `TASK_ID`: with the task's id as bare text. `NOTHING`: as a verb without a result does. The method of another
        verb: with its answer, given the id of the task's object as its first argument, and put into the form of this
        method. "": it does wait, and answers with the result.
        """
        verb = table().verbs.get(method)
        return verb.early if verb is not None else ""

    def _rules(self, method: str, verb: PublishedVerb) -> dict[str, Convert]:
        rules = self._takes.get(method)
        if rules is None:
            rules = self._takes[method] = {name: self._rule(form) for name, form in verb.takes.items()}
        return rules

    def _rule(self, form: Form) -> Convert:
        match form:
            case "machine":
                return functools.partial(old_machine.machine, words=table().machine)
            case "drive":
                return _disc
            case "volume":
                return _volume
            case "plug":
                return functools.partial(old_machine.plug, words=table().machine)
            case _:
                return self._forms.of(form)


JSONRPC = Dialect("jsonrpc", bare=True)
XMLRPC = Dialect("xmlrpc", bare=False)


def by_position(method: str, params: Sequence[Plain], names: Sequence[str]) -> dict[str, Plain]:
    """Raises DialectError for more than there are."""
    if len(params) > len(names):
        raise DialectError(f"{method} takes at most {len(names)} arguments, not {len(params)}")
    return dict(zip(names, params, strict=False))


def _lift(verb: PublishedVerb, given: dict[str, Any]) -> None:
    for name, (struct, member) in verb.lift.items():
        inside = given.get(struct)
        if isinstance(inside, dict) and member in inside:
            inside = dict(inside)
            said = inside.pop(member)
            given[struct] = inside
            if not inside:
                del given[struct]
            if given.get(name) is None:
                given[name] = said


_VOLUME = ("domainID", "imageID", "volumeID", "poolID")


def _disc(value: Plain) -> Plain:
    """A disc: its path, or the ids of a volume; as text, in a struct, or in a struct within that."""
    if not isinstance(value, dict):
        return value
    rest = {k: v for k, v in value.items() if k not in ("iface", "index", "device", "readonly", "deviceId", "poolID")}
    if rest.keys() == {"drive_spec"}:
        return _disc(rest["drive_spec"])
    if rest.keys() == set(_VOLUME[:3]):
        return "/".join(str(rest[name]) for name in _VOLUME[:3])
    if rest.keys() - {"path"} or not isinstance(rest.get("path", ""), str):
        raise DialectError("a disc is given by its path, or by domainID, imageID and volumeID", "$.driveSpec")
    return rest.get("path", "")


def _volume(value: Plain) -> Plain:
    """A volume by its ids; what a caller says of the device beside them is known here."""
    return {name: value[name] for name in _VOLUME if value.get(name)} if isinstance(value, dict) else value


__all__ = ["JSONRPC", "NOTHING", "TASK_ID", "XMLRPC", "Dialect", "DialectError", "clean", "table"]
