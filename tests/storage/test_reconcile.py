# SPDX-License-Identifier: Apache-2.0
"""Image.reconcileVolumeChain: where metadata and headers differ the headers are right, and what lies is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data_center import POOL, DataCenter, Made
from vdsm.contract import image
from vdsm.contract.errors_domains import DiskUnusable, NoSuchDisk, SpmStatusError, VolumeDoesNotExist
from vdsm.contract.errors_storage import FileMissing, ImageVerificationError
from vdsm.contract.storage_words import (
    BLANK,
    VolumeAllocation,
    VolumeFormat,
    VolumeLegality,
    VolumeRole,
    VolumeStatus,
)
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.storage.format.chains import Image
from vdsm.core.storage.format.volume_meta import VolumeMeta
from vdsm.core.storage.reconcile import mended

ILLEGAL, LEGAL = VolumeLegality.ILLEGAL, VolumeLegality.LEGAL


async def reconcile(center: DataCenter, made: Made, leaf: int = -1) -> list[str]:
    answer: list[str] = await center.call(image.reconcile_volume_chain, **made.where, leafVolID=made.volumes[leaf])
    return answer


def rebase(center: DataCenter, made: Made, number: int, name: str, stated: DiskFormat = DiskFormat.QCOW2) -> None:
    """What QEMU would write into a header."""
    body = center.host.tree.nodes[made.path(number)].body
    assert body is not None
    body.backing_file, body.backing_format = name, stated


async def test_a_chain_that_is_as_it_says_stays(center: DataCenter) -> None:
    made = await center.image("RAW", "COW", "COW")
    before = center.snapshot()
    assert await reconcile(center, made) == made.volumes
    assert center.snapshot() == before


async def test_a_volume_merged_away_is_marked_and_its_child_gets_its_parent(center: DataCenter) -> None:
    made = await center.image("RAW", "COW", "COW")
    base, middle, top = made.volumes
    rebase(center, made, 2, base, DiskFormat.RAW)
    assert await reconcile(center, made) == [base, top]
    assert center.meta(made, 2).parent == base
    assert center.roles(made) == [VolumeRole.INTERNAL, VolumeRole.INTERNAL, VolumeRole.LEAF]
    assert [center.meta(made, n).legality for n in range(3)] == [LEGAL, ILLEGAL, LEGAL]
    assert await center.findings() == [f"images/{made.id}/{middle}: it is in the image's chain no more"]
    assert await reconcile(center, made) == [base, top], "once more changes nothing"


@pytest.mark.parametrize(
    "way",
    [
        "{base}", "../{image}/{base}", "/storage/dc/{domain}/images/{image}/{base}",
        "/data-center/mnt/_storage_dc/{domain}/images/{image}/{base}",
        "/data-center/{pool}/{domain}/images/{image}/{base}", "/run/vdsm/storage/{domain}/{image}/{base}",
    ],
)  # fmt: skip
async def test_a_header_may_name_its_parent_in_any_way_there_is(center: DataCenter, way: str) -> None:
    made = await center.image("RAW", "COW", "COW")
    base, _, top = made.volumes
    name = way.format(base=base, image=made.id, domain=made.domain, pool=POOL)
    rebase(center, made, 2, name, DiskFormat.RAW)
    assert await reconcile(center, made) == [base, top]


async def test_after_the_active_layer_was_merged_the_parent_is_the_leaf(center: DataCenter) -> None:
    made = await center.image("RAW", "COW", "COW")
    base, middle, top = made.volumes
    repository, parts = center.host.repository, center.host.storage
    chain = await parts.reconciler.reconcile(repository.find(made.domain), made.id, middle)  # as a machine tells
    assert chain == [middle, base]
    assert center.roles(made)[1] is VolumeRole.LEAF
    assert center.meta(made, 2).legality is ILLEGAL
    found = await parts.catalog.find(made.id)
    assert found.image.status() == (VolumeStatus.OK, "")
    assert found.image.left_over() == [top]
    assert await reconcile(center, made, 2) == [base, middle], "whoever asks with the leaf of before is told the same"


async def test_a_volume_of_the_middle_is_not_taken_for_the_leaf(center: DataCenter) -> None:
    made = await center.image("RAW", "COW", "COW")
    before = center.snapshot()
    with pytest.raises(DiskUnusable, match="it is no leaf"):
        await reconcile(center, made, 1)
    assert center.snapshot() == before


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("/etc/shadow", DiskUnusable),
        ("../../dom_md/metadata", DiskUnusable),
        (f"../{BLANK}/{{base}}", DiskUnusable),
        ("{top}", DiskUnusable),  # itself
        (BLANK, DiskUnusable),  # no such volume
    ],
)
async def test_a_header_that_leads_elsewhere_is_refused(
    center: DataCenter, name: str, problem: type[Exception]
) -> None:
    made = await center.image("RAW", "COW", "COW")
    base, _, top = made.volumes
    rebase(center, made, 2, name.format(base=base, top=top))
    before = center.snapshot()
    with pytest.raises(problem):
        await reconcile(center, made)
    assert center.snapshot() == before


async def test_a_header_that_takes_its_parent_for_another_format_is_refused(center: DataCenter) -> None:
    made = await center.image("RAW", "COW")
    rebase(center, made, 1, made.volumes[0], DiskFormat.QCOW2)  # a guest could have written a header into it
    with pytest.raises(DiskUnusable, match="for qcow2"):
        await reconcile(center, made)


async def test_what_is_not_there(center: DataCenter) -> None:
    made = await center.image("RAW", "COW")
    with pytest.raises(VolumeDoesNotExist):
        await center.call(image.reconcile_volume_chain, **made.where, leafVolID=BLANK)
    with pytest.raises(NoSuchDisk):
        await center.call(image.reconcile_volume_chain, **{**made.where, "imageID": BLANK}, leafVolID=BLANK)
    with pytest.raises(SpmStatusError):
        await center.call(
            image.reconcile_volume_chain, **{**made.where, "storagepoolID": BLANK}, leafVolID=made.volumes[1]
        )
    del center.host.tree.nodes[made.path(0)]
    with pytest.raises(FileMissing):
        await reconcile(center, made)
    center.host.tree.nodes[made.path(1)].body = None  # no image any more
    with pytest.raises(ImageVerificationError):
        await reconcile(center, made)


# ---- what the metadata must say --------------------------------------------------------------------------------------


@given(st.permutations(range(6)), st.integers(1, 6), st.data())
def test_the_mended_metadata_tell_that_chain_and_no_more(order: list[int], length: int, data: st.DataObject) -> None:
    names = [f"{number:08x}-0000-4000-8000-000000000000" for number in order]
    chain = names[:length]
    volumes = {
        name: VolumeMeta(
            domain=BLANK,
            image=BLANK,
            parent=data.draw(st.sampled_from([*names, BLANK])),
            capacity=4096,
            created=0,
            format=VolumeFormat.COW,
            allocation=VolumeAllocation.SPARSE,
            role=data.draw(st.sampled_from([VolumeRole.LEAF, VolumeRole.INTERNAL])),
        )
        for name in names
    }
    made = Image(BLANK, dict(volumes))
    changes = mended(made, chain)
    made.volumes |= changes
    assert made.chain() == chain
    assert made.left_over() == sorted(names[length:])
    assert mended(made, chain) == {}
    legal = [meta.legality is LEGAL for meta in changes.values()]
    assert legal == sorted(legal), "what is ILLEGAL from now on is written first"
