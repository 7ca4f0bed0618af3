# SPDX-License-Identifier: Apache-2.0
"""Whether KVM really runs guests here: tried once after each boot of the host, with a guest of 64 KiB.

/dev/kvm may exist and open, and firmware may even start in it, where kernel code crawls or stands still.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt
import msgspec

from vdsm.contract.errors import HypervisorError, Problem

from . import console, probe_rom, problems
from .capabilities import KvmVerdict, Offer
from .connection import Line
from .console import Console

log = logging.getLogger(__name__)

_START_S = 60.0  # libvirt may have to ask QEMU for its capabilities first
_CPU_S = 1.0  # for what takes 0.02 s on a processor and 0.15 s in QEMU's translator
_WALL_S = 20.0  # on a host so busy that the guest hardly runs
_LOOK_EVERY_S = 0.1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_DEVICE = "/dev/kvm"
_CACHE = "kvm-trial.json"
_NAME = "vdsm-kvm-trial-"
_TRIED_ARCH = "x86_64"

_DOMAIN = """<domain type='kvm'>
  <name>{name}</name><uuid>{vm_id}</uuid>
  <memory unit='MiB'>16</memory><vcpu>1</vcpu>
  <os><type arch='x86_64'>hvm</type><loader readonly='yes' type='rom'>{rom}</loader></os>
  <on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>
  <devices><serial type='pty'><target port='0'/></serial><memballoon model='none'/></devices>
</domain>"""


class _Remembered(msgspec.Struct, frozen=True, kw_only=True):
    setting: str
    verdict: KvmVerdict


class KvmTrial:
    """`hide` is told the id of the test guest before it exists. QEMU's user must be able to read in `directory`."""

    def __init__(self, directory: Path | None, hide: Callable[[str], None]) -> None:
        self._directory = directory
        self._hide = hide

    async def verdict(self, line: Line, offered: Offer) -> KvmVerdict:
        """Raises HypervisorUnavailable."""
        if not offered.kvm:
            return KvmVerdict(
                works=False, reason="libvirt offers no KVM: there is no /dev/kvm, or QEMU's user may not open it"
            )
        if offered.arch != _TRIED_ARCH:
            return KvmVerdict(works=True)  # there is no test guest for it: believe libvirt
        setting = await line.run("asking for versions", _setting)
        if (known := await asyncio.to_thread(self._recall, setting)) is not None:
            return known
        verdict, sure = await self._try(line)
        if sure:
            await asyncio.to_thread(self._remember, setting, verdict)
        log.info("KVM %s", "works" if verdict.works else f"is not used: {verdict.reason}")
        return verdict

    async def _try(self, line: Line) -> tuple[KvmVerdict, bool]:
        """What came of it, and whether it would come again."""
        name, vm_id = f"{_NAME}{uuid.uuid4().hex[:8]}", str(uuid.uuid4())
        self._hide(vm_id)
        try:
            with _rom(self._directory) as rom:
                return await self._run(line, _DOMAIN.format(name=name, vm_id=vm_id, rom=rom), vm_id)
        except OSError as error:
            return KvmVerdict(works=False, reason=f"the test guest cannot be written: {error}"), False
        except Problem as problem:
            said = problem.facts.get("reason", str(problem))
            sure = isinstance(problem, HypervisorError)  # QEMU's own word, not a libvirt that was away or too slow
            return KvmVerdict(works=False, reason=f"a test guest did not start: {said}"), sure

    async def _run(self, line: Line, document: str, vm_id: str) -> tuple[KvmVerdict, bool]:
        loop = asyncio.get_running_loop()

        def start(conn: libvirt.virConnect) -> Console:
            # Paused until somebody listens; gone with the connection, should this process end meanwhile.
            domain = conn.createXML(document, libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_AUTODESTROY)
            try:
                opened = console.connect(conn, vm_id, loop, force=True)
                domain.resume()
            except libvirt.libvirtError:
                domain.destroy()
                raise
            return opened

        def stop(conn: libvirt.virConnect) -> None:
            with contextlib.suppress(libvirt.libvirtError):  # it may be gone already
                conn.lookupByUUIDString(vm_id).destroy()

        serial = await line.run("trying KVM", start, most=_START_S)
        try:
            return await self._listen(line, serial, vm_id)
        finally:
            await serial.close()
            await line.run("ending the trial of KVM", stop)

    async def _listen(self, line: Line, serial: Console, vm_id: str) -> tuple[KvmVerdict, bool]:
        """Until the guest has said its word, or has had more than its time."""

        def look(conn: libvirt.virConnect) -> tuple[bool, int]:
            try:
                state, _, _, _, cpu_ns = conn.lookupByUUIDString(vm_id).info()
            except libvirt.libvirtError as error:
                if problems.code(error) != libvirt.VIR_ERR_NO_DOMAIN:
                    raise
                return False, 0
            return state == libvirt.VIR_DOMAIN_RUNNING, cpu_ns

        said, before = b"", None
        end = time.monotonic() + _WALL_S
        while time.monotonic() < end:
            runs, cpu_ns = await line.run("watching the trial of KVM", look)
            before = cpu_ns if before is None else before
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    said = (said + await serial.read())[-256:]
            if probe_rom.WORD in said:
                return KvmVerdict(works=True), True
            if not runs:
                return KvmVerdict(works=False, reason="a test guest fell over in it"), True
            if cpu_ns - before > _CPU_S * 1e9:
                return KvmVerdict(
                    works=False,
                    reason=f"a test guest did not do in {_CPU_S:g} s of processor time what takes a processor 0.02 s; "
                    "a nested or emulated KVM may be slower than QEMU's own translator",
                ), True
        return KvmVerdict(works=False, reason=f"a test guest stood still in it for {_WALL_S:g} s"), False

    def _recall(self, setting: str) -> KvmVerdict | None:
        if self._directory is None:
            return None
        try:
            known = msgspec.json.decode((self._directory / _CACHE).read_bytes(), type=_Remembered)
        except (OSError, msgspec.DecodeError):
            return None
        return known.verdict if known.setting == setting else None

    def _remember(self, setting: str, verdict: KvmVerdict) -> None:
        if self._directory is None:
            return
        known = _Remembered(setting=setting, verdict=verdict)
        path = self._directory / _CACHE
        try:
            fresh = path.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(known))
            fresh.replace(path)
        except OSError as error:
            log.warning("the trial of KVM cannot be remembered: %s", error)


def _setting(conn: libvirt.virConnect) -> str:
    """Everything the outcome depends on: this boot, who uses which versions, and who may open the device."""
    try:
        device = os.stat(_DEVICE)
        access = f"{device.st_uid}:{device.st_gid} {device.st_mode:o}"
    except OSError:
        access = "none"
    return f"{_BOOT_ID.read_text().strip()} {conn.getLibVersion()} {conn.getVersion()} {conn.getURI()} {access}"


@contextlib.contextmanager
def _rom(directory: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kvm-trial-", dir=directory) as place:
        Path(place).chmod(0o755)
        rom = Path(place) / "rom"
        rom.write_bytes(probe_rom.image())
        rom.chmod(0o644)
        yield rom
