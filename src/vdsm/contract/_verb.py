# SPDX-License-Identifier: Apache-2.0
"""How a verb is declared. Everything a binding, the shell or the docs need to know is on `Verb`."""

from __future__ import annotations

import enum
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from .access import Privilege
from .errors import Problem
from .events import Event

P = typing.ParamSpec("P")
R = typing.TypeVar("R")


class ContractError(TypeError):
    """A declaration that breaks the rules of the contract; the daemon refuses to start."""


class ByteStream(typing.Protocol):
    """The result of a `Kind.STREAM` verb: bytes both ways until either side closes."""

    async def read(self) -> bytes:
        """The next bytes; empty at the end."""

    async def write(self, data: bytes) -> None: ...

    async def close(self) -> None: ...


class Kind(enum.StrEnum):
    """How a verb behaves; bindings choose the HTTP method, the wait and the audit from it."""

    QUERY = "query"  # reads, answers at once
    ACTION = "action"  # changes one thing, answers at once
    TASK = "task"  # changes in steps; awaited or detached; survives a crash
    STREAM = "stream"  # opens a two-way byte stream


@dataclass(frozen=True, slots=True)
class Wire:
    """In `Annotated`: the published wire name of a parameter where the naming rule does not give it."""

    name: str


@dataclass(frozen=True, slots=True)
class Needs:
    """In `Annotated`: a privilege that is needed, beside the verb's, as soon as this field carries a value."""

    privilege: Privilege


@dataclass(frozen=True, slots=True)
class ChosenTaskId:
    """In `Annotated`, of a parameter by which the caller may choose the id of the task that a TASK is (a published
    job's), or that goes on behind a STREAM."""


@dataclass(frozen=True, slots=True)
class Route:
    """An HTTP method and a path template with the wire names of the parameters in braces."""

    method: str
    path: str

    @property
    def path_params(self) -> tuple[str, ...]:
        return tuple(re.findall(r"{(\w+)}", self.path))


@dataclass(frozen=True, slots=True, eq=False)
class Verb(typing.Generic[P, R]):
    """One thing the daemon can do."""

    method: str  # wire name, "VM.getStats"
    noun: str  # module and client attribute, "vm"
    name: str  # python name, "get_stats"
    command: tuple[str, ...]  # words after `vdsmsh`, ("vm", "stats")
    kind: Kind
    needs: Privilege
    since: str
    route: Route
    params: type[msgspec.Struct]
    positional: tuple[str, ...]  # python names of the parameters that may be given by position
    task_id_param: str  # python name of the parameter by which the caller chooses the task's id; empty: none
    result: typing.Any
    raises: tuple[type[Problem], ...]
    emits: tuple[type[Event], ...]
    empty: str  # what an empty result says to people; empty: nothing more than that
    doc: str

    @property
    def summary(self) -> str:
        """The docstring's first line."""
        return self.doc.partition("\n")[0]

    @property
    def has_task(self) -> bool:
        return self.kind is Kind.TASK or bool(self.task_id_param)

    @property
    def mutates(self) -> bool:
        return self.kind in (Kind.ACTION, Kind.TASK)

    def __repr__(self) -> str:
        return f"<Verb {self.method}>"


AnyVerb = Verb[..., typing.Any]
_verbs: dict[str, AnyVerb] = {}
VERBS: Mapping[str, AnyVerb] = MappingProxyType(_verbs)
"""Every verb by wire name, in order of declaration."""


def camel(name: str) -> str:
    """`get_stats` -> `getStats`."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def param_name(name: str) -> str:
    """The published style for parameters: camelCase, a trailing `ID` in capitals (`vmID`, `taskID`)."""
    return re.sub(r"Id$", "ID", camel(name))


def wire_name(hint: object, name: str) -> str:
    """The wire name of a parameter: its `Wire` mark, else by the rule."""
    marks = [m.name for m in getattr(hint, "__metadata__", ()) if isinstance(m, Wire)]
    return marks[0] if marks else param_name(name)


def verb(
    *,
    kind: Kind,
    needs: Privilege,
    since: str,
    http: str,
    raises: tuple[type[Problem], ...] = (),
    emits: tuple[type[Event], ...] = (),
    published: str | None = None,
    command: str | None = None,
    empty: str = "",
) -> Callable[[Callable[P, R]], Verb[P, R]]:
    """Turn a documented signature into a `Verb`; the signature is the schema.

    The declaring module names its published noun in `NOUN`. `http` uses python parameter names. `published` gives the
    name after the dot where camelCase of the python name is not it; `command` the words of `vdsmsh` likewise; `empty`
    what the shell says instead of an empty table.

    Raises ContractError for a declaration that breaks a rule of the contract.
    """

    def declare(stub: Callable[P, R]) -> Verb[P, R]:
        hints = typing.get_type_hints(stub, include_extras=True)
        name = stub.__name__.rstrip("_")
        noun = stub.__module__.rpartition(".")[2]
        method = f"{stub.__globals__['NOUN']}.{published or camel(name)}"
        if "return" not in hints:
            raise ContractError(f"{method}: no result type")
        result = hints.pop("return")
        names = {p: wire_name(h, p) for p, h in hints.items()}
        signature = inspect.signature(stub).parameters.values()
        fields = [
            (p.name, hints[p.name]) if p.default is p.empty else (p.name, hints[p.name], p.default) for p in signature
        ]
        title = method.replace(".", "")
        params = msgspec.defstruct(
            f"{title[0].upper()}{title[1:]}Params",
            fields,
            kw_only=True,
            frozen=True,
            forbid_unknown_fields=True,
            rename=names,
            module=stub.__module__,
        )
        chosen = [p for p, h in hints.items() if ChosenTaskId() in getattr(h, "__metadata__", ())]
        http_method, _, path = http.partition(" ")
        words = command.split() if command else [noun, re.sub("^get_", "", name).replace("_", "-")]
        made: Verb[P, R] = Verb(
            method=method,
            noun=noun,
            name=name,
            command=tuple(words),
            kind=kind,
            needs=needs,
            since=since,
            route=Route(http_method, re.sub(r"{(\w+)}", lambda m: "{" + names.get(m[1], m[1]) + "}", path)),
            params=params,
            positional=tuple(p.name for p in signature if p.kind is not p.KEYWORD_ONLY),
            task_id_param=chosen[0] if chosen else "",
            result=result,
            raises=raises,
            emits=emits,
            empty=empty,
            doc=inspect.cleandoc(stub.__doc__ or ""),
        )
        if _verbs.setdefault(method, made) is not made:
            raise ContractError(f"{method} is declared twice")
        return made

    return declare
