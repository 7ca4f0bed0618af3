# SPDX-License-Identifier: Apache-2.0
"""Storage pools: the domains that belong together, and the one host that may change them."""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from . import errors as e
from . import errors_domains as ed
from . import errors_storage as es
from . import events as ev
from ._verb import Kind, Wire, verb
from .access import Privilege
from .sdm import MERGE_REFUSALS, SubchainInfo
from .storage_pool_vms import BackedUpVm, Ovf
from .storage_words import DomainId, ImageId, PoolId, StorageDomainStatus, StorageDomainType, VolumeId
from .types import END, Bytes, Input, Output, Secret, Text, Uuid, VmId

NOUN = "StoragePool"

_FILES = (
    es.FileMissing, es.FileExists, es.PathEscapes, es.NoSpaceLeftOnDomain, es.StorageReadOnly, es.StorageBroken,
    e.DeadlineExceeded, e.TooBusy,
)  # fmt: skip
_CHANGES = (*_FILES, e.ObjectBusy, e.StateUnavailable, ed.StorageDomainDoesNotExist, ed.StorageUnusable)
_LEASES = (es.ClusterLockInitError, es.AcquireHostIdFailure, es.LockManagerUnavailable)  # where there are some
_HOLDER = (
    ed.StoragePoolUnknown, ed.StorageDomainDoesNotExist, ed.StorageUnusable, es.SanlockInquireError,
    es.LockManagerUnavailable, e.DeadlineExceeded, e.TooBusy,
)  # fmt: skip
_POOL = (*_CHANGES, ed.StoragePoolUnknown)

MasterId = Annotated[DomainId, Wire("masterSdUUID")]
MasterVersion = Annotated[int, Meta(ge=0, le=2**31)]
HostId = Annotated[int, Meta(ge=1, le=2000, description="This host's number among those of the pool.")]
LeaseSeconds = Annotated[int, Meta(ge=1, le=86_400, description="Seconds; for domains with leases.")]
PoolName = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]{0,160}" + END, description="One line of text.")]
RemotePath = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00-\x1f\x7f]{1,4096}" + END,
        description="A directory of this host, or of a server as in server:/export.",
        examples=["/srv/vm"],
    ),
]


class SpmRole(enum.StrEnum):
    """How this host stands to a pool."""

    FREE = "Free"
    CONTEND = "Contend"
    SPM = "SPM"  # in charge: it alone may change the pool


class StoragePoolStatus(enum.StrEnum):
    CONNECTED = "connected"
    UNINITIALIZED = "uninitialized"


class StoragePoolUpgradeStatus(enum.StrEnum):
    STARTED = "started"


class ConnectionRef(Input, frozen=True, kw_only=True):
    """A place where domains lie. Which fields count depends on the type; a local one has only its directory.

    NFS: protocol_version ("3" unless given, "4.2", ..., "auto"), timeout (tenths of a second), retrans, mnt_options.
    POSIXFS: vfs_type (ext4, ceph, ...), mnt_options. None may need a password: this host keeps none.
    """

    id: Uuid
    connection: RemotePath
    port: Text = ""
    iqn: Text = ""
    portal: Text = ""
    user: Text = ""
    password: Secret | None = None
    tpgt: Text = ""
    initiator_name: Text = ""
    iface_name: Text = ""
    net_iface_name: Text = ""
    ipv6_enabled: bool = msgspec.field(name="ipv6_enabled", default=False)
    vfs_type: Text = msgspec.field(name="vfs_type", default="")
    mnt_options: Text = msgspec.field(name="mnt_options", default="")
    protocol_version: Text = msgspec.field(name="protocol_version", default="")
    timeout: int | None = None
    retrans: int | None = None


class ConnectionStatus(Output, frozen=True, kw_only=True):
    """What came of one connection: 0, or the code of a problem, with its text."""

    id: Uuid
    status: int
    reason: str = ""


class SpmStatus(Output, frozen=True, kw_only=True):
    """Which host is in charge of a pool."""

    spm_status: SpmRole
    spm_id: int  # of the host in charge; -1: none
    spm_lver: int  # how often some host has taken charge; -1: none ever


class StoragePoolInfo(Output, frozen=True, kw_only=True):
    """A pool as its master domain tells it."""

    name: str
    type: StorageDomainType
    master_uuid: DomainId = msgspec.field(name="master_uuid")
    master_ver: int = msgspec.field(name="master_ver")
    spm_id: int = msgspec.field(name="spm_id")
    lver: int
    version: str
    domains: str  # <id>:<status>,...
    isoprefix: str
    pool_status: StoragePoolStatus = msgspec.field(name="pool_status")
    leases: bool  # whether sanlock keeps other hosts from what this one uses


