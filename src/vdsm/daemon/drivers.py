# SPDX-License-Identifier: Apache-2.0
"""One driver for each port: the real ones, or the simulated host with its machines."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vdsm.contract.vm_params import VmParams
from vdsm.core.ports.disks import DiskImages
from vdsm.core.ports.files import Files
from vdsm.core.ports.hypervisor import Hypervisor
from vdsm.core.ports.images import Images
from vdsm.core.ports.leases import Leases
from vdsm.core.ports.links import Links
from vdsm.core.ports.machine import Machine
from vdsm.core.ports.mounts import Mounts
from vdsm.core.ports.remotes import Remotes
from vdsm.core.ports.transfers import ImageServers, Transfers
from vdsm.core.vm import build, xml
from vdsm.drivers.simulated import Faults, SimulatedHypervisor, SimulatedImages
from vdsm.drivers.simulated.computer import SimulatedMachine
from vdsm.drivers.simulated.disks import SimulatedDisks
from vdsm.drivers.simulated.files import SimulatedFiles
from vdsm.drivers.simulated.leases import SimulatedLeases
from vdsm.drivers.simulated.links import SimulatedLinks
from vdsm.drivers.simulated.mounts import SimulatedMounts
from vdsm.drivers.simulated.remotes import SimulatedRemotes
from vdsm.drivers.simulated.transfers import SimulatedServers, SimulatedTransfers
from vdsm.drivers.simulated.tree import Tree

from .config import Config, ConfigError

if TYPE_CHECKING:
    from vdsm.drivers.imageio import Door

SIMULATED = uuid.UUID("5d1c7b43-0f5f-4d5e-9d0a-6f6c1d1f6a10")  # name space: a simulated machine keeps its id


@dataclass(frozen=True, slots=True)
class Drivers:
    hypervisor: Hypervisor  # opened and closed by the table of machines
    images: Images
    machine: Machine
    links: Links
    files: Files
    disks: DiskImages
    mounts: Mounts
    leases: Leases
    transfers: Transfers
    remotes: Remotes
    servers: ImageServers

    async def close(self) -> None:
        await self.transfers.close()
        await self.servers.close()
        await self.leases.close()
        await self.files.close()
        self.mounts.close()
        self.disks.close()
        await self.machine.close()
        await self.links.close()


def real(config: Config) -> Drivers:
    """libvirt, QEMU's tools and the Linux this runs on. Raises ConfigError."""
    from vdsm.drivers.filesystem import LinuxFiles, LinuxMounts
    from vdsm.drivers.http import HttpRemotes
    from vdsm.drivers.imageio import ImageioTransfers
    from vdsm.drivers.libvirt import LibvirtHypervisor
    from vdsm.drivers.linux.machine import LinuxMachine
    from vdsm.drivers.netlink.links import LinuxLinks
    from vdsm.drivers.qemu import QemuDisks, QemuImages, QemuServers
    from vdsm.drivers.sanlock import SanlockLeases

    # The run directory is emptied when the host boots, and so is what was found out about KVM.
    run = Path(config.daemon.run_directory)
    try:
        transfers = ImageioTransfers(run / "imageio", _door(config))
    except ValueError as error:
        raise ConfigError(f"[transfers] listen: {error}") from None
    return Drivers(
        LibvirtHypervisor(config.libvirt.uri, cache_dir=run),
        QemuImages(),
        LinuxMachine(),
        LinuxLinks(),
        LinuxFiles(),
        QemuDisks(),
        LinuxMounts(),
        SanlockLeases(run_directory=config.sanlock.run_directory),
        transfers,
        HttpRemotes(config.transfers.remote_ca),
        QemuServers(run / "nbd"),
    )


def _door(config: Config) -> Door:
    """Where images come and go: with REST's certificates if REST has a TLS port."""
    from vdsm.drivers.imageio import Door

    host = config.transfers.listen or config.rest.listen or "127.0.0.1"
    if not config.rest.listen:
        return Door(host=host, port=config.transfers.port)
    rest = config.rest
    return Door(host=host, port=config.transfers.port, key_file=rest.key, cert_file=rest.certificate, ca_file=rest.ca)


async def simulated(config: Config, machines: int) -> Drivers:
    """A host in memory with that many running machines. Raises ConfigError."""
    try:
        faults = Faults.parse(config.simulate.faults)
    except ValueError as error:
        raise ConfigError(f"[simulate] faults: {error}") from None
    hypervisor = SimulatedHypervisor()
    facts = await hypervisor.facts()
    for number in range(1, machines + 1):
        params = VmParams(name=f"sim{number}", memory=512)
        vm_id = f"{uuid.uuid5(SIMULATED, f'{params.name}')}"
        root = build.domain(params, vm_id, facts)
        xml.set_mark(root, config.daemon.owner, kept=True)
        await hypervisor.define(xml.text_of(root))
        await hypervisor.start(vm_id, paused=False)
    hypervisor.faults = faults  # only now: the machines themselves are there whatever is broken
    hypervisor.tree = tree = Tree()
    disks = SimulatedDisks(tree, faults)
    return Drivers(
        hypervisor,
        SimulatedImages(faults, tree=tree),
        SimulatedMachine(),
        SimulatedLinks(),
        SimulatedFiles(tree, faults),
        disks,
        SimulatedMounts(tree, faults),
        SimulatedLeases(faults=faults, tree=tree),
        SimulatedTransfers(faults),
        SimulatedRemotes(faults),
        SimulatedServers(disks, faults),
    )
