# SPDX-License-Identifier: Apache-2.0
"""Changes as data. A mutating handler reads and decides, then hands its steps to `Context.run`, once.

A step is a pair of operations: one that does it and one that undoes it. An operation is a named method of a service
with arguments that can be written down; so the same steps can be shown as a plan without being done, run with
progress, cancelled, rolled back, written to disk before the first of them, and taken up again after a crash. From that
follow two rules for operations: doing one twice equals doing it once, and undoing what was never done is no error.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass

import msgspec

from vdsm.contract.errors import Problem

P = typing.ParamSpec("P")
R = typing.TypeVar("R")
S = typing.TypeVar("S")

_progress: ContextVar[Callable[[float], None]] = ContextVar("vdsm_progress")


def report(fraction: float) -> None:
    """Called by an operation that takes long: how much of it is done, from 0 to 1."""
    if sink := _progress.get(None):
        sink(min(max(fraction, 0.0), 1.0))


class Work:
    """An operation under way, for whoever may have to take the ground from under it."""

    def __init__(self) -> None:
        self.problem: Problem | None = None
        self.over = False
        self._task = asyncio.current_task()

    def end(self, problem: Problem) -> None:
        """At the next point where it waits it ends, and fails with this problem. Ended already is fine."""
        if self._task is not None and self.problem is None and not self.over:
            self.problem = problem
            self._task.cancel()

    def taken_away(self) -> Problem | None:
        """Why it was ended, if it was by `end` and by nobody else."""
        self.over = True
        if self._task is None or self.problem is None or self._task.uncancel():
            return None
        return self.problem


_work: ContextVar[Work] = ContextVar("vdsm_work")


def under_way() -> Work | None:
    """Called by an operation: itself, to be put where it can be ended."""
    return _work.get(None)


class OpRow(msgspec.Struct, frozen=True):
    """An operation on disk."""

    name: str
    args: msgspec.Raw


@dataclass(frozen=True, slots=True)
class Op(typing.Generic[R]):
    """An operation with its arguments, not yet done."""

    name: str
    args: tuple[object, ...]
    run: Callable[[], Awaitable[R]]

    def row(self) -> OpRow:
        """Raises TypeError for arguments that cannot be written down; a `Secret` is one on purpose."""
        return OpRow(self.name, msgspec.Raw(msgspec.json.encode(self.args)))


class Operation(typing.Generic[S, P, R]):
    """Made by `@operation`; `service.method(args)` gives an `Op` and does nothing yet."""

    def __init__(self, name: str, method: Callable[typing.Concatenate[S, P], Awaitable[R]]) -> None:
        self.name = name
        self.method = method
        functools.update_wrapper(typing.cast("typing.Any", self), method)

    def __get__(self, service: S, owner: type[S]) -> Callable[P, Op[R]]:
        def plan(*args: P.args, **kwargs: P.kwargs) -> Op[R]:
            if kwargs:
                raise TypeError(f"{self.name}: operations take positional arguments only")
            return Op(self.name, args, lambda: self.method(service, *args, **kwargs))

        return plan

    @functools.cached_property
    def args_type(self) -> typing.Any:
        hints = typing.get_type_hints(self.method, include_extras=True)
        names = list(inspect.signature(self.method).parameters)[1:]
        return types.GenericAlias(tuple, tuple(hints[name] for name in names))


AnyOperation = Operation[typing.Any, ..., typing.Any]


def operation(
    name: str,
) -> Callable[[Callable[typing.Concatenate[S, P], Awaitable[R]]], Operation[S, P, R]]:
    """Make a method an operation. `name` is written to disk with every task: it stays what it is."""
    return lambda method: Operation(name, method)


@dataclass(frozen=True, slots=True)
class Step:
    """One change. `undo` is None where nothing need or can be undone; `weight` is its share of the whole's progress.

    `final`: once it has begun there is no way back, so nothing before it is undone either, and a task cut short after
    that is finished however late.
    """

    title: str
    do: Op[typing.Any]
    undo: Op[typing.Any] | None = None
    weight: float = 1.0
    final: bool = False


class Operations:
    """Every operation of the given services, to turn rows back into operations."""

    def __init__(self, *services: object) -> None:
        self._known: Mapping[str, tuple[object, AnyOperation]] = {
            found.name: (service, found)
            for service in services
            for found in vars(type(service)).values()
            if isinstance(found, Operation)
        }

    def revive(self, row: OpRow) -> Op[typing.Any]:
        """Raises KeyError for an operation this version does not have."""
        service, found = self._known[row.name]
        args = msgspec.json.decode(row.args, type=found.args_type)
        return found.__get__(service, type(service))(*args)


async def perform(op: Op[R], progress: Callable[[float], None]) -> R:
    """Run one operation, hearing what it says through `report`. Raises what it raises, or what it was ended with."""
    mark, working = _progress.set(progress), Work()
    mark_work = _work.set(working)
    try:
        return await op.run()
    except asyncio.CancelledError:
        if (problem := working.taken_away()) is None:
            raise
        raise problem from None
    finally:
        working.over = True
        _work.reset(mark_work)
        _progress.reset(mark)
