# SPDX-License-Identifier: Apache-2.0
"""The problems of files, images, mounts, leases and transfers, as `errors.py` has the others."""

from __future__ import annotations

from .errors import Problem

# ---- files -----------------------------------------------------------------------------------------------------------


class NoSpaceLeftOnDomain(Problem):
    code, status, retryable, text = 397, 507, True, "there is no space left for {file}"
    hint = "Free some, or enlarge the storage behind it, and try again."


class FileMissing(Problem):
    code, status, text = 10601, 404, "there is no {file}"
    hint = "Check the name; if something else removed it, restore it from a backup."


class FileExists(Problem):
    code, status, text = 10602, 409, "{file} exists already"
    hint = "Choose another name, or remove that file if nothing needs it."


class PathEscapes(Problem):
    code, status, text = 10603, 403, "{file} leads out of {root}, or through a symbolic link"
    hint = "Somebody changed that directory while it was in use: find out who may write there."


class StorageReadOnly(Problem):
    code, status, text = 10604, 409, "{file} cannot be changed: {reason}"
    hint = "Check the export, the mount options and the owner of the files: the daemon's user must be able to write."


class StorageBroken(Problem):
    code, status, retryable, text = 10605, 500, True, "the storage fails at {file}: {reason}"
    hint = "Look at the storage server, the network to it and the kernel's log."


# ---- images ----------------------------------------------------------------------------------------------------------


class DestinationVolumeTooSmall(Problem):
    code, status, text = 79, 409, "{file} offers {size} bytes, which is less than the {needed} that are needed"
    hint = "Extend it first, or choose a larger one."


class ImageVerificationError(Problem):
    code, status, text = 484, 422, "{file} is refused: {reason}"
    hint = "Flatten it where it came from: `qemu-img convert -O raw` (or qcow2) without a backing file."


class ImageOperationFailed(Problem):
    code, status, text = 10611, 500, "qemu-img could not {what} {file}: {reason}"
    hint = "The reason is qemu-img's own; `qemu-img check` says whether the image is sound."


class BitmapDoesNotExist(Problem):
    code, status, text = 947, 404, "{file} has no bitmap {bitmap}"
    hint = "Take a full backup, which begins a new one."


class AddBitmapError(Problem):
    code, status, text = 1620, 409, "{file} cannot record changes as {bitmap}: {reason}"
    hint = "`qemu-img info` shows the bitmaps of an image; a raw one has none."


class ToolMissing(Problem):
    code, status, text = 10612, 501, "this host has no {tool}"
    hint = "Install the package it comes in: `apt install {package}` on Debian."


# ---- mounts ----------------------------------------------------------------------------------------------------------


class MountError(Problem):
    code, status, text = 477, 409, "{what} could not be mounted or unmounted at {target}: {reason}"
    hint = "Try the same mount by hand; check the server's exports and the network to it."


class MountRefused(Problem):
    code, status, text = 470, 422, "{what} will not be mounted: {reason}"
    hint = "Correct the connection's address, type or options."


class ForeignMount(Problem):
    code, status, text = 10621, 409, "{target} holds {found}, which vdsm did not mount and leaves alone"
    hint = "Unmount it with the tool that mounted it if it is not needed."


# ---- leases ----------------------------------------------------------------------------------------------------------


class LockManagerUnavailable(Problem):
    code, status, retryable, text = 10631, 503, True, "sanlock does not answer: {reason}"
    hint = "Start it (`systemctl start sanlock`), or use a local domain without leases."


class ClusterLockInitError(Problem):
    code, status, text = 701, 500, "the lease {lease} could not be written: {reason}"
    hint = "Check that the storage can be written by sanlock's user."


class AcquireHostIdFailure(Problem):
    code, status, retryable, text = 661, 503, True, "host id {host_id} in {lockspace} could not be taken: {reason}"
    hint = (
        "It may take some minutes, more when the host that had it died. Make sure that no other host uses this id, and"
        " that sanlock's user may read and write the files in the domain's dom_md: sanlock's log has more."
    )


class ReleaseHostIdFailure(Problem):
    code, status, text = 662, 500, "host id {host_id} in {lockspace} could not be released: {reason}"
    hint = "Release the leases held there first."


class AcquireLockFailure(Problem):
    code, status, retryable, text = 651, 409, True, "the lease {lease} could not be taken: {reason}"
    hint = "Another host holds it: wait until it is done, or make sure that it is off."


class ReleaseLockFailure(Problem):
    code, status, text = 660, 500, "the lease {lease} could not be released: {reason}"
    hint = "sanlock's log (/var/log/sanlock.log) has more."


class SanlockLVBError(Problem):
    code, status, text = 703, 500, "the value of the lease {lease} could not be written: {reason}"
    hint = "sanlock's log (/var/log/sanlock.log) has more."


class SanlockInquireError(Problem):
    code, status, text = 704, 500, "the lease {lease} could not be read: {reason}"
    hint = "Check that the file is there and holds leases: `sanlock direct dump FILE`."


class NoSuchLease(Problem):
    code, status, text = 936, 404, "there is no lease {lease} in storage domain {domain}"
    hint = "Check the ids; Lease.rebuild_leases finds leases that the domain's index does not name."


class LeaseExists(Problem):
    code, status, text = 10632, 409, "there is a lease {lease} already"
    hint = "Use it, or another id."


class LeaseIndexUnusable(Problem):
    code, status, text = 10633, 409, "the index of leases in storage domain {domain} cannot be used: {reason}"
    hint = "Build it anew from the leases themselves: Lease.rebuild_leases."


class LeaseIndexFull(Problem):
    code, status, text = 10634, 409, "storage domain {domain} has {count} leases, and room for no more"
    hint = "Delete some that nothing uses, or use another domain."


# ---- transfers -------------------------------------------------------------------------------------------------------


class ImageTicketsError(Problem):
    code, status, text = 481, 409, "ovirt-imageio refused the ticket {ticket}: {reason}"
    hint = "Ask for a new ticket; the reason is ovirt-imageio's own."


class TicketRefused(Problem):
    code, status, text = 10641, 403, "there is no ticket for {url}: {reason}"
    hint = "Use the path that Image.prepare answers, or the URL that NBD.start_server answers."


class RemoteRefused(Problem):
    code, status, text = 10648, 403, "no image is fetched from or sent to {server}: {reason}"
    hint = "Name the server in `[transfers] remote_servers` of the configuration: `host` or `host:port`."


class RemoteTransferError(Problem):
    code, status, text = 10649, 502, "the transfer with {server} failed: {reason}"
    hint = "Try the same request from this host with `curl`; a volume that was being fetched into stays ILLEGAL."


class ImageDaemonError(Problem):
    code, status, retryable, text = 482, 503, True, "ovirt-imageio does not answer: {reason}"
    hint = "vdsm starts it again by itself; its log says why it ended."


class StreamCutShort(Problem):
    code, status, text = 10642, 400, "the stream ended after {got} of {size} bytes"
    hint = "Send or read it again from its beginning."


class BeyondVolume(Problem):
    code, status, text = 10643, 416, "volume {volume} has {size} bytes, fewer than {wanted}"
    hint = "Ask for the bytes from 0 to at most {size} minus 1."
