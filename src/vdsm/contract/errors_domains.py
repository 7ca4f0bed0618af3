# SPDX-License-Identifier: Apache-2.0
"""The problems of storage domains, pools, images, volumes and disks, as `errors.py` has the others."""

from __future__ import annotations

from .errors import Problem

# ---- domains ---------------------------------------------------------------------------------------------------------


class StorageDomainDoesNotExist(Problem):
    code, status, text = 358, 404, "there is no storage domain {domain}"
    hint = "List the ones this host is connected to: `vdsmsh storage list`."


class StorageDomainAlreadyExists(Problem):
    code, status, text = 365, 409, "there is a storage domain already: {domain}"
    hint = "Use another directory or id; `vdsmsh storage open` takes up a domain that lies in a directory."


class StorageDomainNotEmpty(Problem):
    code, status, text = 361, 409, "storage domain {domain} holds {count} images"
    hint = "Delete them first: `vdsmsh disk list` shows them."


class StoragePathRefused(Problem):
    code, status, text = 10701, 403, "no storage can be made at {directory}: {reason}"
    hint = "Use a directory below one of: {allowed}; `[storage] directories` in the configuration names them."


class StorageUnusable(Problem):
    code, status, retryable, text = 10702, 409, True, "storage domain {domain} cannot be used now: {reason}"
    hint = "`vdsmsh storage list` shows how the host's storage stands."


class WhichStorage(Problem):
    code, status, text = 10703, 409, "this host has {count} storage domains that could take it"
    hint = "Make the first one with `vdsmsh storage init DIRECTORY`, or name the one you mean with `--storage`."


class StorageInUse(Problem):
    code, status, text = 10704, 409, "storage domain {domain} is in use by {user}"
    hint = "Shut the machines down that have disks there, or detach those."


# ---- volumes and disks -----------------------------------------------------------------------------------------------


class NoSuchDisk(Problem):
    code, status, text = 268, 404, "there is no disk {disk}"
    hint = "List the ones there are: `vdsmsh disk list`."


class DiskExists(Problem):
    code, status, text = 10711, 409, "there is a disk {disk} already"
    hint = "Choose another name or id; `vdsmsh disk list` shows them."


class DiskInUse(Problem):
    code, status, text = 203, 409, "disk {disk} belongs to virtual machine {vm}"
    hint = "Destroy or undefine that machine first: `vdsmsh vm info {vm}`."


class DiskUnusable(Problem):
    code, status, text = 227, 409, "disk {disk} cannot be used: {reason}"
    hint = "`vdsmsh disk info {disk}` shows its volumes; nothing was changed."
