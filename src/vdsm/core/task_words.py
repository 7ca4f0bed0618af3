# SPDX-License-Identifier: Apache-2.0
"""A task in the published words: as a storage task and as a host job."""

from __future__ import annotations

from vdsm.contract.host import HostJob, JobError
from vdsm.contract.task import PublishedResult, PublishedState, State, TaskDetails, TaskInfo, TaskStatus

from .run import TaskRow

_STATES = {
    State.PENDING: PublishedState.INIT,
    State.RUNNING: PublishedState.RUNNING,
    State.ABORTING: PublishedState.ABORTING,
    State.CLEANING: PublishedState.CLEANING,
}
_RESULTS = {
    State.DONE: PublishedResult.SUCCESS,
    State.FAILED: PublishedResult.CLEAN_SUCCESS,
    State.ABORTED: PublishedResult.CLEAN_SUCCESS,
    State.REVERTED: PublishedResult.CLEAN_SUCCESS,
    State.BROKEN: PublishedResult.CLEAN_FAILURE,
}
_JOB_TYPES = {
    "VM": "virt",
    **dict.fromkeys(("SDM", "Storage", "StorageDomain", "StoragePool", "Image", "Volume", "Disk", "Lease"), "storage"),
}
_JOBS = {State.PENDING: "pending", State.DONE: "done", State.ABORTED: "aborted", State.ABORTING: "running"}


def info(row: TaskRow) -> TaskInfo:
    return TaskInfo(id=row.id, verb=row.verb)


def status(row: TaskRow) -> TaskStatus:
    return TaskStatus(
        task_id=row.id,
        task_state=_STATES.get(row.state, PublishedState.FINISHED),
        task_result=_RESULTS.get(row.state, PublishedResult.NONE),
        code=row.problem.code if row.problem else 0,
        message=row.problem.detail if row.problem else row.current or row.state.value,
    )


def details(row: TaskRow) -> TaskDetails:
    now = status(row)
    return TaskDetails(
        id=row.id,
        verb=row.verb,
        state=now.task_state,
        task_result=now.task_result,
        code=now.code,
        message=now.message,
        tag=job_type(row),
    )


def job_type(row: TaskRow) -> str:
    """`virt` of machines, `storage` of what lies there, else the noun."""
    noun = row.verb.partition(".")[0]
    return _JOB_TYPES.get(noun, noun.lower())


def job(row: TaskRow) -> HostJob:
    return HostJob(
        id=row.id,
        job_type=job_type(row),
        status=_JOBS.get(row.state, "failed" if row.state.ended else "running"),
        description=row.verb,
        progress=row.progress,
        error=JobError(code=row.problem.code, message=row.problem.detail) if row.problem else None,
    )
