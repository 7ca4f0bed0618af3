# SPDX-License-Identifier: Apache-2.0
"""Long work: one model for the published tasks and jobs. A task is kept on disk before its first step."""

from __future__ import annotations

import enum

import msgspec

from . import errors as e
from . import events as ev
from ._verb import Kind, verb
from .access import Privilege
from .errors import ProblemBody
from .types import Output, TaskId, UnixTime

NOUN = "Task"


class State(enum.StrEnum):
    """How far a task is."""

    PENDING = "pending"
    RUNNING = "running"
    ABORTING = "aborting"  # asked to stop; the step under way is being ended
    CLEANING = "cleaning"  # undoing what was done
    DONE = "done"
    FAILED = "failed"  # undone
    ABORTED = "aborted"  # stopped and undone
    REVERTED = "reverted"  # done, then undone on request
    BROKEN = "broken"  # undoing failed: see `problem`

    @property
    def ended(self) -> bool:
        return self not in (State.PENDING, State.RUNNING, State.ABORTING, State.CLEANING)


class StepState(enum.StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    UNDONE = "undone"


class StepInfo(Output, frozen=True, kw_only=True):
    """One step of a task or of a plan."""

    title: str
    state: StepState = StepState.PENDING
    undo: str = ""  # what would undo it; empty if nothing need or can


class Plan(Output, frozen=True, kw_only=True):
    """What a call would do; nothing was done."""

    method: str
    steps: list[StepInfo]


class TaskRecord(Output, frozen=True, kw_only=True):
    """Everything about a task."""

    id: TaskId
    verb: str
    object_id: str  # the machine it is about, or empty
    state: State
    progress: float  # 0 to 100
    steps: list[StepInfo]
    caller: str
    flow_id: str
    created: UnixTime
    ended: UnixTime | None = None
    problem: ProblemBody | None = None


class PublishedState(enum.StrEnum):
    """The published TaskState."""

    UNKNOWN = "unknown"
    INIT = "init"
    RUNNING = "running"
    ABORTING = "aborting"
    CLEANING = "cleaning"
    FINISHED = "finished"


class PublishedResult(enum.StrEnum):
    """The published TaskResult; empty while running."""

    NONE = ""
    SUCCESS = "success"
    CLEAN_SUCCESS = "cleanSuccess"
    CLEAN_FAILURE = "cleanFailure"


class TaskInfo(Output, frozen=True, kw_only=True):
    id: TaskId
    verb: str


class TaskStatus(Output, frozen=True, kw_only=True):
    """How a task stands, in the published words."""

    task_id: TaskId = msgspec.field(name="taskID")
    task_state: PublishedState
    task_result: PublishedResult
    code: int
    message: str


class TaskDetails(Output, frozen=True, kw_only=True):
    """A row of `Host.getAllTasks`."""

    id: TaskId
    verb: str
    state: PublishedState
    task_result: PublishedResult
    code: int
    message: str
    tag: str


@verb(kind=Kind.QUERY, needs=Privilege.TASK_READ, since="1.0", http="GET /tasks")
def list_() -> list[TaskRecord]:
    """Every task the daemon remembers, the newest first, each with its steps."""


@verb(
    kind=Kind.QUERY, needs=Privilege.TASK_READ, since="1.0", http="GET /tasks/{task_id}", raises=(e.UnknownTask,),
    command="task show",
)  # fmt: skip
def get(task_id: TaskId) -> TaskRecord:
    """One task with its steps."""


@verb(
    kind=Kind.QUERY, needs=Privilege.TASK_READ, since="1.0", http="GET /tasks/{task_id}/info", raises=(e.UnknownTask,)
)
def get_info(task_id: TaskId) -> TaskInfo:
    """Which verb a task runs."""


@verb(
    kind=Kind.QUERY, needs=Privilege.TASK_READ, since="1.0", http="GET /tasks/{task_id}/status", raises=(e.UnknownTask,)
)
def get_status(task_id: TaskId) -> TaskStatus:
    """How a task stands, in the published words."""


@verb(
    kind=Kind.ACTION, needs=Privilege.TASK_CONTROL, since="1.0", http="POST /tasks/{task_id}/stop",
    raises=(e.UnknownTask, e.TaskFinished, e.TaskNotRevertible), emits=(ev.TaskStatus,),
)  # fmt: skip
def stop(task_id: TaskId) -> None:
    """Ask a running task to stop; what it had done is undone. One that has no way back any more goes on."""


@verb(
    kind=Kind.ACTION, needs=Privilege.TASK_CONTROL, since="1.0", http="POST /tasks/{task_id}/revert",
    raises=(e.UnknownTask, e.TaskNotFinished, e.TaskNotRevertible, e.ObjectBusy), emits=(ev.TaskStatus,),
)  # fmt: skip
def revert(task_id: TaskId) -> None:
    """Undo a task that is done, its last step first."""


@verb(
    kind=Kind.ACTION, needs=Privilege.TASK_CONTROL, since="1.0", http="DELETE /tasks/{task_id}",
    raises=(e.UnknownTask, e.TaskNotFinished, e.StateUnavailable),
)  # fmt: skip
def clear(task_id: TaskId) -> None:
    """Forget a task that has ended."""
