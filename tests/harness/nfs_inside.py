# SPDX-License-Identifier: Apache-2.0
"""Run in a scratch machine: an NFS server of the kernel's, and a daemon that uses it. Ends with 0 if all is well."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from harness.daemon import Daemon
from harness.until import BUSY, until
from vdsm.client import Host
from vdsm.contract.errors_domains import StorageUnusable
from vdsm.contract.storage_pool import ConnectionRef
from vdsm.contract.storage_words import BLANK, StorageDomainImageClass, StorageDomainType

DOMAIN = "11111111-1111-4111-8111-111111111111"
EXPORT = Path("/export")
OLD = ConnectionRef(id=BLANK, connection=f"127.0.0.1:{EXPORT}", timeout=10, retrans=1)  # of version 3, as published
NEW = ConnectionRef(id=BLANK, connection="127.0.0.1:/", protocol_version="4.2")


def shell(words: str) -> None:
    done = subprocess.run(words, shell=True, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"


def serve() -> None:
    """With the shortest lease, as long as clients of before would be waited for."""
    shell(f"mkdir {EXPORT} && mount -t tmpfs export {EXPORT} && mount -t nfsd nfsd /proc/fs/nfsd")
    Path("/etc/exports").write_text(f"{EXPORT} *(rw,fsid=0,no_root_squash,no_subtree_check,insecure)\n")
    for name in ("nfsv4leasetime", "nfsv4gracetime"):
        Path("/proc/fs/nfsd", name).write_text("10")
    shell("rpcbind -w && rpc.statd --no-notify && exportfs -ra && rpc.mountd && rpc.nfsd 2")


def mounted() -> dict[str, str]:
    """Options by source."""
    rows = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return {source: options for source, _, kind, options, *_ in rows if kind in ("nfs", "nfs4")}


def status(host: Host, verb: str, ref: ConnectionRef) -> int:
    (row,) = getattr(host.storage_pool, verb)(BLANK, StorageDomainType.NFS, [ref])
    assert isinstance(row.status, int)
    return row.status


def valid(host: Host) -> bool:
    return host.host.get_storage_repo_stats()[DOMAIN].valid


def connect(host: Host, repository: Path) -> None:
    """What is mounted how, and let go again."""
    nowhere = ConnectionRef(id=BLANK, connection="127.0.0.1:/nowhere")
    assert status(host, "connect_storage_server", nowhere) == 477
    for ref, wanted in (
        (NEW, {"vers=4.2", "soft"}),
        (OLD, {"vers=3", "soft", "timeo=10", "retrans=1", "nosuid", "nodev", "noexec"}),
    ):
        assert status(host, "connect_storage_server", ref) == 0
        options = mounted()[ref.connection].split(",")
        assert wanted <= set(options), options
        assert status(host, "disconnect_storage_server", ref) == 0
        assert (mounted(), list((repository / "mnt").iterdir())) == ({}, [])


def use(host: Host) -> None:
    """A domain on a mount of the published default."""
    assert status(host, "connect_storage_server", OLD) == 0
    kind, data = StorageDomainType.NFS, StorageDomainImageClass.DATA
    host.storage_domain.create(DOMAIN, kind, OLD.connection, "shared", data, block_size=0)
    info = host.storage_domain.get_info(DOMAIN)
    assert (info.type, info.remote_path, info.block_size) == (kind, OLD.connection, 512)
    assert b"TYPE=NFS\n" in (EXPORT / DOMAIN / "dom_md/metadata").read_bytes()
    assert host.host.get_storage_domains(remote_path=OLD.connection) == [DOMAIN]
    until("it is well", lambda: valid(host))


def lose(host: Host) -> None:
    """The server stops, and comes back."""
    shell("rpc.nfsd 0")
    until("it is noticed", lambda: not valid(host))
    began = time.monotonic()
    try:
        host.storage_domain.get_stats(DOMAIN)
        raise AssertionError("its server is dead")
    except StorageUnusable:
        assert time.monotonic() - began < BUSY, "at once"
    assert [row.state for row in host.storage.list()] == ["unusable"]
    shell("rpc.nfsd 2")
    until("it is back", lambda: valid(host), seconds=60)
    assert host.storage_domain.get_images(DOMAIN) == []


def main() -> None:
    serve()
    home = Path("/var/tmp/vdsmtest")
    daemon = Daemon(home, "vdsmtest-nfs", uri="test:///default")  # which says that it has no libvirt
    daemon.configure(storage="monitor_interval_s = 0.5")
    try:
        daemon.launch()
        until("vdsmd answers", daemon.answers, seconds=100, every=1)  # everything here is emulated
        with daemon.connect() as host:
            connect(host, home / "data-center")
            print("it connects")
            use(host)
            print("a domain is there")
            lose(host)
            print("it is there again")
    except BaseException:
        print(daemon.said())
        raise
    finally:
        daemon.end()


if __name__ == "__main__":
    main()
