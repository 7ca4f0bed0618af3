# SPDX-License-Identifier: Apache-2.0
"""A domain on a real NFS server, in a machine with a kernel that has one."""

from __future__ import annotations

from pathlib import Path

from harness import scratch_vm


def test_a_domain_on_nfs(guest: Path, open_path: Path) -> None:
    said = scratch_vm.run(guest, "harness.nfs_inside", ("nfsd", "nfsv3", "nfsv4"), open_path)
    assert "it is there again" in said
