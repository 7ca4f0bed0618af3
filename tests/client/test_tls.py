# SPDX-License-Identifier: Apache-2.0
"""From another machine: certificates and tokens, for calls, events and consoles alike."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.daemon import Daemon
from harness.simulated import simulated
from vdsm.client import Host, Unreachable, connect
from vdsm.contract.access import Role
from vdsm.contract.errors import AccessDenied, Unauthenticated
from vdsm.contract.events import EventRecord


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, str, Path]]:
    """A daemon that listens with TLS, its url, and where its certificates are."""
    home = tmp_path_factory.mktemp("far")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = f'[rest]\nlisten = "127.0.0.1"\nport = {port}\n[access]\ncertificates = {{ me = "admin" }}\n'
    Daemon(home, "x", uri="", config=config)
    for words in (["init"], ["client", "me"], ["client", "stranger"]):
        subprocess.run(
            [sys.executable, "-m", "vdsm.daemon", "--config", str(home / "vdsmd.toml"), "pki", *words],
            check=True, capture_output=True,
        )  # fmt: skip
    with simulated(home, 2, config) as daemon:
        yield daemon, f"https://localhost:{port}", home / "state/pki"


def of(far: tuple[Daemon, str, Path], name: str) -> Host:
    _, url, pki = far
    clients = pki / "clients"
    return connect(url, ca=str(pki / "ca.pem"), cert=str(clients / f"{name}.pem"), key=str(clients / f"{name}.key"))


def test_a_certificate_opens_everything(far: tuple[Daemon, str, Path]) -> None:
    with of(far, "me") as host:
        vm_id = next(row.vm_id for row in host.vm.list() if row.vm_name == "sim1")
        start = host.event.list(since=2**53 - 1).gap
        assert start is not None
        host.vm.pause(vm_id)
        with host.events(since=start.until) as events:
            record = next(events)
        assert isinstance(record, EventRecord)
        assert record.subject == vm_id
        host.vm.cont(vm_id)
        with host.vm.console(vm_id) as console:
            console.write(b"\r")
            heard = b""
            while b"login:" not in heard:
                heard += console.read(timeout=20)


def test_a_token_and_its_role(far: tuple[Daemon, str, Path]) -> None:
    daemon, url, pki = far
    with daemon.connect() as local:
        made = local.token.create("reader", Role.VIEWER)
    with connect(url, ca=str(pki / "ca.pem"), token=made.token.reveal()) as host:
        rows = host.vm.list()
        with pytest.raises(AccessDenied, match=re.escape("token:reader")):
            host.vm.pause(rows[0].vm_id)
        with pytest.raises(AccessDenied):
            host.vm.console(rows[0].vm_id)


def test_whom_the_daemon_does_not_know(far: tuple[Daemon, str, Path]) -> None:
    _, url, pki = far
    with connect(url, ca=str(pki / "ca.pem")) as host:
        with pytest.raises(Unauthenticated):
            host.vm.list()
        with host.events() as events, pytest.raises(Unauthenticated):
            next(events)
    with of(far, "stranger") as host, pytest.raises(Unauthenticated):
        host.vm.list()


def test_a_daemon_nobody_vouches_for(far: tuple[Daemon, str, Path]) -> None:
    with connect(far[1]) as host:
        with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            host.vm.list()
        with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            host.vm.console("5f0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11")


def test_a_host_of_another_name(far: tuple[Daemon, str, Path]) -> None:
    _, url, pki = far
    with connect(url.replace("localhost", "127.0.0.2"), ca=str(pki / "ca.pem")) as host, pytest.raises(Unreachable):
        host.vm.list()