class DomainAlert(Output, frozen=True, kw_only=True):
    code: int
    message: str


class StoragePoolDomainInfo(Output, frozen=True, kw_only=True):
    """A domain of a pool."""

    status: StorageDomainStatus
    version: int
    diskfree: Bytes | None = None
    disktotal: Bytes | None = None
    alerts: list[DomainAlert] = []
    isoprefix: str = ""


class StoragePoolFullInfo(Output, frozen=True, kw_only=True):
    info: StoragePoolInfo
    dominfo: dict[DomainId, StoragePoolDomainInfo]


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /pools/{storagepool_id}/servers",
    command="pool connect-server", raises=(e.ObjectBusy,), emits=(ev.StorageStatus,),
)  # fmt: skip
def connect_storage_server(
    storagepool_id: PoolId, domain_type: StorageDomainType, connection_params: list[ConnectionRef]
) -> list[ConnectionStatus]:
    """Make places where domains lie known to this host, from now on and after each restart.

    Each has a status of its own. Local directories (LOCALFS) are linked, NFS exports and what else can be mounted
    (POSIXFS) are mounted in the repository's directory `mnt`.
    """


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_ADMIN, since="1.0", http="DELETE /pools/{storagepool_id}/servers",
    command="pool disconnect-server", raises=(e.ObjectBusy,), emits=(ev.StorageStatus,),
)  # fmt: skip
def disconnect_storage_server(
    storagepool_id: PoolId, domain_type: StorageDomainType, connection_params: list[ConnectionRef]
) -> list[ConnectionStatus]:
    """Let go of places, and unmount them. Each has a status of its own; one whose domains are in use stays."""


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /pools/{storagepool_id}",
    command="pool create",
    raises=(*_CHANGES, *_LEASES, ed.StoragePoolAlreadyExists, ed.StorageDomainAlreadyAttached),
)  # fmt: skip
def create(
    storagepool_id: PoolId,
    name: PoolName,
    master_sd_id: MasterId,
    master_version: MasterVersion,
    domain_list: list[DomainId],
    lock_renewal_interval_sec: LeaseSeconds = 5,
    lease_time_sec: LeaseSeconds = 60,
    io_op_timeout_sec: LeaseSeconds = 10,
    lease_retries: Annotated[int, Meta(ge=0, le=100)] = 3,
) -> None:
    """Make a pool of unattached domains, one of them its master. The host is not connected to it by that."""


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /pools/{storagepool_id}/connect",
    command="pool connect", raises=(*_CHANGES, *_LEASES, ed.StoragePoolMasterNotFound, ed.StoragePoolWrongMaster),
)  # fmt: skip
def connect(
    storagepool_id: PoolId,
    host_id: HostId,
    scsi_key: Text,
    master_sd_id: MasterId,
    master_version: MasterVersion,
    domain_dict: dict[DomainId, StorageDomainStatus] | None = None,
) -> None:
    """Use a pool, from now on and after each restart. Connected already is fine: then its domains are what counts.

    In domains with leases this host's id is taken in the background, which takes up to some minutes.
    """


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /pools/{storagepool_id}/disconnect",
    command="pool disconnect", raises=(*_POOL, ed.IsSpm, ed.StorageInUse, e.HypervisorUnavailable),
)  # fmt: skip
def disconnect(storagepool_id: PoolId, host_id: HostId, scsi_key: Text, *, remove: bool = False) -> None:
    """Use a pool no more. The host must not be in charge of it; not connected is fine."""


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /pools/{storagepool_id}/destroy",
    command="pool destroy",
    raises=(
        *_POOL, *_LEASES, ed.SpmStatusError, ed.StorageInUse, e.HypervisorUnavailable, es.AcquireLockFailure,
        es.ReleaseLockFailure,
    ),
    emits=(ev.PoolStatus,),
)  # fmt: skip
def destroy(storagepool_id: PoolId, host_id: HostId, scsi_key: Text) -> None:
    """Take a pool apart: its domains belong to none afterwards. What is in them stays.

    This host is in charge of it, or is not connected to it any more; then, with leases, no other host may be in charge.
    """


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /pools/{storagepool_id}",
    command="pool info", raises=_HOLDER,
)  # fmt: skip
def get_info(storagepool_id: PoolId) -> StoragePoolFullInfo:
    """A pool and its domains."""


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /pools/{storagepool_id}/spm",
    command="pool spm", raises=_HOLDER,
)  # fmt: skip
def get_spm_status(storagepool_id: PoolId) -> SpmStatus:
    """Whether this host is in charge of a pool, and which host is: where there are leases the storage says so."""


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /pools/{storagepool_id}/spm/start",
    command="pool spm-start",
    raises=(*_POOL, *_LEASES, ed.SpmStartError, es.AcquireLockFailure, es.SanlockInquireError),
    emits=(ev.PoolStatus,),
)  # fmt: skip
def spm_start(
    storagepool_id: PoolId,
    prev_id: Annotated[int, Meta(ge=-1, le=2000)] = -1,
    prev_lver: Annotated[int, Meta(ge=-1)] = -1,
    enable_scsi_fencing: bool = False,
    max_host_id: HostId = 250,
    dom_version: Annotated[int, Meta(ge=0, le=5)] = 5,
) -> None:
    """Take charge of a pool: with leases, once this host's id is taken, for which it waits up to 180 s, and the lease.

    Of one of local directories, which has no leases unless the configuration says so, this is only this host's word.
    """


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /pools/{storagepool_id}/spm/stop",
    command="pool spm-stop",
    raises=(*_POOL, ed.SpmStopError, es.ReleaseLockFailure, es.LockManagerUnavailable), emits=(ev.PoolStatus,),
)  # fmt: skip
def spm_stop(storagepool_id: PoolId) -> None:
    """Give up charge of a pool. Not in charge is fine."""


