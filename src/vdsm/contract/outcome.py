# SPDX-License-Identifier: Apache-2.0
"""What a call came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from .task import Plan, TaskRecord

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """Exactly one of three: a result, a plan (nothing was done), or a task that goes on by itself."""

    result: R | None = None
    plan: Plan | None = None
    task: TaskRecord | None = None  # of a TASK verb; also beside a result
    replayed: bool = False  # the answer of an earlier call with the same idempotency key

    @property
    def detached(self) -> bool:
        return self.task is not None and not self.task.state.ended
