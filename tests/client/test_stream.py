# SPDX-License-Identifier: Apache-2.0
"""A serial console through the client."""

from __future__ import annotations

import pytest

from vdsm.client import Host
from vdsm.client.stream import Stream
from vdsm.contract import vm
from vdsm.contract.errors import ConsoleInUse, NoSuchVM


def read_until(stream: Stream, text: bytes) -> bytes:
    heard = b""
    while text not in heard:
        heard += stream.read(timeout=20)
    return heard


def find(host: Host, name: str) -> str:
    return next(row.vm_id for row in host.vm.list() if row.vm_name == name)


def test_both_ways(host: Host) -> None:
    with host.vm.console(find(host, "sim1"), force=True) as stream:
        stream.write(b"\r")
        read_until(stream, b"login:")
        stream.write(b"abc")
        assert b"abc" in read_until(stream, b"abc")


def test_one_at_a_time_unless_taken_over(host: Host) -> None:
    vm_id = find(host, "sim2")
    with host.open(vm.console, vm_id, force=True) as first:
        with pytest.raises(ConsoleInUse):
            host.vm.console(vm_id)
        with host.vm.console(vm_id, force=True) as second:
            assert list(first) is not None, "the first one ends"
            second.write(b"\r")
            read_until(second, b"login:")


def test_problems_before_it_opens(host: Host) -> None:
    with pytest.raises(NoSuchVM):
        host.vm.console("5f0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11")