# ---- the pool and its master -----------------------------------------------------------------------------------------


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /pools/{storagepool_id}/description",
    command="pool set-description", raises=(*_POOL, ed.SpmStatusError),
)  # fmt: skip
def set_description(storagepool_id: PoolId, description: PoolName) -> None:
    """Give a pool another name."""


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /pools/{storagepool_id}/reconstruct",
    command="pool reconstruct-master",
    raises=(
        *_CHANGES, *_LEASES, ed.StoragePoolConnected, ed.ReconstructMasterError,
        ed.StoragePoolHigherVersionMasterFound, ed.StorageDomainAlreadyAttached, ed.IsoCannotBeMasterDomain,
        ed.BackupCannotBeMasterDomain, es.AcquireLockFailure, es.ReleaseLockFailure,
    ),
)  # fmt: skip
def reconstruct_master(
    storagepool_id: PoolId,
    host_id: Annotated[HostId, Wire("hostId")],
    name: PoolName,
    master_sd_id: MasterId,
    master_version: MasterVersion,
    domain_dict: dict[DomainId, StorageDomainStatus],
    lock_renewal_interval_sec: LeaseSeconds,
    lease_time_sec: LeaseSeconds,
    io_op_timeout_sec: LeaseSeconds,
    lease_retries: Annotated[int, Meta(ge=0, le=100)],
) -> None:
    """Make another domain the master of a pool whose master is lost or wrong, with a higher version.

    This host must be connected to the place of the domain and not to the pool; with leases it is in charge meanwhile.
    Domains of `domainDict` that it does
    not reach stay as they are; a master that comes back with a lower version is an ordinary domain then.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /pools/{storagepool_id}/master",
    command="pool switch-master",
    raises=(*_POOL, ed.SpmStatusError, ed.StoragePoolWrongMaster, ed.StorageDomainNotInPool, ed.StorageDomainNotActive,
            ed.IsoCannotBeMasterDomain, ed.BackupCannotBeMasterDomain),
)  # fmt: skip
def switch_master(
    storagepool_id: PoolId,
    old_master_id: Annotated[DomainId, Wire("oldMasterUUID")],
    new_master_id: Annotated[DomainId, Wire("newMasterUUID")],
    master_version: MasterVersion,
) -> None:
    """Let another active domain of the pool be its master, with a higher version and all that the old one kept."""


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /pools/{storagepool_id}/upgrade",
    command="pool upgrade",
    raises=(*_POOL, ed.SpmStatusError, ed.UnsupportedDomainVersion, ed.CurrentVersionTooAdvancedError),
)  # fmt: skip
def upgrade(
    storagepool_id: PoolId, target_dom_version: Annotated[int, Meta(ge=0, le=1000)]
) -> StoragePoolUpgradeStatus:
    """Bring a pool's domains to a version. This host offers version 5, which they have."""


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0",
    http="GET /pools/{storagepool_id}/images/{image_id}/domains", command="pool domains-containing-image",
    raises=(*_FILES, ed.StoragePoolUnknown, ed.StorageDomainDoesNotExist, ed.StorageUnusable),
)  # fmt: skip
def get_domains_containing_image(storagepool_id: PoolId, image_id: ImageId) -> list[DomainId]:
    """The active domains of a pool that hold an image."""


