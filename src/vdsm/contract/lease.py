# SPDX-License-Identifier: Apache-2.0
"""Leases of other things than volumes, in a domain's own file: of machines that must run once only, of jobs."""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from . import errors as e
from . import errors_domains as ed
from . import errors_storage as es
from ._verb import Kind, Wire, verb
from .access import Privilege
from .storage_words import DomainId
from .types import Bytes, HostPath, Input, JobId, Output, Uuid

NOUN = "Lease"

_READS = (
    ed.StorageDomainDoesNotExist, ed.StorageUnusable, ed.DomainWithoutLeases, es.LeaseIndexUnusable, es.FileMissing,
    es.PathEscapes, es.StorageBroken, e.DeadlineExceeded, e.TooBusy,
)  # fmt: skip
_CHANGES = (
    *_READS, ed.SpmStatusError, es.ClusterLockInitError, es.SanlockInquireError, es.LockManagerUnavailable,
    es.NoSpaceLeftOnDomain, es.StorageReadOnly, e.ObjectBusy, e.StateUnavailable,
)  # fmt: skip
_TAKES = (es.AcquireHostIdFailure, es.AcquireLockFailure, es.ReleaseLockFailure, es.SanlockLVBError)

SdId = Annotated[DomainId, Wire("sd_id")]
LeaseId = Annotated[Uuid, Wire("lease_id")]
Seconds = Annotated[int, Meta(ge=0, le=2**53, description="Seconds since 1970.")]


class LeaseMetadataType(enum.StrEnum):
    JOB = "JOB"


class JobStatus(enum.StrEnum):
    """How the job whose lease it is ended; PENDING: it did not, as far as it wrote down."""

    PENDING = "PENDING"
    FAILED = "FAILED"
    SUCCEEDED = "SUCCEEDED"
    FENCED = "FENCED"  # it will not be done any more


class JobMetadata(Input, frozen=True, kw_only=True, omit_defaults=True):
    """What a job keeps with its lease; at most 512 bytes of JSON."""

    type: LeaseMetadataType
    job_status: JobStatus = msgspec.field(name="job_status")
    generation: Annotated[int, Meta(ge=0, le=2**31)]  # grows when it is fenced
    job_id: JobId = msgspec.field(name="job_id")
    created: Seconds | None = None
    modified: Seconds | None = None
    host_hardware_id: Uuid | None = msgspec.field(name="host_hardware_id", default=None)


class LeaseInfo(Output, frozen=True, kw_only=True):
    """Where a lease lies, for whoever takes it through sanlock."""

    sd_id: DomainId = msgspec.field(name="sd_id")
    lease_id: Uuid = msgspec.field(name="lease_id")
    path: HostPath
    offset: Bytes


class ExternalLeaseStatus(Output, frozen=True, kw_only=True):
    """Who holds a lease."""

    owners: list[int]  # host ids
    version: int  # how often it was taken
    metadata: JobMetadata | None = None


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /domains/{sd_id}/leases/{lease_id}",
    raises=(*_CHANGES, *_TAKES, es.LeaseExists, es.LeaseIndexFull),
)  # fmt: skip
def create(sd_id: SdId, lease_id: LeaseId, metadata: JobMetadata | None = None) -> None:
    """Make a lease in a domain, free, with metadata for a job. At most 3960 are in one domain."""


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_ADMIN, since="1.0", http="DELETE /domains/{sd_id}/leases/{lease_id}",
    raises=(*_CHANGES, es.NoSuchLease, es.AcquireLockFailure),
)  # fmt: skip
def delete(sd_id: SdId, lease_id: LeaseId) -> None:
    """Remove a lease that nobody holds."""


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /domains/{sd_id}/leases",
    published="rebuild_leases", command="lease rebuild", raises=_CHANGES,
)  # fmt: skip
def rebuild_leases(sd_id: SdId) -> None:
    """Build the index of a domain's leases anew, from the leases themselves. Those stay, whoever holds them."""


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /domains/{sd_id}/leases/{lease_id}",
    raises=(*_READS, es.NoSuchLease),
)  # fmt: skip
def info(sd_id: SdId, lease_id: LeaseId) -> LeaseInfo:
    """Where a lease lies."""


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /domains/{sd_id}/leases/{lease_id}/status",
    raises=(*_READS, es.NoSuchLease, es.SanlockInquireError, es.LockManagerUnavailable),
)  # fmt: skip
def status(sd_id: SdId, lease_id: LeaseId) -> ExternalLeaseStatus:
    """Who holds a lease, and what the last holder wrote there."""


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /domains/{sd_id}/leases/{lease_id}/fence",
    raises=(
        *_READS, *_TAKES, es.NoSuchLease, es.SanlockInquireError, es.LockManagerUnavailable, ed.GenerationMismatch,
        ed.JobStatusMismatch, e.ObjectBusy, e.StateUnavailable,
    ),
)  # fmt: skip
def fence(sd_id: SdId, lease_id: LeaseId, metadata: JobMetadata) -> None:
    """See that a pending job will not be done any more: it is marked FENCED, with the next generation.

    `metadata` is what the caller knows of it: its job and generation must be those found. A lease that is held, by a
    job at work, is left alone. Fenced already is fine.
    """
