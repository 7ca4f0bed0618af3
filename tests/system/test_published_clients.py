# SPDX-License-Identifier: Apache-2.0
"""Published clients, in plain and with mutual TLS 1.2, drive a machine on real libvirt from its making to its end."""

from __future__ import annotations

import secrets
import shutil
import ssl
import uuid
import xmlrpc.client
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.daemon import remove_domains
from harness.stomp import JavaClient, PythonClient, StompClient, Wired
from harness.story import LINUX, NO_VM, live
from harness.until import until

TLS = ssl.TLSVersion.TLSv1_2


@pytest.fixture(scope="module")
def wired(uri: str, guest: Path) -> Iterator[Wired]:
    prefix = f"vdsmtest-{secrets.token_hex(4)}"
    home = Path("/var/tmp") / prefix  # QEMU, another user, reads below it
    home.mkdir()
    made = Wired(home, prefix, uri=uri)
    for file in ("vmlinuz", "initrd.gz"):
        shutil.copyfile(guest / file, made.images / file)
    disk = made.images / "a.raw"
    disk.write_bytes(bytes(1 << 20))
    disk.chmod(0o666)
    yield made.serve()
    made.end()
    remove_domains(uri, prefix)
    shutil.rmtree(home)


@pytest.mark.parametrize("client", [JavaClient, PythonClient])
@pytest.mark.parametrize("tls", [None, TLS], ids=["plain", "TLS 1.2"])
def test_json_rpc_over_stomp(
    wired: Wired, client: Callable[[int, ssl.SSLContext | None], StompClient], tls: ssl.TLSVersion | None
) -> None:
    context = None if tls is None else wired.context("engine", tls)
    with client(wired.port("http" if tls is None else "https"), context) as opened:
        live(opened, wired.name("j"), f"{wired.images}/a.raw", LINUX.format(images=wired.images))
    assert wired.domains() == {}


@pytest.mark.parametrize("tls", [None, TLS], ids=["plain", "TLS 1.2"])
def test_xml_rpc(wired: Wired, tls: ssl.TLSVersion | None) -> None:
    """Python's own client, with the historical names and the old form of a machine."""
    vm_id, images = str(uuid.uuid4()), wired.images
    old = {
        "vmId": vm_id, "vmName": wired.name("x"), "memSize": "192", "smp": "1", "vmType": "kvm", "kvmEnable": "true",
        "display": "vnc", "emulatedMachine": "pc", "nicModel": "pv", "kernel": f"{images}/vmlinuz",
        "initrd": f"{images}/initrd.gz", "kernelArgs": "console=ttyS0 quiet",
        "drives": [{"path": f"{images}/a.raw", "format": "raw", "iface": "virtio", "index": "0"}],
    }  # fmt: skip
    scheme = "http" if tls is None else "https"
    context = None if tls is None else wired.context("engine", tls)
    with xmlrpc.client.ServerProxy(f"{scheme}://127.0.0.1:{wired.port(scheme)}/RPC2", context=context) as proxy:
        host: Any = proxy
        good(host.ping())
        assert good(host.getVdsCapabilities())["info"]["kvmEnabled"] == "true"
        assert good(host.create(old))["vmList"]["status"] == "WaitForLaunch"
        until("it is Up", lambda: stats(host, vm_id)["status"] == "Up", 60)
        assert stats(host, vm_id)["disks"].keys() >= {"vda"}
        assert vm_id in [row["vmId"] for row in good(host.list())["vmList"]]
        good(host.destroy(vm_id))
        assert host.getVmStats(vm_id)["status"]["code"] == NO_VM
    assert wired.domains() == {}


def good(answer: Any) -> Any:
    assert answer["status"] == {"code": 0, "message": "Done"}, answer
    return answer


def stats(host: Any, vm_id: str) -> Any:
    (row,) = good(host.getVmStats(vm_id))["statsList"]
    return row
