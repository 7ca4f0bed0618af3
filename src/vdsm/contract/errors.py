# SPDX-License-Identifier: Apache-2.0
"""Every error a caller can see: one class, one stable code, one slug, one remedy.

`code` is the published number where the published API has the error; errors of our own count from 10000. `text` and
`hint` are templates over the facts given to the constructor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import msgspec

_problems: dict[str, type[Problem]] = {}
PROBLEMS: Mapping[str, type[Problem]] = MappingProxyType(_problems)
"""Every problem class by slug."""


class ProblemBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A problem as every wire carries it; RFC 9457 members first, then ours."""

    type: str
    title: str
    status: int
    detail: str
    code: int
    retryable: bool = False
    hint: str = ""
    path: str = ""  # JSON path of the offending argument, "$.vmParams.memory"
    flow_id: str = ""
    facts: dict[str, str] = {}


class Problem(Exception):
    """Base of all problems. Subclasses are declared in the contract, nowhere else."""

    code: ClassVar[int]
    slug: ClassVar[str]
    status: ClassVar[int] = 400
    retryable: ClassVar[bool] = False
    text: ClassVar[str]
    hint: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        cls.slug = slug = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", cls.__name__).lower()
        if _problems.setdefault(slug, cls) is not cls:
            raise TypeError(f"problem {slug} is declared twice")

    def __init__(self, *, path: str = "", **facts: object) -> None:
        super().__init__()
        self.path = path
        self.facts = {k: str(v) for k, v in facts.items()}

    def __str__(self) -> str:
        return self.text.format_map(_Lenient(self.facts, path=self.path))

    def remedy(self) -> str:
        """What the reader can do about it."""
        return self.hint.format_map(_Lenient(self.facts, path=self.path))

    def body(self, flow_id: str = "") -> ProblemBody:
        """The problem as data."""
        return ProblemBody(
            type=f"urn:vdsm:problem:{self.slug}",
            title=_title(self.slug),
            status=self.status,
            detail=str(self),
            code=self.code,
            retryable=self.retryable,
            hint=self.remedy(),
            path=self.path,
            flow_id=flow_id,
            facts=self.facts,
        )

    @staticmethod
    def of(body: ProblemBody) -> Problem:
        """The problem a wire carried, as the class it was raised from (`InternalError` for one this version lacks)."""
        cls = _problems.get(body.type.rpartition(":")[2], InternalError)
        return cls(path=body.path, **(body.facts or {"reason": body.detail}))


