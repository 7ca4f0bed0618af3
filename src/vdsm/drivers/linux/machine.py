# SPDX-License-Identifier: Apache-2.0
"""The `Machine` port on Linux."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from vdsm.core.ports.machine import Hardware, MachineFacts, MachineSample, MachineSetup, Processor
from vdsm.drivers.files import READ_PATIENCE_S, clean, read_text
from vdsm.drivers.pool import Pool
from vdsm.drivers.process import Limits, Programs

from . import counters, facts, proc

T = TypeVar("T")
log = logging.getLogger(__name__)

_DPKG_STATUS = Path("/var/lib/dpkg/status")
_DPKG_QUERY = ("dpkg-query", "--show", "--showformat=${Package} ${Version} ${db:Status-Status}\\n", "--")
_DPKG_PATIENCE_S = 10.0
_DPKG_LIMITS = Limits(cpu_s=10, memory_bytes=512 * 1024 * 1024)
_DIRECTORIES = (Path("/"), Path("/var/log"), Path("/var/lib/libvirt"), Path("/run"))


class LinuxMachine:
    """`root` is the top of the file system to read; `directories` are the ones whose free space is told."""

    def __init__(self, root: Path = Path("/"), directories: Sequence[Path] = _DIRECTORIES) -> None:
        self._root = root
        self._directories = directories
        self._pool = Pool("machine", workers=2)
        self._programs = Programs("dpkg", at_once=1)
        self._online = ""
        self._processors: list[Processor] = []
        self._host_uuid = ""
        self._ksmd: int | None = None
        self._sought_ksmd = False
        self._packages: dict[str, str] = {}
        self._packages_of: tuple[int, tuple[str, ...]] | None = None

    async def hardware(self) -> Hardware:
        return await self._read(lambda: facts.read_hardware(self._root))

    async def facts(self) -> MachineFacts:
        return await self._read(lambda: facts.read_facts(self._root))

    async def setup(self) -> MachineSetup:
        return await self._read(self._read_setup)

    async def sample(self) -> MachineSample:
        return await self._read(self._read_sample)

    async def packages(self, names: Sequence[str]) -> dict[str, str]:
        """Asked again only when the package database has changed."""
        key = (await self._read(lambda: _changed(_DPKG_STATUS)), tuple(names))
        if key != self._packages_of:
            done = await self._programs.run([*_DPKG_QUERY, *names], most=_DPKG_PATIENCE_S, limits=_DPKG_LIMITS)
            # It ends with 1 when it does not know one of the names, and tells of the others.
            if done.status not in (0, 1):
                log.warning("dpkg-query: %s", clean(done.err.decode(errors="replace")))
            self._packages = proc.parse_packages(done.out.decode(errors="replace"))
            self._packages_of = key
        return self._packages

    async def close(self) -> None:
        self._pool.close()
        self._programs.close()

    async def _read(self, call: Callable[[], T]) -> T:
        return await self._pool.run("reading the machine's files", call, most=READ_PATIENCE_S)

    def _read_setup(self) -> MachineSetup:
        online = read_text(self._root / facts.CPUS / "online")
        if online != self._online or not self._processors:
            self._processors = facts.read_processors(self._root, online)
            self._online = online
        self._host_uuid = self._host_uuid or facts.read_host_uuid(self._root)
        return facts.read_setup(self._root, self._processors, self._host_uuid)

    def _read_sample(self) -> MachineSample:
        if not self._sought_ksmd:
            self._ksmd = counters.find_ksmd(self._root)
            self._sought_ksmd = True
        return counters.read_sample(self._root, self._directories, self._ksmd)


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
