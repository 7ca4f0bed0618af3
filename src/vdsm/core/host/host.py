# SPDX-License-Identifier: Apache-2.0
"""The verbs about the host itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from vdsm.contract import host
from vdsm.contract.errors import DeadlineExceeded, HypervisorError, HypervisorUnavailable, TooBusy
from vdsm.contract.host import LogLevel
from vdsm.contract.host_capabilities import Capabilities, HardwareInformation
from vdsm.contract.host_stats import HostStats, StorageDomainVitals
from vdsm.core.handlers import Context, handles
from vdsm.core.ports.deadline import within
from vdsm.core.ports.hypervisor import Hypervisor, HypervisorFacts
from vdsm.core.ports.links import Links
from vdsm.core.ports.machine import Machine

from .capabilities import capabilities
from .fresh import Fresh
from .log_levels import set_log_level
from .sampler import Sampler
from .software import PACKAGE_NAMES
from .stats import VmCounts, host_stats

log = logging.getLogger(__name__)

_SETUP_MAX_AGE_S = 1.0
_FOREVER = float("inf")
_FACTS_PATIENCE_S = 2.0  # what is known of libvirt already is the better answer than a late one


class Host:
    """Call `start` before the first call comes. `count_vms` says how many machines there are, `vitals` how storage
    domains do."""

    def __init__(
        self,
        machine: Machine,
        links: Links,
        hypervisor: Hypervisor,
        count_vms: Callable[[], VmCounts],
        vitals: Callable[[], dict[str, StorageDomainVitals]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._machine = machine
        self._hypervisor = hypervisor
        self._count_vms = count_vms
        self._vitals = vitals
        self._clock = clock
        self._began = clock()
        self._sampler = Sampler(machine, links, clock)
        self._facts = Fresh(machine.facts, _FOREVER, clock)
        self._hardware = Fresh(self._read_hardware, _FOREVER, clock)
        self._setup = Fresh(machine.setup, _SETUP_MAX_AGE_S, clock)
        self._hypervisor_facts: HypervisorFacts | None = None

    async def start(self) -> None:
        """Take the first sample. Never fails: what cannot be read now is read when asked for."""
        try:
            await self._sampler.start()
        except (DeadlineExceeded, TooBusy) as problem:
            log.warning("no first sample of the host: %s", problem)

    @handles(host.ping)
    async def ping(self, ctx: Context) -> None:
        return None

    @handles(host.ping2)
    async def ping2(self, ctx: Context) -> None:
        return None

    @handles(host.echo)
    async def echo(self, ctx: Context, message: str) -> str:
        return message

    @handles(host.set_log_level)
    async def set_log_level(self, ctx: Context, level: LogLevel, *, name: str = "") -> None:
        set_log_level(level, name)

    @handles(host.get_capabilities)
    async def get_capabilities(self, ctx: Context) -> Capabilities:
        return capabilities(
            await self._facts.get(),
            await self._setup.get(),
            await self._read_hypervisor(),
            await self._sampler.picture(),
            await self._machine.packages(PACKAGE_NAMES),
            ctx.caller.reached,
        )

    @handles(host.get_hardware_info)
    async def get_hardware_info(self, ctx: Context) -> HardwareInformation:
        return await self._hardware.get()

    @handles(host.get_stats)
    async def get_stats(self, ctx: Context) -> HostStats:
        facts = await self._facts.get()
        setup = await self._setup.get()
        picture, counters = await self._sampler.counters()
        return host_stats(
            await self._sampler.interval(),
            counters,
            picture.names(),
            {cpu.id: cpu.node for cpu in setup.processors},
            self._count_vms(),
            self._vitals(),
            now=time.time(),
            boot_time=facts.boot_time,
            elapsed=self._clock() - self._began,
        )

    async def _read_hardware(self) -> HardwareInformation:
        found = await self._machine.hardware()
        return HardwareInformation(
            system_manufacturer=found.manufacturer,
            system_product_name=found.product,
            system_version=found.version,
            system_serial_number=found.serial,
            system_family=found.family,
            system_uuid=found.uuid or (await self._setup.get()).host_uuid,
        )

    async def _read_hypervisor(self) -> HypervisorFacts:
        """As they are, or as they were when libvirt answered last. Raises as the port does if it never has."""
        known = self._hypervisor_facts
        if known is None:
            self._hypervisor_facts = await self._hypervisor.facts()
            return self._hypervisor_facts
        try:
            with within(_FACTS_PATIENCE_S):
                self._hypervisor_facts = known = await self._hypervisor.facts()
        except (HypervisorUnavailable, HypervisorError, DeadlineExceeded, TooBusy) as problem:
            log.info("capabilities are told from what libvirt said before: %s", problem)
        return known