class _Lenient(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "?"


def _title(slug: str) -> str:
    return slug.replace("-", " ").capitalize()


# ---- the call itself -------------------------------------------------------------------------------------------------


class InvalidRequest(Problem):
    code, status, text = -32600, 400, "the request cannot be read: {reason}"
    hint = "Send one well-formed JSON object in UTF-8; see /api/docs for the shape of each verb."


class MethodNotFound(Problem):
    code, status, text = -32601, 404, "there is no {method}"
    hint = "See /api/docs or `vdsmsh help` for what this host can do."


class MethodNotImplemented(Problem):
    code, status, text = 44, 501, "{method} is a published verb that this host does not offer"
    hint = "docs/coverage.md lists the published verbs and what this version has of them."


class InvalidParams(Problem):
    code, status, text = -32602, 400, "{reason}"
    hint = "Correct {path} and send the call again; `vdsmsh help VERB` and /api/docs show each argument."

    def __init__(self, *, reason: str, path: str = "$") -> None:
        super().__init__(path=path, reason=reason)

    @staticmethod
    def of_validation(text: str) -> InvalidParams:
        """From the text of a msgspec ValidationError, which ends in "- at `$.path`"."""
        reason, mark, path = text.rpartition(" - at ")
        return InvalidParams(reason=reason, path=path.strip("`")) if mark else InvalidParams(reason=text)


class InternalError(Problem):
    code, status, text = -32603, 500, "this is a defect of vdsm: {reason}"
    hint = "Report it with the flow id; the daemon's log has the details."


class Unauthenticated(Problem):
    code, status, text = 10001, 401, "the caller is not known: {reason}"
    hint = "Present a client certificate or a bearer token, or use the local socket."


class AccessDenied(Problem):
    code, status, text = 10002, 403, "{caller} lacks the privilege {privilege} for {method}"
    hint = "Ask an administrator of this host for a role that has {privilege}."


class RequestTooLarge(Problem):
    code, status, text = 10003, 413, "the request is larger than {limit} bytes"
    hint = "Send less than {limit} bytes."


class DeadlineExceeded(Problem):
    code, status, retryable, text = 10004, 504, True, "{what} did not finish within {seconds} s"
    hint = "Try again, or give the call more time."


class TooBusy(Problem):
    code, status, retryable, text = 10005, 503, True, "{what}: too many calls are waiting"
    hint = "Try again in a moment."


class ObjectBusy(Problem):
    code, status, retryable, text = 10006, 409, True, "{what} is being changed by {holder}"
    hint = "Try again in a moment; if it is a task, watch or stop it: `vdsmsh task watch {holder}`."


class IdempotencyConflict(Problem):
    code, status, text = 10007, 409, "the idempotency key {key} was used for a different call"
    hint = "Use a new key for a new call."


class HostUnreachable(Problem):
    code, status, retryable, text = 10012, 503, True, "the host at {host} does not answer: {reason}"
    hint = "Check that its daemon runs and that the network lets us through; nothing here needs a restart afterwards."


class StateUnavailable(Problem):
    code, status, retryable, text = 10009, 507, True, "the daemon cannot write its state: {reason}"
    hint = "Free space on the file system of {directory}; nothing was changed."


class StreamNotCarried(Problem):
    code, status, text = 10010, 400, "{method} is a two-way stream, which this protocol cannot carry"
    hint = "Open it on the host's own REST door: as a WebSocket, or with `vdsmsh` there."


class PlanNotOffered(Problem):
    code, status, text = 10011, 400, "{method} changes nothing, so it has no plan"
    hint = "Call it without asking for a plan."


class RecoveryInProgress(Problem):
    code, status, retryable, text = 99, 503, True, "the daemon is starting or stopping"
    hint = "Try again in a few seconds."


# ---- the call over HTTP ----------------------------------------------------------------------------------------------


class MethodNotAllowed(Problem):
    code, status, text = 10401, 405, "{path} does not take {method}"
    hint = "It takes {allowed}; see /api/docs."


class NotAcceptable(Problem):
    code, status, text = 10402, 406, "the answer is {offered}, which the request's Accept header excludes"
    hint = "Accept {offered}. The journal as plain JSON is at /api/v1/events/history."


class RequestTimeout(Problem):
    code, status, retryable, text = 10403, 408, True, "the request did not arrive within {seconds} s"
    hint = "Send it again, in one go."


class UnsupportedMediaType(Problem):
    code, status, text = 10404, 415, "the body is {got}"
    hint = "Send uncompressed JSON with Content-Type: application/json."


class UpgradeRequired(Problem):
    code, status, text = 10405, 426, "{method} is a two-way stream"
    hint = "Open it as a WebSocket, or use `vdsmsh`."


class HeadersTooLarge(Problem):
    code, status, text = 10406, 431, "the request's head is larger than {limit} bytes or has more than {count} headers"
    hint = "Send fewer or shorter headers."


class ForeignOrigin(Problem):
    code, status, text = 10407, 403, "pages of {origin} may not call this host"
    hint = "Use a page this host serves, or a client that is no browser."


class ForeignHost(Problem):
    code, status, text = 10408, 421, "{name} is not taken for this host's name on a connection without TLS"
    hint = "Use the host's address, or localhost; or TLS."


class LengthRequired(Problem):
    code, status, text = 10409, 411, "the length of an image must be said before it is sent"
    hint = "Send a Content-Length; a chunked body is not taken."


# ---- virtual machines ------------------------------------------------------------------------------------------------


class NoSuchVM(Problem):
    code, status, text = 1, 404, "there is no virtual machine {vm}"
    hint = "List the ones there are: `vdsmsh vm list`."


class VMExists(Problem):
    code, status, text = 4, 409, "a virtual machine {what} exists already"
    hint = "Choose another name or id, or remove that machine first."


class VMIsDown(Problem):
    code, status, text = 6, 409, "virtual machine {vm} is not running"
    hint = "Start it: `vdsmsh vm start {vm}`."


class VMIsRunning(Problem):
    code, status, text = 10101, 409, "virtual machine {vm} is {state}; this needs it stopped"
    hint = "Stop it first: `vdsmsh vm shutdown {vm}`, or without asking the guest, `vdsmsh vm destroy {vm}`."


class CannotCreateVM(Problem):
    code, status, text = 9, 422, "the virtual machine cannot be created: {reason}"
    hint = "Correct the parameters; nothing of it is left on the host."


class VMDestroyFailed(Problem):
    code, status, retryable, text = 42, 500, True, "virtual machine {vm} could not be stopped: {reason}"
    hint = "Try again; if it persists look at the QEMU process on the host."


class UnexpectedState(Problem):
    code, status, text = 16, 409, "virtual machine {vm} is {state}: {reason}"
    hint = "See what is allowed now: `vdsmsh explain vm {vm}`."


class NonResponsiveGuestAgent(Problem):
    code, status, retryable, text = 19, 409, True, "virtual machine {vm} did not react: {reason}"
    hint = "Install the QEMU guest agent or ACPI in the guest, or power it off: `vdsmsh vm destroy {vm}`."


class ChangeDiskFailed(Problem):
    code, status, text = 41, 422, "the CD of {vm} could not be changed: {reason}"
    hint = "Check the path, and that the machine has a CD drive (`vdsmsh vm info {vm}`)."


class HotplugDiskFailed(Problem):
    code, status, text = 45, 422, "the disk could not be plugged into {vm}: {reason}"
    hint = "Nothing was changed; `vdsmsh vm info {vm}` shows its disks."


class HotunplugDiskFailed(Problem):
    code, status, retryable, text = 46, 409, True, "the disk could not be unplugged from {vm}: {reason}"
    hint = "The guest must let go of it: unmount it there and try again, or shut the machine down."


class SnapshotFailed(Problem):
    code, status, text = 48, 500, "the snapshot of {vm} failed: {reason}"
    hint = "Its disks are as they were; `vdsmsh vm info {vm}` shows them."


class MergeFailed(Problem):
    code, status, text = 52, 409, "the layers of disk {disk} could not be merged: {reason}"
    hint = "Its chain is whole and nothing in it was lost; `vdsmsh disk info {disk}` shows it."


class BadDiskResizeParameter(Problem):
    code, status, text = 58, 422, "disk {disk} cannot be made {size} bytes large: {reason}"
    hint = "A disk only grows, in whole steps of 4096 bytes."


class FreezeGuestFSFailed(Problem):
    code, status, retryable, text = 76, 409, True, "the file systems of {vm} could not be frozen: {reason}"
    hint = "The guest's log may tell more; they are not frozen."


class ThawGuestFSFailed(Problem):
    code, status, retryable, text = 77, 500, True, "the file systems of {vm} could not be thawed: {reason}"
    hint = "Try again; a guest whose file systems stay frozen can only be reset: `vdsmsh vm reset {vm}`."


class InvalidParameter(Problem):
    code, status, text = 91, 422, "{name} is {value}: {reason}"
    hint = "Give another value."


class SnapshotMemoryNotOffered(Problem):
    code, status, text = 10110, 501, "a snapshot of {vm} with its memory is not offered"
    hint = "Leave snapMemory out: the disks are taken at one moment, with the guest's file systems frozen."


class ResetFailed(Problem):
    code, status, retryable, text = 90, 500, True, "virtual machine {vm} could not be reset: {reason}"
    hint = "Try again, or power it off: `vdsmsh vm destroy {vm}`."


class TicketError(Problem):
    code, status, text = 18, 422, "the ticket of {vm} could not be set: {reason}"
    hint = "The machine needs a graphics device; see `vdsmsh vm info {vm}`."


class ForeignVM(Problem):
    code, status, text = 10102, 403, "virtual machine {vm} was not made by vdsm, which leaves it alone"
    hint = "Manage it with the tool that made it (for instance virsh)."


class PathNotAllowed(Problem):
    code, status, text = 10103, 403, "{file} is outside the directories this host offers to machines"
    hint = "Use a file below one of: {allowed}; an administrator can add to `[vm] directories` in the configuration."


class FileUnusable(Problem):
    code, status, text = 10104, 422, "{file} cannot be used: {reason}"
    hint = "Check that it exists, is a plain file of the stated format, and can be read by QEMU."


class XmlRefused(Problem):
    code, status, text = 10105, 422, "the domain XML is refused: {reason}"
    hint = "Remove that part; `vdsmsh help vm create` lists what raw XML may hold."


class NoDisplay(Problem):
    code, status, text = 10106, 409, "virtual machine {vm} has no screen"
    hint = "Give it a graphics device, or use its serial console: `vdsmsh vm console {vm}`."


class NoSerialConsole(Problem):
    code, status, text = 10107, 409, "virtual machine {vm} has no serial console"
    hint = "Give it one: `--serial true`."


class ConsoleInUse(Problem):
    code, status, text = 10108, 409, "the serial console of {vm} is open elsewhere"
    hint = "Close it there, or take it over with `--force`."


class HypervisorUnavailable(Problem):
    code, status, retryable, text = 10109, 503, True, "libvirt does not answer: {reason}"
    hint = "Start it (`systemctl start libvirtd`); vdsm reconnects by itself."


class HypervisorError(Problem):
    code, status, text = 100, 500, "libvirt refused {what}: {reason}"
    hint = "The reason is libvirt's own; its log and the machine's QEMU log have more."


class CannotRetrieveHWInfo(Problem):
    code, status, text = 57, 500, "the host's hardware description cannot be read: {reason}"
    hint = "It comes from DMI tables; run the daemon as root, or do without."


# ---- tasks, events, access -------------------------------------------------------------------------------------------


class UnknownTask(Problem):
    code, status, text = 401, 404, "there is no task {task}"
    hint = "List the ones there are: `vdsmsh task list`."


class JobExists(Problem):
    code, status, text = 69, 409, "there is a job or task {job} already"
    hint = "Use a new id for each job; `vdsmsh task get {job}` shows how that one stands."


class TaskNotFinished(Problem):
    code, status, retryable, text = 10201, 409, True, "task {task} is still {state}"
    hint = "Wait for it (`vdsmsh task watch {task}`) or stop it (`vdsmsh task stop {task}`)."


class TaskFinished(Problem):
    code, status, text = 10202, 409, "task {task} is finished already"
    hint = "Undo what it did with `vdsmsh task revert {task}`, or forget it with `vdsmsh task clear {task}`."


class TaskNotRevertible(Problem):
    code, status, text = 10203, 409, "task {task} cannot be undone: {reason}"
    hint = "Change the object with its own verbs instead."


class TaskAborted(Problem):
    code, status, text = 443, 409, "task {task} was stopped; what it had done was undone"
    hint = "Call the verb again if you still want it."


class TaskInterrupted(Problem):
    code, status, retryable, text = 10204, 500, True, "task {task} was cut short by a restart and was undone"
    hint = "Call the verb again."


class NoSuchToken(Problem):
    code, status, text = 10301, 404, "there is no token {token}"
    hint = "List the ones there are: `vdsmsh token list`."


class TokenExists(Problem):
    code, status, text = 10302, 409, "a token named {token} exists already"
    hint = "Choose another name, or revoke that one: `vdsmsh token revoke {token}`."


class NoSuchLogger(Problem):
    code, status, text = 10303, 404, "there is no logger {logger}"
    hint = "Leave the name out to set the level of everything."
