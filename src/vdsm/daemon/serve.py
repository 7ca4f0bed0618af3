# SPDX-License-Identifier: Apache-2.0
"""The daemon's life: open, say that it is ready, wait for a signal, drain, close."""

from __future__ import annotations

import asyncio
import contextlib
import logging as standard_logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

from vdsm import __version__
from vdsm.bindings.rest import Status
from vdsm.contract import ContractError
from vdsm.contract.errors import StateUnavailable
from vdsm.contract.events import HostStopping

from . import drivers, logging
from .bus import BusDoor
from .config import Config, ConfigError, Place, load
from .doors import Doors, Served
from .process import StartError
from .signals import stop_at_signal
from .systemd import Notifier
from .wiring import House

log = standard_logging.getLogger(__name__)

RENEWAL_EVERY = 12 * 3600.0  # seconds between two looks at the host's certificate
LAST_WORD = 0.2  # seconds for event streams to send that the daemon stops, before they are ended
FLUSH_SECONDS = 2.0


class Server:
    """`config_file` is read again at SIGHUP. `machines`: None for the real host, else simulated ones (-1: as set)."""

    def __init__(self, config: Config, config_file: Path | None = None, *, machines: int | None = None) -> None:
        self._config = config
        self._config_file = config_file
        self._machines = config.simulate.machines if machines == -1 else machines
        self._status = Status.STARTING
        self._notifier = Notifier()

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGTERM or SIGINT; `ready` is called when calls can come. Raises StartError, ConfigError."""
        stop = self._hear_signals()
        house = await self._make_house()
        doors = Doors(self._config, self._served(house))
        bus = BusDoor(self._config, house)
        try:
            doors.open()
            await self._open(house)
            await bus.open()
            async with _beside(self._notifier.feed_watchdog(), self._renew_certificates()):
                self._status = Status.OK
                served = ", ".join(filter(None, (*doors.addresses, bus.address)))
                log.info("vdsmd %s (process %d) serves %s", __version__, os.getpid(), served)
                self._notifier.ready(f"serving {served}")
                ready()
                await stop.wait()
        finally:
            await self._close(house, doors, bus)

    # ---- start and end ---------------------------------------------------------------------------------------------

    async def _make_house(self) -> House:
        config = self._config
        try:
            if self._machines is None:
                return House(config, drivers.real(config), config.database)
            return House(config, await drivers.simulated(config, self._machines), None)
        except ContractError as error:
            raise StartError(f"this is a defect of vdsm: {error}") from None

    def _served(self, house: House) -> Served:
        check_token = house.tokens.authenticate if self._config.rest.tokens else None
        return Served(house.bridge, house.metrics.page, lambda: self._status, house.refusals, check_token)

    async def _open(self, house: House) -> None:
        try:
            await house.open()
        except StateUnavailable as problem:
            raise StartError(f"{problem} ([daemon] state_directory is {self._config.daemon.state_directory})") from None

    async def _close(self, house: House, doors: Doors, bus: BusDoor) -> None:
        """Tell everybody, let what runs come to its end, then close; what did not end is taken up at the next start."""
        if self._status is Status.OK:
            self._status = Status.STOPPING
            log.info("stopping: up to %g s for what is under way", self._config.daemon.drain_seconds)
            self._notifier.stopping("finishing what is under way")
            house.journal.publish(HostStopping())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await house.journal.flush()
            await asyncio.sleep(LAST_WORD)
            await asyncio.gather(doors.close(), house.bridge.drain(self._config.daemon.drain_seconds))
            await bus.close()
            log.info("stopped")
        else:
            await doors.close()
            await bus.close()
        await house.close()

    # ---- signals ---------------------------------------------------------------------------------------------------

    def _hear_signals(self) -> asyncio.Event:
        stop = stop_at_signal()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        return stop

    def _reload(self) -> None:
        """Take up the log's settings again; certificates are noticed without being told."""
        self._notifier.reloading()
        try:
            fresh = load(self._config_file, Place.of_process())
        except ConfigError as error:
            log.error("the configuration stays as it was: %s", error)
        else:
            logging.configure(fresh.log.level, fresh.log.format)
            log.info("the log's level is %s; other settings count from the next start", fresh.log.level)
        self._notifier.ready("serving")

    # ---- upkeep ----------------------------------------------------------------------------------------------------

    async def _renew_certificates(self) -> None:
        """Keep the host's certificate good where the authority is here too. Clients' stay theirs to renew."""
        while self._config.rest.listen and (self._config.pki / "ca.key").exists():
            from .pki import Authority, PkiError  # not for a daemon without TLS: the library is large

            try:
                for made in await asyncio.to_thread(Authority(self._config.pki).renew, clients=False):
                    log.info("renewed %s, good until %s", made.file, made.expires)
            except PkiError as error:
                log.error("the certificates cannot be renewed: %s", error)
            await asyncio.sleep(RENEWAL_EVERY)


@contextlib.asynccontextmanager
async def _beside(*work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Let all of it run until the block ends."""
    tasks = [asyncio.create_task(part) for part in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
