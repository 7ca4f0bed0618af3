# SPDX-License-Identifier: Apache-2.0
"""Machines for tests: a real Linux, and one that does nothing at no cost."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from vdsm.client import Host
from vdsm.contract.vm_info import VmSummary
from vdsm.contract.vm_params import Nic, VmParams

from .until import BUSY

WORDS = "vdsm guest: Linux"
"""What the guest of scripts/guest says on its serial port when it is up."""

ROM_BYTES = 65536


def halting_rom(directory: Path) -> Path:
    """Firmware that halts the processor at once: such a machine starts in half a second and then costs nothing."""
    rom = bytearray(b"\xf4" * ROM_BYTES)  # hlt
    rom[-16:-12] = bytes.fromhex("faf4ebfd")  # the reset vector: cli; hlt; and again if something wakes it
    file = directory / "halt.rom"
    file.write_bytes(rom)
    file.chmod(0o644)
    return file


def idle_xml(name: str, rom: Path, *, more: str = "") -> str:
    """A machine of the halting ROM, in libvirt's words."""
    return f"""<domain type="qemu"><name>{name}</name><memory unit="MiB">32</memory><vcpu>1</vcpu>
<os><type arch="x86_64" machine="pc">hvm</type><loader readonly="yes" type="rom">{rom}</loader></os>
<features><acpi/></features>{more}<devices><serial type="pty"/><memballoon model="none"/></devices></domain>"""


def linux(name: str, guest: Path, images: Path) -> VmParams:
    """The guest of scripts/guest, from files the daemon may use."""
    for file in ("vmlinuz", "initrd.gz"):
        if not (images / file).exists():
            shutil.copyfile(guest / file, images / file)
    return VmParams(
        name=name, memory=256, kernel=f"{images}/vmlinuz", initrd=f"{images}/initrd.gz",
        cmdline=f"console=tty0 console=ttyS0 hostname={name}", nics=[Nic()],
    )  # fmt: skip


def summary(host: Host, name: str) -> VmSummary | None:
    """Its row in the list of machines."""
    return next((vm for vm in host.vm.list() if vm.vm_name == name), None)


class Console:
    """A conversation with a machine over its serial port."""

    def __init__(self, host: Host, vm_id: str) -> None:
        self._stream = host.vm.console(vm_id)
        self.heard = ""

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def say(self, text: str) -> None:
        self._stream.write(f"{text}\r".encode())

    def wait_for(self, words: str, seconds: float = 60.0) -> str:
        """What came until these words were there; it is then forgotten. Enter is pressed now and then."""
        end = time.monotonic() + seconds * BUSY
        while words not in self.heard:
            assert time.monotonic() < end, f"no {words!r} on the console, only: {self.heard[-2000:]}"
            try:
                self.heard += self._stream.read(timeout=3.0).decode(errors="replace")
            except TimeoutError:
                self.say("")
        said, _, self.heard = self.heard.partition(words)
        return said + words
