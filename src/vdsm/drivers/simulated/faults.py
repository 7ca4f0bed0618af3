# SPDX-License-Identifier: Apache-2.0
"""Faults on demand: a method that is slow, fails or hangs, a machine that hangs, a connection that is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from vdsm.contract.errors import DeadlineExceeded, HypervisorError, HypervisorUnavailable, Problem
from vdsm.core.ports import deadline

_PATIENCE_S = 30.0  # of a caller that gave no deadline: as long as the real driver waits for libvirt

CONNECTION = "connection"  # in a text, the word in the place of a method for the connection itself


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What goes wrong in one method."""

    delay: float = 0.0  # seconds before it goes on
    error: str = ""  # the reason it fails with
    hang: bool = False  # never answers
    times: int = 0  # how often before all is well again; 0: always


class Faults:
    """What is broken at the moment. Everything is well until told otherwise."""

    def __init__(self) -> None:
        self.connected = True
        self.connection_changed: Callable[[], None] = lambda: None
        self._rules: dict[str, Fault] = {}
        self._frozen: set[str] = set()
        self._mended = asyncio.Event()

    @classmethod
    def parse(cls, text: str) -> Faults:
        """From `method:fault,...;method:...`, as in `start:error=boom,times=1;samples:delay=2;reset:hang`.

        `*` stands for every method; `connection:lost` begins without a connection.

        Raises ValueError for what it does not understand.
        """
        made = cls()
        for entry in filter(None, (part.strip() for part in text.split(";"))):
            method, _, words = entry.partition(":")
            if (method, words) == (CONNECTION, "lost"):
                made.connected = False
                continue
            fields = {k: v or "true" for k, _, v in (word.strip().partition("=") for word in words.split(","))}
            try:
                made._rules[method] = msgspec.convert(fields, Fault, strict=False)
            except msgspec.ValidationError as error:
                raise ValueError(f"fault {entry!r}: {error}") from None
        return made

    def set(self, method: str, fault: Fault) -> None:
        """Break a method of the port (`*`: all of them) from now on."""
        self._rules[method] = fault

    def clear(self) -> None:
        """Mend every method and machine; calls that hang go on."""
        self._rules.clear()
        self._frozen.clear()
        self._wake()

    def freeze(self, vm_id: str) -> None:
        """Let one machine's QEMU, or the storage at one root, answer no more."""
        self._frozen.add(vm_id)

    def thaw(self, vm_id: str) -> None:
        self._frozen.discard(vm_id)
        self._wake()

    def frozen(self, vm_id: str) -> bool:
        return vm_id in self._frozen

    def disconnect(self) -> None:
        """Lose the hypervisor; machines run on."""
        self.connected = False
        self.connection_changed()

    def reconnect(self) -> None:
        self.connected = True
        self.connection_changed()

    async def stall(self, method: str, vm_id: str) -> None:
        """Wait for one machine's QEMU, or one root's storage, to answer."""
        if vm_id in self._frozen:
            await self._hang(method, vm_id)

    async def meet(self, method: str) -> None:
        """Suffer what is broken for this call to libvirt."""
        if not self.connected:
            raise HypervisorUnavailable(reason="the simulated connection is lost")
        await self.suffer(method, lambda reason: HypervisorError(what=method, reason=reason))

    async def suffer(self, method: str, problem: Callable[[str], Problem]) -> None:
        """Suffer what is broken for this call to anything; `problem` makes the error of a reason."""
        if self._hangs(method):
            await self._hang(method)
        key = method if method in self._rules else "*"
        if (fault := self._rules.get(key)) is None:
            return
        if fault.times:
            fault.times -= 1
            if not fault.times:
                del self._rules[key]
        if fault.delay:
            await self._delay(method, fault.delay)
        if fault.error:
            raise problem(fault.error)

    def _hangs(self, method: str) -> bool:
        rule = self._rules.get(method) or self._rules.get("*")
        return rule is not None and rule.hang

    def _wake(self) -> None:
        self._mended.set()
        self._mended = asyncio.Event()

    async def _hang(self, method: str, vm_id: str = "") -> None:
        seconds = deadline.remaining(_PATIENCE_S)
        try:
            async with asyncio.timeout(seconds):
                while vm_id in self._frozen or self._hangs(method):
                    await self._mended.wait()
        except TimeoutError:
            raise DeadlineExceeded(what=method, seconds=f"{seconds:.3g}") from None

    async def _delay(self, method: str, delay: float) -> None:
        seconds = deadline.remaining(_PATIENCE_S)
        await asyncio.sleep(min(delay, seconds))
        if delay > seconds:
            raise DeadlineExceeded(what=method, seconds=f"{seconds:.3g}")
