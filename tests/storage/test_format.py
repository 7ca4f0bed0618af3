# SPDX-License-Identifier: Apache-2.0
"""The on-disk format, byte for byte: fixtures of the published one, what is written is read the same, and lies."""

from __future__ import annotations

import hashlib
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from vdsm.contract.storage_words import (
    DiskContentType,
    StorageDomainImageClass,
    StorageDomainRole,
    StorageDomainStatus,
    StorageDomainType,
    VolumeAllocation,
    VolumeFormat,
    VolumeLegality,
    VolumeRole,
)
from vdsm.core.storage.format import domain_meta, layout, volume_meta
from vdsm.core.storage.format.domain_meta import DomainMeta, OtherVersion, PoolMeta
from vdsm.core.storage.format.lines import Malformed
from vdsm.core.storage.format.volume_meta import VolumeMeta

GOLDEN = Path(__file__).with_name("golden")
SD, IMAGE, POOL = (
    "11111111-1111-4111-8111-111111111111",
    "22222222-2222-4222-8222-222222222222",
    "33333333-3333-4333-8333-333333333333",
)
VOLUME = VolumeMeta(
    domain=SD,
    image=IMAGE,
    capacity=1 << 30,
    created=1_700_000_000,
    description='{"DiskAlias":"d1","DiskDescription":""}',
    format=VolumeFormat.COW,
    allocation=VolumeAllocation.SPARSE,
    sequence=1,
)
DOMAIN = DomainMeta(
    uuid=SD,
    type=StorageDomainType.NFS,
    role=StorageDomainRole.MASTER,
    description="data1",
    remote_path="server:/export",
    pools=(POOL,),
    pool=PoolMeta(description="dc1", domains={SD: StorageDomainStatus.ACTIVE}),
    master_version=1,
)


def golden(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


# ---- the published bytes ---------------------------------------------------------------------------------------------


def test_a_volume_is_written_as_published() -> None:
    assert volume_meta.encode(VOLUME) == golden("volume.v5.meta")
    assert volume_meta.decode(golden("volume.v5.meta")) == VOLUME


def test_a_volume_padded_for_a_block_device_is_read() -> None:
    assert volume_meta.decode(golden("volume.v5.meta").ljust(512, b"\0")) == VOLUME


def test_a_volume_of_an_older_version_is_refused() -> None:
    with pytest.raises(Malformed, match="no CAP"):
        volume_meta.decode(golden("volume.v4.meta"))


def test_a_domain_is_written_as_published() -> None:
    assert domain_meta.encode(DOMAIN) == golden("sd.v5.metadata")
    assert domain_meta.decode(golden("sd.v5.metadata")) == DOMAIN


@pytest.mark.parametrize(
    ("remote", "name"), [("srv:/a_b", "srv:_a__b"), ("/srv/vm", "_srv_vm"), ("server:/export", "server:_export")]
)
def test_the_name_of_a_mount(remote: str, name: str) -> None:
    assert layout.mount_name(remote) == name


# ---- what is written is read the same --------------------------------------------------------------------------------

uuids = st.uuids().map(str)
keys = st.from_regex(r"\AX_[A-Z]{1,8}\Z")
lines = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=60)
plain = st.text(string.ascii_letters + string.digits + " {}:\"=,._-'&;#", max_size=60)


@given(
    st.builds(
        VolumeMeta,
        domain=uuids,
        image=uuids,
        parent=uuids,
        capacity=st.integers(0, 1 << 50),
        created=st.integers(0, 2**40),
        description=st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=50),
        disk_type=st.sampled_from(DiskContentType),
        format=st.sampled_from(VolumeFormat),
        allocation=st.sampled_from(VolumeAllocation),
        role=st.sampled_from(VolumeRole),
        legality=st.sampled_from(VolumeLegality),
        generation=st.integers(0, 999),
        sequence=st.integers(0, 2**32 - 1),
    )
)
def test_any_volume_is_read_as_it_was_written(meta: VolumeMeta) -> None:
    data = volume_meta.encode(meta)
    assert len(data) <= 512
    assert volume_meta.decode(data) == meta


@given(
    st.builds(
        DomainMeta,
        uuid=uuids,
        type=st.sampled_from(StorageDomainType),
        domain_class=st.sampled_from(StorageDomainImageClass),
        role=st.sampled_from(StorageDomainRole),
        description=st.one_of(plain, lines.filter(lambda text: "&#" not in text)),
        remote_path=plain,
        pools=st.lists(uuids, max_size=2).map(tuple),
        pool=st.builds(
            PoolMeta,
            description=plain,
            domains=st.dictionaries(
                uuids, st.sampled_from([StorageDomainStatus.ACTIVE, StorageDomainStatus.ATTACHED]), min_size=1
            ),
            spm_id=st.integers(-1, 2000),
            spm_lver=st.integers(-1, 2**40),
        ),
        master_version=st.integers(0, 1000),
        alignment=st.sampled_from([1 << 20, 2 << 20, 4 << 20, 8 << 20]),
        block_size=st.sampled_from([512, 4096]),
        rest=st.dictionaries(keys, plain, max_size=2),
    )
)
def test_any_domain_is_read_as_it_was_written(meta: DomainMeta) -> None:
    data = domain_meta.encode(meta)
    assert data.isascii()
    assert domain_meta.decode(data) == meta


