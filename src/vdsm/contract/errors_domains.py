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


class DomainWithoutLeases(Problem):
    code, status, text = 10705, 409, "storage domain {domain} is used without leases"
    hint = "Mounted storage has them always; local directories with `[storage] local_leases` in the configuration."


class StorageInUse(Problem):
    code, status, text = 10704, 409, "storage domain {domain} is in use by {user}"
    hint = "Shut the machines down that have disks there, or detach those; wait for the work, or stop its task."


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


class ImageInUse(Problem):
    code, status, retryable = 10706, 409, True
    text = "{path} is open in another program: a download, an NBD server, another machine"
    hint = "Let that end first. Who stopped reading a download without saying so is noticed after a minute or two."


class DiskUnusable(Problem):
    code, status, text = 227, 409, "disk {disk} cannot be used: {reason}"
    hint = "`vdsmsh disk info {disk}` shows its volumes; nothing was changed."


class StorageTypeError(Problem):
    code, status, text = 468, 422, "this host does not connect to storage of the type {type}"
    hint = "It offers LOCALFS (directories of its own), NFS, and POSIXFS (other file systems that can be mounted)."


class StorageDomainTypeError(Problem):
    code, status, text = 372, 422, "{remote} is connected as storage of the type {found}, not {type}"
    hint = "Name the type under which it was connected."


class StorageDomainBlockSizeMismatch(Problem):
    code, status, text = 348, 422, "a domain of blocks of {size} bytes cannot be made at {remote}: {reason}"
    hint = "Give the block size 0, which takes what the file system has."


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
    hint = "Let another domain be the master first: StoragePool.switchMaster. The last goes with its pool."


class StorageDomainNotActive(Problem):
    code, status, text = 369, 409, "storage domain {domain} is not active in pool {pool}"
    hint = "Activate it first: StorageDomain.activate."


class StorageDomainClassError(Problem):
    code, status, text = 386, 409, "storage domain {domain} is of the class {found}, not {needed}"
    hint = "`vdsmsh domain info` shows a domain's class."


class IsoCannotBeMasterDomain(Problem):
    code, status, text = 317, 409, "storage domain {domain} holds disc images and cannot be the master of a pool"
    hint = "Use a domain of the class Data."


class BackupCannotBeMasterDomain(Problem):
    code, status, text = 319, 409, "storage domain {domain} is for backups and cannot be the master of a pool"
    hint = "Use a domain of the class Data."


class ImagesNotSupportedError(Problem):
    code, status, text = 329, 409, "storage domain {domain} holds disc images and no disks"
    hint = "Copy disc images into its directory as files; make disks in a domain of the class Data."


class UnsupportedDomainVersion(Problem):
    code, status, text = 394, 422, "this host does not offer storage domains of version {version}"
    hint = "It offers version 5."


class CurrentVersionTooAdvancedError(Problem):
    code, status, text = 395, 422, "storage domains of version {current} cannot go back to version {version}"
    hint = "Leave them as they are."


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


class StoragePoolHigherVersionMasterFound(Problem):
    code, status, text = 326, 409, "storage domain {domain} is the master of pool {pool} with version {version}"
    hint = "Give a higher version, or connect to the pool by that master."


class StoragePoolConnected(Problem):
    code, status, text = 325, 409, "this host is connected to storage pool {pool}"
    hint = "Disconnect from it first: StoragePool.disconnect."


class ReconstructMasterError(Problem):
    code, status, text = 306, 422, "storage pool {pool} cannot have the master {domain}: {reason}"
    hint = "Name an active domain among those of the pool."


class MissingOvfFileFromVM(Problem):
    code, status, text = 320, 404, "there is no definition of machine {vm} in storage domain {domain}: {reason}"
    hint = "StoragePool.getBackedUpVmsList shows the machines there are."


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
    hint = "A new volume is of the format COW and goes on from the last legal volume of its image, or from a template."


class VolumeImageHasChildren(Problem):
    code, status, text = 204, 409, "volume {child} goes on from volume {volume} of image {image}"
    hint = "Delete that one first, or merge the two."


class CannotDeleteSharedVolume(Problem):
    code, status, text = 223, 409, "volume {volume} is a template that image {image} goes on from"
    hint = "Delete the images that go on from it first; the link to it in such an image goes with that image."


class OverwriteImageError(Problem):
    code, status, text = 265, 409, "there is an image {image} in storage domain {domain} already"
    hint = "Delete that one first: nothing is ever written over."


class CouldNotValidateTemplateOnTargetDomain(Problem):
    code, status, text = 263, 409, "storage domain {domain} does not have the template {volume} of image {image}"
    hint = "Copy the template there first: Volume.copy with the same ids and the role SHARED."


class VolumeNonWritable(Problem):
    code, status, text = 213, 409, "volume {volume} of image {image} is not written to: {reason}"
    hint = "Only the last volume of an image, which is no template, changes."


class VolumeResizeValueError(Problem):
    code, status, text = 232, 422, "volume {volume} has {capacity} bytes, which is more than {size}"
    hint = "A volume only grows."


class GenerationMismatch(Problem):
    code, status, text = 911, 409, "volume or lease {volume} is of generation {found}, not {stated}"
    hint = "Another job has finished on it since: look at Volume.getInfo, or Lease.status, before you ask again."


class JobStatusMismatch(Problem):
    code, status, text = 912, 409, "there is no such pending job at lease {lease}: what is there is {found}"
    hint = "`vdsmsh lease status` shows it. A job that has ended need not be fenced."


class CannotCopyVolume(Problem):
    code, status, text = 225, 409, "volume {volume} cannot be copied into {target}: {reason}"
    hint = "The target is a volume of its own, with no parent or with the source's; nothing was changed."


class ManagedVolumeNotSupported(Problem):
    code, status, text = 925, 422, "{what} is no volume of a storage domain, and this host works on no others"
    hint = "Give the domain, image and volume ids, with the endpoint type `div`."


class VolumeIsNotInChain(Problem):
    code, status, text = 920, 409, "volume {volume} is in the chain of image {image} no more"
    hint = "It was merged: Image.deleteVolumes removes it."


class WrongParentVolume(Problem):
    code, status, text = 921, 409, "volume {volume} does not go on from {parent}"
    hint = "`vdsmsh disk info` shows the chain; a volume is merged into the one right below it."


class SharedVolumeNonWritable(Problem):
    code, status, text = 219, 409, "volume {volume} is a template, which others go on from"
    hint = "Copy it instead: SDM.copy_data."


class UnexpectedVolumeState(Problem):
    code, status, text = 922, 409, "volume {volume} is not in the state for this: {reason}"
    hint = "A merge is StoragePool.prepareMerge, SDM.merge, StoragePool.finalizeMerge, Image.deleteVolumes."


class InvalidVolumeUpdate(Problem):
    code, status, text = 235, 422, "volume {volume} cannot become that: {reason}"
    hint = "A LEAF without a parent can become SHARED, a template; other roles follow from the chain."


class IncorrectFormat(Problem):
    code, status, text = 202, 409, "volume {volume} is {format}, and this is for COW volumes"
    hint = "Copy it into a COW volume first: SDM.copy_data."


class MergeSnapshotsError(Problem):
    code, status, text = 252, 409, "volume {volume} of disk {disk} cannot be merged: {reason}"
    hint = "`vdsmsh disk info {disk}` shows the volumes of a disk; each but the last listed can be merged."
