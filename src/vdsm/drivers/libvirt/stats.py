# SPDX-License-Identifier: Apache-2.0
"""Counters of all running domains, of which none can delay the others.

Two bulk calls. The quick one asks only what libvirtd knows by itself. The other needs QEMU's monitor (since libvirt
8.6 even for CPU_TOTAL), and stands still in the first domain whose QEMU hangs: it is given up after a moment. Because
it holds that domain's job, the next one, made with NOWAIT, passes over the domain; and so do all until QEMU answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from contextvars import Context
from typing import TypeAlias

import libvirt

from vdsm.contract.errors import Problem
from vdsm.core.ports.deadline import remaining
from vdsm.core.ports.hypervisor import DiskSample, DomainSample, NicSample

from . import words
from .connection import Line

Record: TypeAlias = dict[str, int | str]
Records: TypeAlias = dict[str, Record]

_QUICK = libvirt.VIR_DOMAIN_STATS_STATE | libvirt.VIR_DOMAIN_STATS_INTERFACE
_MONITOR = (
    libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_VCPU
    | libvirt.VIR_DOMAIN_STATS_BLOCK
)
_FLAGS = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
_WITNESS = "balloon.rss"  # only there if QEMU's monitor was asked
_PATIENCE_S, _PATIENCE_EACH_S = 1.0, 0.02  # for the monitors of all domains; 200 take 1.7 s on a busy host
_SILENT_S = 5.0  # a QEMU that has not answered for so long does not answer
_ROUNDS = 2  # one that meets a domain that hangs, and one that passes over it


class Sampler:
    """`quick` and `monitor` are lines of its own."""

    def __init__(self, quick: Line, monitor: Line) -> None:
        self._quick = quick
        self._monitor = monitor
        self._known: dict[str, tuple[float, Record]] = {}  # when the monitor answered last, and what
        self._round: asyncio.Task[None] | None = None

    def forget(self) -> None:
        self._known.clear()

    async def samples(self) -> list[DomainSample]:
        records = await self._quick.run("reading statistics", lambda conn: _read(conn, _QUICK))
        began = now = time.monotonic()
        for vm_id in self._known.keys() - records.keys():
            del self._known[vm_id]
        for vm_id in records:
            self._known.setdefault(vm_id, (now, {}))
        patience = _PATIENCE_S + _PATIENCE_EACH_S * len(records)
        if self._round is None:
            self._round = asyncio.create_task(
                self._ask_monitors(patience), name="libvirt monitors", context=Context()
            )  # nobody's deadline
            self._round.add_done_callback(self._end_round)
        await asyncio.wait({self._round}, timeout=remaining(patience))
        if silent := [vm_id for vm_id in records if self._known[vm_id][0] <= began]:
            times = await self._quick.run("reading processor times", lambda conn: _processor_times(conn, silent))
            for vm_id, extra in times.items():
                records[vm_id] |= extra
        now = time.monotonic()
        return [self._sample(vm_id, record, now) for vm_id, record in records.items()]

    async def close(self) -> None:
        if self._round is not None:
            self._round.cancel()
            await asyncio.wait({self._round})

    async def _ask_monitors(self, patience: float) -> None:
        for _ in range(_ROUNDS):
            try:
                records = await self._monitor.run(
                    "reading statistics of QEMU", lambda conn: _read(conn, _MONITOR), most=patience
                )
            except Problem:
                continue  # who did not answer shows by the age of what is known of it
            now = time.monotonic()
            for vm_id, record in records.items():
                if _WITNESS in record:
                    self._known[vm_id] = now, record
            return

    def _end_round(self, task: asyncio.Task[None]) -> None:
        self._round = None
        if not task.cancelled():
            task.result()

    def _sample(self, vm_id: str, record: Record, now: float) -> DomainSample:
        when, answer = self._known[vm_id]
        answers = now - when < _SILENT_S
        state, _ = words.state(_int(record, "state.state"), _int(record, "state.reason"))
        record = answer | record
        return DomainSample(
            vm_id=vm_id,
            state=state,
            answers=answers,
            cpu_ns=_int(record, "cpu.time"),
            cpu_user_ns=_int(record, "cpu.user"),
            cpu_system_ns=_int(record, "cpu.system"),
            vcpus=_int(record, "vcpu.current"),
            balloon=_balloon(answer) if answers else {},
            disks=list(_disks(answer)) if answers else [],
            nics=list(_nics(record)),
        )


def _read(conn: libvirt.virConnect, groups: int) -> Records:
    return {domain.UUIDString(): record for domain, record in conn.getAllDomainStats(groups, _FLAGS)}


def _processor_times(conn: libvirt.virConnect, vm_ids: list[str]) -> Records:
    """What the kernel knows of domains that do not answer."""
    found: Records = {}
    for vm_id in vm_ids:
        with contextlib.suppress(libvirt.libvirtError):  # it has just gone
            _, _, _, vcpus, cpu_ns = conn.lookupByUUIDString(vm_id).info()
            found[vm_id] = {"vcpu.current": vcpus, "cpu.time": cpu_ns}
    return found


def _int(record: Record, name: str) -> int:
    value = record.get(name, 0)
    return value if isinstance(value, int) else 0


def _balloon(record: Record) -> dict[str, int]:
    return {name.removeprefix("balloon."): _int(record, name) for name in record if name.startswith("balloon.")}


def _disks(record: Record) -> Iterator[DiskSample]:
    for number in range(_int(record, "block.count")):
        at = f"block.{number}."
        yield DiskSample(
            name=str(record.get(f"{at}name", "")),
            read_ops=_int(record, f"{at}rd.reqs"),
            read_bytes=_int(record, f"{at}rd.bytes"),
            read_ns=_int(record, f"{at}rd.times"),
            write_ops=_int(record, f"{at}wr.reqs"),
            written_bytes=_int(record, f"{at}wr.bytes"),
            write_ns=_int(record, f"{at}wr.times"),
            flush_ops=_int(record, f"{at}fl.reqs"),
            flush_ns=_int(record, f"{at}fl.times"),
            allocation=_int(record, f"{at}allocation"),
            capacity=_int(record, f"{at}capacity"),
            physical=_int(record, f"{at}physical"),
        )


def _nics(record: Record) -> Iterator[NicSample]:
    for number in range(_int(record, "net.count")):
        at = f"net.{number}."
        yield NicSample(
            name=str(record.get(f"{at}name", "")),
            rx_bytes=_int(record, f"{at}rx.bytes"),
            rx_errors=_int(record, f"{at}rx.errs"),
            rx_dropped=_int(record, f"{at}rx.drop"),
            tx_bytes=_int(record, f"{at}tx.bytes"),
            tx_errors=_int(record, f"{at}tx.errs"),
            tx_dropped=_int(record, f"{at}tx.drop"),
        )