def test_what_another_host_wrote_stays() -> None:
    data = golden("volume.v5.meta").replace(b"GEN=0\n", b"GEN=0\nNEWER=thing\n")
    assert volume_meta.encode(volume_meta.decode(data)).count(b"NEWER=thing\n") == 1


def test_what_does_not_fit_is_not_written() -> None:
    for field in ({"description": "x" * 211}, {"description": "ä" * 106}, {"description": "two\nlines"}):
        with pytest.raises(ValueError, match=r"metadata|description|KEY=value"):
            volume_meta.encode(replace(VOLUME, **field))
    with pytest.raises(ValueError, match=r"no checksum|twice|checksum"):
        domain_meta.encode(replace(DOMAIN, description="a\nROLE=Regular"))


def test_a_generation_begins_anew_after_999() -> None:
    assert replace(VOLUME, generation=999).next_generation() == 0


# ---- lies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"EOF\n", b"", "cut short"),
        (b"CAP=1073741824\n", b"", "no CAP"),
        (b"CAP=1073741824", b"CAP=-1", "CAP is '-1'"),
        (b"CAP=1073741824", b"CAP=99999999999999999999999", "CAP is"),
        (b"CAP=1073741824", b"CAP=1 073", "CAP is"),
        (b"GEN=0", b"GEN=1000", "GEN is"),
        (b"FORMAT=COW", b"FORMAT=VMDK", "FORMAT is 'VMDK'"),
        (b"IMAGE=22222222-2222-4222-8222-222222222222", b"IMAGE=../../../etc/shadow", "no id"),
        (b"PUUID=00000000-0000-0000-0000-000000000000", b"PUUID=/etc/shadow", "no id"),
        (b"GEN=0\n", b"GEN=0\nGEN=1\n", "GEN twice"),
        (b"GEN=0\n", b"GEN=0\nno line\n", "no KEY=value"),
        (b"GEN=0\n", b"GEN=0\nX=\xff\n", "not UTF-8"),
        (b"GEN=0\n", b"GEN=0\nX=\x1b[2J\n", "control characters"),
        (b"DISKTYPE=DATA", b"DISKTYPE=FUN", "DISKTYPE"),
        (b"GEN=0\n", b"GEN=0\n" + b"X" * 300 + b"\n", "longer than 512"),
    ],
)
def test_a_volume_that_lies_is_refused(old: bytes, new: bytes, reason: str) -> None:
    data = golden("volume.v5.meta").replace(old, new)
    assert data != golden("volume.v5.meta")
    with pytest.raises(Malformed, match=reason):
        volume_meta.decode(data)


def resealed(data: bytes) -> bytes:
    """With the checksum that fits."""
    shown = [line for line in data.split(b"\n") if line and not line.startswith(b"_SHA")]
    digest = hashlib.sha1(b"".join(shown), usedforsecurity=False).hexdigest()
    return b"".join(line + b"\n" for line in [*shown, f"_SHA_CKSUM={digest}".encode()])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"VERSION=5", b"VERSION=4", "version 4; this host offers version 5"),
        (b"ALIGNMENT=1048576", b"ALIGNMENT=3", "ALIGNMENT is 3"),
        (b"BLOCK_SIZE=512", b"BLOCK_SIZE=1", "BLOCK_SIZE is 1"),
        (b":Active", b":Gone", "POOL_DOMAINS says 'Gone'"),
        (b"POOL_DOMAINS=1", b"POOL_DOMAINS=x", "no id"),
        (b"SDUUID=1", b"SDUUID=/", "no id"),
        (b"ROLE=Master", b"ROLE=King", "ROLE is"),
        (b"TYPE=NFS", b"TYPE=TAPE", "TYPE is"),
        (b"DESCRIPTION=data1", b"DESCRIPTION=\xe4", "not ASCII"),
    ],
)
def test_a_domain_that_lies_is_refused(old: bytes, new: bytes, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        domain_meta.decode(resealed(golden("sd.v5.metadata").replace(old, new)))


def test_every_changed_or_lost_byte_of_a_domain_is_seen() -> None:
    data = golden("sd.v5.metadata")
    for at in range(len(data) - 1):
        for damaged in (data[:at], data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]):
            with pytest.raises(Malformed):
                domain_meta.decode(damaged)


def test_another_version_is_told_apart_from_damage() -> None:
    with pytest.raises(OtherVersion):
        domain_meta.decode(resealed(golden("sd.v5.metadata").replace(b"VERSION=5", b"VERSION=3")))


@given(st.binary(max_size=600))
def test_noise_is_refused(data: bytes) -> None:
    for decode in (volume_meta.decode, domain_meta.decode):
        with pytest.raises(Malformed):
            decode(data)


@pytest.mark.parametrize("name", ["", "..", "../x", "/etc", "a" * 36, SD.upper() + "\n", SD + "/.."])
def test_no_path_is_built_of_what_is_no_id(name: str) -> None:
    for build in (layout.image, layout.removed_image):
        with pytest.raises(ValueError, match="is no id"):
            build(name)
    with pytest.raises(ValueError, match="is no id"):
        layout.meta(SD, name)