# ---- definitions of machines, kept in a pool -------------------------------------------------------------------------


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_ADMIN, since="1.0", http="POST /pools/{storagepool_id}/vms",
    published="updateVMs", command="pool update-vms", raises=(*_POOL, ed.SpmStatusError, ed.StorageDomainNotInPool),
)  # fmt: skip
def update_vms(storagepool_id: PoolId, vm_list: list[BackedUpVm], storagedomain_id: DomainId | None = None) -> None:
    """Keep a manager's definitions of machines: in the pool's master, or in the domain named.

    They are kept as they are, and nothing here reads them. Each is wholly the old or wholly the new one, always.
    """


@verb(
    kind=Kind.ACTION, needs=Privilege.STORAGE_ADMIN, since="1.0", http="DELETE /pools/{storagepool_id}/vms/{vm_id}",
    published="removeVM", command="pool remove-vm", raises=(*_POOL, ed.SpmStatusError, ed.StorageDomainNotInPool),
)  # fmt: skip
def remove_vm(
    storagepool_id: PoolId, vm_id: Annotated[VmId, Wire("vmUUID")], storagedomain_id: DomainId | None = None
) -> None:
    """Keep a machine's definition no more. Not kept is fine."""


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_READ, since="1.0", http="GET /pools/{storagepool_id}/vms",
    published="getBackedUpVmsList", command="pool vms",
    raises=(*_FILES, ed.StoragePoolUnknown, ed.StorageDomainDoesNotExist, ed.StorageUnusable,
            ed.StorageDomainNotInPool),
)  # fmt: skip
def get_backed_up_vms_list(storagepool_id: PoolId, storagedomain_id: DomainId | None = None) -> list[VmId]:
    """The machines whose definitions are kept in the pool's master, or in the domain named."""


@verb(
    kind=Kind.QUERY, needs=Privilege.STORAGE_ADMIN, since="1.0", http="GET /pools/{storagepool_id}/vms/definitions",
    published="getBackedUpVmsInfo", command="pool vm-definitions",
    raises=(*_FILES, ed.StoragePoolUnknown, ed.StorageDomainDoesNotExist, ed.StorageUnusable,
            ed.StorageDomainNotInPool, ed.MissingOvfFileFromVM),
)  # fmt: skip
def get_backed_up_vms_info(
    storagepool_id: PoolId,
    storagedomain_id: DomainId | None = None,
    vm_list: list[VmId] = [],  # noqa: B006
) -> dict[VmId, Ovf]:
    """The definitions that are kept of some machines, or of all; what is none is left out of all."""


# ---- cold merges ----------------------------------------------------------------------------------------------------

_VOLUMES = (
    *_CHANGES, ed.SpmStatusError, ed.VolumeDoesNotExist, es.ImageOperationFailed, es.ImageVerificationError,
    e.TaskAborted,
)  # fmt: skip
_MERGES = (
    *_VOLUMES, *MERGE_REFUSALS, ed.DiskUnusable, ed.DiskInUse, ed.GenerationMismatch, e.HypervisorUnavailable,
)  # fmt: skip


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /pools/{storagepool_id}/prepare-merge",
    command="pool prepare-merge", raises=_MERGES,
)  # fmt: skip
def prepare_merge(storagepool_id: PoolId, subchain_info: SubchainInfo) -> None:
    """Make a volume ready to take in the one that goes on from it: large enough, and ILLEGAL until it is done.

    Then `SDM.merge`, `StoragePool.finalizeMerge` and `Image.deleteVolumes`. No machine may have the disk.
    """


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /pools/{storagepool_id}/finalize-merge",
    command="pool finalize-merge", raises=_MERGES,
)  # fmt: skip
def finalize_merge(storagepool_id: PoolId, subchain_info: SubchainInfo) -> None:
    """After `SDM.merge`, let the chain go on without the volume that was merged, which is ILLEGAL from then on."""


@verb(
    kind=Kind.TASK, needs=Privilege.STORAGE_DISKS, since="1.0", http="POST /pools/{storagepool_id}/reduce-volume",
    command="pool reduce-volume", raises=_VOLUMES,
)  # fmt: skip
def reduce_volume(
    storagepool_id: PoolId,
    storagedomain_id: DomainId,
    image_id: ImageId,
    volume_id: VolumeId,
    allow_active: bool = False,
) -> None:
    """Give back what a volume does not need. That is for block storage: a file takes no more than it holds."""
