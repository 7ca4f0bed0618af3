# SPDX-License-Identifier: Apache-2.0
"""How a service answers a verb: `@handles`, and the context each call is given."""

from __future__ import annotations

import asyncio
import typing
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from vdsm.contract import AnyVerb, Verb
from vdsm.contract.errors import Problem
from vdsm.contract.vm_info import Allowance

from .caller import Caller
from .steps import Op, Step

P = typing.ParamSpec("P")
R = typing.TypeVar("R")
S = typing.TypeVar("S")
T = typing.TypeVar("T", contravariant=True)


class Precondition(typing.Protocol[T]):
    """One reason to refuse a verb on an object: the problem, or None while the verb is allowed."""

    def __call__(self, subject: T, /) -> Problem | None: ...


class Context(typing.Protocol):
    """What a handler knows of its call beside the parameters."""

    @property
    def caller(self) -> Caller: ...

    @property
    def flow_id(self) -> str: ...

    @property
    def planning(self) -> bool:
        """Whether only the steps are wanted: nothing may be changed."""

    async def hold(self, *names: str) -> None:
        """Take locks ("vm-name:a"), alone or `shared`, until the call, or its task, ends. Raises ObjectBusy."""

    @typing.overload
    async def run(self, *steps: Step, about: str = "") -> None: ...

    @typing.overload
    async def run(self, *steps: Step, answer: Op[R], about: str = "") -> R: ...

    async def begin(self, *steps: Step, about: str = "") -> asyncio.Task[None]:
        """Of a STREAM: do the steps as a task while the stream is used. It is on disk when this returns."""

    def allowances(self, noun: str, subject: object, object_id: str) -> Sequence[Allowance]:
        """For each verb of the noun whether this caller may call it on the subject now."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What `@handles` leaves on a method."""

    verb: AnyVerb
    requires: tuple[Precondition[typing.Any], ...]
    exclusive: bool


def handles(
    verb: Verb[P, R], *, requires: tuple[Precondition[typing.Any], ...] = (), exclusive: bool = True
) -> Callable[
    [Callable[typing.Concatenate[S, Context, P], Awaitable[R]]],
    Callable[typing.Concatenate[S, Context, P], Awaitable[R]],
]:
    """Bind a method to a verb; the type checker refuses a signature that differs from the contract's.

    `requires` are checked against the verb's subject (the object its `<noun>_id` names) under its lock, before the
    handler runs, and by `explain`. `exclusive`: a mutating call holds the subject's lock to its end.
    """

    def bind(
        method: Callable[typing.Concatenate[S, Context, P], Awaitable[R]],
    ) -> Callable[typing.Concatenate[S, Context, P], Awaitable[R]]:
        setattr(method, "__handles__", Mark(verb, requires, exclusive))  # noqa: B010 mypy knows no such attribute
        return method

    return bind


Handler = Callable[..., Awaitable[object]]


def handlers_of(service: object) -> Iterator[tuple[Mark, Handler]]:
    """The bound handlers of a service."""
    for name, value in vars(type(service)).items():
        if (mark := getattr(value, "__handles__", None)) is not None:
            yield mark, getattr(service, name)
