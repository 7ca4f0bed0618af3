# SPDX-License-Identifier: Apache-2.0
"""Where things lie, on the host and in a domain. Names come in as checked ids, so no path can leave its place."""

from __future__ import annotations

from .lines import is_uuid

METADATA = "dom_md/metadata"
LOCKSPACE = "dom_md/ids"
LEASES = "dom_md/leases"
EXTERNAL_LEASES = "dom_md/xleases"
INBOX = "dom_md/inbox"
OUTBOX = "dom_md/outbox"
MAILBOX_BYTES = 16 << 20
IMAGES = "images"
ISO_IMAGE = "11111111-1111-1111-1111-111111111111"  # the image that holds all files of a domain of disc images
ISO_IMAGES = f"{IMAGES}/{ISO_IMAGE}"
MASTER = "master"
MASTER_TASKS = "master/tasks"
MASTER_VMS = "master/vms"

META = ".meta"
LEASE = ".lease"
VOLATILE = ".meta.volatile"  # of a volume that is being made
REMOVED = "_remove_me_"  # before the name of an image that is being removed


def mount_name(remote_path: str) -> str:
    """The name of a remote path's entry below `mnt`: `srv:/a_b` -> `srv:_a__b`."""
    return remote_path.replace("_", "__").replace("/", "_")


def image(image_id: str) -> str:
    return f"{IMAGES}/{_checked(image_id)}"


def removed_image(image_id: str) -> str:
    return f"{IMAGES}/{REMOVED}{_checked(image_id)}"


def volume(image_id: str, volume_id: str) -> str:
    return f"{image(image_id)}/{_checked(volume_id)}"


def meta(image_id: str, volume_id: str) -> str:
    return volume(image_id, volume_id) + META


def lease(image_id: str, volume_id: str) -> str:
    return volume(image_id, volume_id) + LEASE


def volatile(image_id: str, volume_id: str) -> str:
    return volume(image_id, volume_id) + VOLATILE


def machine(vm_id: str) -> str:
    """Where a manager's definition of a machine is kept."""
    return f"{MASTER_VMS}/{_checked(vm_id)}"


def definition(vm_id: str) -> str:
    return f"{machine(vm_id)}/{vm_id}.ovf"


def volumes_among(names: list[str]) -> list[str]:
    """The ids of volumes in an image's directory: those that have metadata."""
    return sorted(name.removesuffix(META) for name in names if name.endswith(META) and is_uuid(name[: -len(META)]))


def _checked(name: str) -> str:
    if not is_uuid(name):  # the contract checked it already; a path is not built on that alone
        raise ValueError(f"{name!r} is no id")
    return name
