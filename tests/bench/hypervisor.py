# SPDX-License-Identifier: Apache-2.0
"""Real libvirt: how soon a change reaches a client, and what vdsm adds to starting a machine."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import libvirt

from harness.daemon import Daemon, remove_domains
from harness.machines import halting_rom, idle_xml
from vdsm.client import Host
from vdsm.contract.events import VMStatus
from vdsm.contract.vm_params import VmParams

from .measure import Clock, Row, median_ms, percentile, resident_mib

CHANGES = 200
STARTS = 8


def rows(home: Path, uri: str) -> Iterator[Row]:
    prefix = f"vdsmbench-{secrets.token_hex(3)}"
    daemon = Daemon(home, prefix, uri=uri)
    rom = halting_rom(daemon.images)
    try:
        daemon.start()
        with daemon.connect() as host:
            host.vm.list()
            yield Row("memory, idle, on libvirt", resident_mib(daemon.process.pid), "MiB", limit=100)
            yield from _starts(daemon, host, rom)
            yield from _events(daemon, host, rom)
    finally:
        daemon.end()
        remove_domains(uri, prefix)


def _starts(daemon: Daemon, host: Host, rom: Path) -> Iterator[Row]:
    connection = libvirt.open(daemon.uri)
    ours, theirs = [], []
    for number in range(STARTS):
        xml = idle_xml(daemon.name(f"v{number}"), rom)
        with Clock() as clock:
            made = host.vm.create(VmParams(xml=xml))
        ours.append(clock.seconds)
        host.vm.destroy(made.vm_id)
        xml = idle_xml(daemon.name(f"l{number}"), rom)
        with Clock() as clock:
            domain = connection.createXML(xml)
        theirs.append(clock.seconds)
        domain.destroy()
    yield Row(
        "starting a machine", median_ms(ours), "ms", median_ms(theirs), "libvirt's createXML of the same", limit=2
    )


def _events(daemon: Daemon, host: Host, rom: Path) -> Iterator[Row]:
    """The same change, as it reaches a follower of vdsm's events and a program on libvirt's own."""
    host.vm.create(VmParams(xml=idle_xml(daemon.name("watched"), rom)))
    watch = _Watch(daemon, daemon.name("watched"))
    connection = libvirt.open(daemon.uri)
    domain = connection.lookupByName(daemon.name("watched"))
    ours, theirs = [], []
    for number in range(CHANGES):
        watch.clear()
        began = time.perf_counter()
        (domain.resume if number % 2 else domain.suspend)()
        assert watch.both.wait(10), "a change did not arrive"
        ours.append(watch.ours - began)
        theirs.append(watch.theirs - began)
    watch.stop()
    for percent in (50, 99):
        yield Row(
            f"a change in libvirt until a client hears of it: p{percent}",
            percentile(ours, percent) * 1000, "ms", percentile(theirs, percent) * 1000, "libvirt's own event",
        )  # fmt: skip


class _Watch:
    """When the next change is heard, either way."""

    def __init__(self, daemon: Daemon, name: str) -> None:
        self._name = name
        self.both = threading.Event()
        self.clear()
        libvirt.virEventRegisterDefaultImpl()
        self._running = True
        self._loop = threading.Thread(target=self._pump, daemon=True)
        self._connection = libvirt.open(daemon.uri)
        self._connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._libvirt, None)
        self._loop.start()
        self._host = daemon.connect()
        self._events = self._host.events()
        ready = threading.Event()
        threading.Thread(target=self._follow, args=(ready,), daemon=True).start()
        ready.wait(5)
        time.sleep(0.5)  # the stream must be open before the first change

    def clear(self) -> None:
        self.ours = self.theirs = 0.0
        self.both.clear()

    def stop(self) -> None:
        self._running = False
        self._events.close()

    def _pump(self) -> None:
        while self._running:
            libvirt.virEventRunDefaultImpl()

    def _libvirt(self, _c: object, domain: libvirt.virDomain, event: int, _d: int, _o: object) -> None:
        if domain.name() == self._name and event in (
            libvirt.VIR_DOMAIN_EVENT_SUSPENDED,
            libvirt.VIR_DOMAIN_EVENT_RESUMED,
        ):
            self.theirs = self.theirs or time.perf_counter()
            self._settle()

    def _follow(self, ready: threading.Event) -> None:
        ready.set()
        for event in self._events:
            data = getattr(event, "data", None)
            if isinstance(data, VMStatus) and data.vm_name == self._name:
                self.ours = self.ours or time.perf_counter()
                self._settle()

    def _settle(self) -> None:
        if self.ours and self.theirs:
            self.both.set()
