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


class StorageTypeError(Problem):
    code, status, text = 468, 422, "this host does not connect to storage of the type {type}"
    hint = "It offers LOCALFS: directories of its own."


class StorageDomainFSNotMounted(Problem):
    code, status, text = 360, 409, "this host is not connected to {remote}"
    hint = "Connect to it first: StoragePool.connectStorageServer."


class StorageDomainAlreadyAttached(Problem):
    code, status, text = 380, 409, "storage domain {domain} belongs to pool {pool}"
    hint = "Detach it there first."


class StorageDomainNotInPool(Problem):
    code, status, text = 353, 409, "storage domain {domain} does not belong to pool {pool}"
    hint = "`vdsmsh pool info` shows the domains of a pool."


class CannotDetachMasterStorageDomain(Problem):
    code, status, text = 383, 409, "storage domain {domain} is the master of its pool"
    hint = "The last domain goes with its pool: StoragePool.destroy."


# ---- pools -----------------------------------------------------------------------------------------------------------


class StoragePoolUnknown(Problem):
    code, status, text = 309, 404, "this host is connected to no storage pool {pool}"
    hint = "Connect to it first: StoragePool.connect. `vdsmsh storage list` shows the pools there are."


class StoragePoolAlreadyExists(Problem):
    code, status, text = 316, 409, "storage pool {pool} exists already"
    hint = "Connect to it, or use another id."


class StoragePoolMasterNotFound(Problem):
    code, status, text = 304, 409, "the master {domain} of storage pool {pool} cannot be used: {reason}"
    hint = "Connect to the place where it lies first: StoragePool.connectStorageServer."


class StoragePoolWrongMaster(Problem):
    code, status, text = 324, 409, "storage domain {domain} is not the master of pool {pool}: {reason}"
    hint = "Name the pool's present master and its version."


class SpmStatusError(Problem):
    code, status, text = 654, 409, "this host is not in charge of the pool of storage domain {domain}"
    hint = "Take charge first: StoragePool.spmStart."


class SpmStartError(Problem):
    code, status, text = 650, 409, "this host cannot take charge of storage pool {pool}: {reason}"
    hint = "Only one host may change a pool; leases see to that, or there is only one host."


class SpmStopError(Problem):
    code, status, retryable, text = 653, 409, True, "{count} operations still change storage pool {pool}"
    hint = "Wait until they are done, or stop their tasks."


class IsSpm(Problem):
    code, status, text = 656, 409, "this host is in charge of storage pool {pool}"
    hint = "Give that up first: StoragePool.spmStop."


# ---- volumes ---------------------------------------------------------------------------------------------------------


class VolumeDoesNotExist(Problem):
    code, status, text = 201, 404, "there is no volume {volume} in image {image}"
    hint = "`vdsmsh disk info {image}` shows the volumes of an image."


class VolumeAlreadyExists(Problem):
    code, status, text = 212, 409, "there is a volume {volume} already in image {image}"
    hint = "Use another id."


class CannotCloneVolume(Problem):
    code, status, text = 217, 422, "volume {volume} cannot go on from {parent}: {reason}"
    hint = "A new volume is of the format COW and goes on from the last legal volume of its image."
