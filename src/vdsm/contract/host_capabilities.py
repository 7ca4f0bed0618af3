# SPDX-License-Identifier: Apache-2.0
"""What the host is and can do, by the published names, with true types."""

from __future__ import annotations

import enum

import msgspec

from .host_network import NetInfoBond, NetInfoBridge, NetInfoNetwork, NetInfoNic, NetInfoVlan
from .types import MiB, Output
from .vm_info import Accelerator


class HardwareInformation(Output, frozen=True, kw_only=True):
    """What the firmware calls the computer; "" where it says nothing, or only says it to root."""

    system_manufacturer: str
    system_product_name: str
    system_version: str
    system_serial_number: str
    system_family: str
    system_uuid: str = msgspec.field(name="systemUUID")


class VmType(enum.StrEnum):
    KVM = "kvm"


class RngSource(enum.StrEnum):
    HWRNG = "hwrng"
    RANDOM = "random"


class OsName(enum.StrEnum):
    """The published names; a system that has none is `unknown`, and `prettyName` tells."""

    DEBIAN = "Debian"
    FEDORA = "Fedora"
    RHEL = "RHEL"
    RHEVH = "RHEV Hypervisor"
    NODE = "oVirt Node"
    UNKNOWN = "unknown"


class OsVersion(Output, frozen=True, kw_only=True):
    name: OsName
    version: str  # "12"
    release: str  # "5" of Debian 12.5; "" if it has none
    pretty_name: str = msgspec.field(name="pretty_name")


class SelinuxMode(enum.IntEnum):
    DISABLED = -1
    PERMISSIVE = 0
    ENFORCING = 1


class SelinuxStatus(Output, frozen=True, kw_only=True):
    mode: SelinuxMode


class KdumpStatus(enum.IntEnum):
    UNKNOWN = -1
    DISABLED = 0
    ENABLED = 1


class AutoNumaBalancing(enum.IntEnum):
    DISABLED = 0
    ENABLED = 1
    UNKNOWN = 2


class CpuInfo(Output, frozen=True, kw_only=True):
    """Where one online processor is."""

    cpu_id: int = msgspec.field(name="cpu_id")
    numa_cell_id: int = msgspec.field(name="numa_cell_id")
    socket_id: int = msgspec.field(name="socket_id")
    die_id: int = msgspec.field(name="die_id")
    core_id: int = msgspec.field(name="core_id")


class NumaNodeHugePages(Output, frozen=True, kw_only=True):
    total_pages: int


class NumaNode(Output, frozen=True, kw_only=True):
    cpus: list[int]
    total_memory: MiB
    hugepages: dict[str, NumaNodeHugePages]  # by page size in KiB


class SoftwarePackageInfo(Output, frozen=True, kw_only=True):
    """A package's version in the published form: digits and dots; then a release like `1.deb12`."""

    version: str
    release: str


class HookScript(Output, frozen=True, kw_only=True):
    checksum: str


class FcHba(Output, frozen=True, kw_only=True):
    model: str
    wwpn: str
    wwnn: str


class IscsiHba(Output, frozen=True, kw_only=True):
    initiator_name: str = msgspec.field(name="InitiatorName")


class HbaInventory(Output, frozen=True, kw_only=True):
    fc: list[FcHba] = msgspec.field(name="FC")
    iscsi: list[IscsiHba] = msgspec.field(name="iSCSI")


class ConnectorInfo(Output, frozen=True, kw_only=True):
    """How this host reaches managed block storage."""

    initiator: str
    ip: str
    platform: str
    os_type: str = msgspec.field(name="os_type")
    do_local_attach: bool = msgspec.field(name="do_local_attach")
    host: str
    multipath: bool


class Capabilities(Output, frozen=True, kw_only=True):
    """What the host is and can do. What needs a part this host lacks is there, empty or false."""

    # What runs guests.
    kvm_enabled: bool  # published meaning: this host can run guests; see `accelerator` for how
    accelerator: Accelerator
    kvm_reason: str  # why not KVM; "" with it
    vm_types: list[VmType]
    emulated_machines: list[str]
    nested_virtualization: bool
    hostdev_passthrough: bool  # there is an IOMMU
    rng_sources: list[RngSource]

    # Processors.
    cpu_model: str  # the maker's words
    cpu_flags: list[str]  # of the kernel and libvirt, then `model_<Name>` for each model guests can have
    cpu_speed: float  # MHz
    cpu_sockets: int
    cpu_cores: int
    cpu_threads: int
    online_cpus: list[int]
    cpu_topology: list[CpuInfo]
    vdsm_to_cpus_affinity: list[int]
    tsc_frequency: int  # Hz; 0: unknown or not steady
    tsc_scaling: bool

    # Memory.
    mem_size: MiB
    reserved_mem: MiB  # kept from guests for the host itself
    guest_overhead: MiB  # that a guest takes beside its own
    hugepages: list[int]  # page sizes, KiB
    numa_nodes: dict[str, NumaNode]
    numa_node_distance: dict[str, list[int]]
    auto_numa_balancing: AutoNumaBalancing

    # Software.
    operating_system: OsVersion
    packages2: dict[str, SoftwarePackageInfo]
    version_name: str = msgspec.field(name="version_name")
    software_version: str = msgspec.field(name="software_version")
    software_revision: str = msgspec.field(name="software_revision")
    build_name: str = msgspec.field(name="build_name")
    supported_engines: list[str] = msgspec.field(name="supportedENGINEs")
    cluster_levels: list[str]
    kernel_args: str
    kernel_features: dict[str, int] = {}
    realtime_kernel: bool
    boot_time: int  # seconds since 1970
    boot_uuid: str = msgspec.field(name="boot_uuid")
    uuid: str  # of the host; stays over re-installation where the firmware has one
    kdump_status: KdumpStatus
    selinux: SelinuxStatus
    fips_enabled: bool
    vnc_encrypted: bool

    # Networks.
    nics: dict[str, NetInfoNic]
    bondings: dict[str, NetInfoBond]
    vlans: dict[str, NetInfoVlan]
    bridges: dict[str, NetInfoBridge]
    networks: dict[str, NetInfoNetwork]
    nameservers: list[str]
    supports_ipv6: bool = msgspec.field(name="supportsIPv6")
    net_config_dirty: bool = False
    last_client_iface: str = ""
    ovn_configured: bool = False
    openstack_binding_host_ids: dict[str, str] = msgspec.field(name="openstack_binding_host_ids", default_factory=dict)

    # Storage.
    iscsi_initiator_name: str = msgspec.field(name="ISCSIInitiatorName")
    hba_inventory: HbaInventory = msgspec.field(name="HBAInventory")
    domain_versions: list[int] = msgspec.field(name="domain_versions", default_factory=list)
    supported_block_size: dict[str, list[int]] = msgspec.field(name="supported_block_size", default_factory=dict)
    connector_info: ConnectorInfo | None = msgspec.field(name="connector_info", default=None)

    # Abilities that come with later parts.
    additional_features: list[str] = []
    hooks: dict[str, dict[str, HookScript]] = {}
    hosted_engine_deployed: bool = False
    live_snapshot: bool = False
    live_merge: bool = False
    backup_enabled: bool = False
    cold_backup_enabled: bool = False
    clear_bitmaps_enabled: bool = False
    cd_change_pdiv: bool = msgspec.field(name="cd_change_pdiv", default=False)
    zerocopy_migrations: bool = msgspec.field(name="zerocopy_migrations", default=False)
