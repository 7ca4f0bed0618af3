# SPDX-License-Identifier: Apache-2.0
"""Templates: images that others go on from, by hard links to their files."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from harness.data_center import POOL, SD, SD2, DataCenter, Made, MiB
from vdsm.contract import disk, image, storage_domain, task, volume
from vdsm.contract import host as host_verbs
from vdsm.contract.errors import CannotCreateVM, ObjectBusy
from vdsm.contract.errors_domains import (
    CannotCloneVolume,
    CannotDeleteSharedVolume,
    DiskUnusable,
    OverwriteImageError,
    VolumeNonWritable,
)
from vdsm.contract.errors_storage import TicketRefused
from vdsm.contract.storage_words import BLANK, VolumeLegality, VolumeRole, VolumeStatus
from vdsm.contract.task import State


async def template(center: DataCenter, vol_format: str = "RAW", *, domain: str = SD) -> Made:
    made = await center.image(vol_format, domain=domain)
    center.edit_meta(made, 0, b"VOLTYPE=LEAF", b"VOLTYPE=SHARED")
    return made


async def derive(center: DataCenter, source: Made, **more: Any) -> Made:
    """A new image that goes on from a template."""
    made = Made(str(uuid.uuid4()), [], source.domain)
    parent = {"srcImgUUID": source.id, "srcVolUUID": source.volumes[0]}
    await center.volume(made, **{**parent, **more})
    return made


def links(center: DataCenter, path: str) -> int:
    return sum(node is center.host.tree.nodes[path] for node in center.host.tree.nodes.values())


@pytest.mark.parametrize("vol_format", ["RAW", "COW"])
async def test_an_image_goes_on_from_a_template(center: DataCenter, vol_format: str) -> None:
    source = await template(center, vol_format)
    made = await derive(center, source)
    for suffix in ("", ".meta", ".lease"):
        linked = f"{made.directory}/{source.volumes[0]}{suffix}"
        assert center.host.tree.nodes[linked] is center.host.tree.nodes[f"{source.path(0)}{suffix}"]
    assert center.host.disk_images.read((await file_of(center, made)), 0) == 1, "it reads what the template holds"
    assert await center.findings() == []
    info = await center.call(volume.get_info, **made.where, volumeID=made.volumes[0])
    assert (info.parent, info.voltype) == (source.volumes[0], VolumeRole.LEAF)
    seen = await center.call(volume.get_info, **source.where, volumeID=source.volumes[0])
    assert (seen.voltype, seen.children) == (VolumeRole.SHARED, made.volumes)


async def file_of(center: DataCenter, made: Made) -> Any:
    return (await center.host.storage.catalog.find(made.id)).file(made.volumes[-1])


async def test_what_is_told_of_a_template_and_what_goes_on_from_it(center: DataCenter) -> None:
    source = await template(center)
    first, second = await derive(center, source), await derive(center, source)
    await center.volume(first)
    images = await center.call(storage_domain.get_images, storagedomainID=SD)
    assert images == sorted([source.id, first.id, second.id])
    volumes = await center.call(storage_domain.get_volumes, storagedomainID=SD)
    assert volumes == sorted([*source.volumes, *first.volumes, *second.volumes]), "each is told once"
    assert await center.call(image.get_volumes, **first.where) == sorted([*source.volumes, *first.volumes])
    dump = await center.call(storage_domain.dump, sd_id=SD)
    assert dump.volumes[source.volumes[0]].image == source.id
    rows = {row.id: row for row in await center.call(disk.list_)}
    assert {row.status for row in rows.values()} == {VolumeStatus.OK}
    machine = await center.host.create("a", disks=[{"path": first.id}])
    assert [d.path for d in machine.devices if d.type == "disk" and d.device == "disk"] == [first.path(-1)]


async def test_a_template_stays_while_others_go_on_from_it(center: DataCenter) -> None:
    source = await template(center)
    made = await derive(center, source)
    before = center.snapshot()
    for verb, params in (
        (image.delete, source.where | {"postZero": False, "force": True}),
        (volume.delete, {**source.where, "volumeID": source.volumes[0], "postZero": False, "force": True}),
        (disk.delete, {"diskID": source.id}),
        (volume.delete, {**made.where, "volumeID": source.volumes[0], "postZero": False, "force": True}),
    ):
        with pytest.raises(CannotDeleteSharedVolume):
            await center.call(verb, **params)
    assert center.snapshot() == before
    await center.call(image.delete, **made.where, postZero=False, force=False)
    assert links(center, source.path(0)) == 1
    assert center.host.disk_images.read(await file_of(center, source), 0) == 1
    assert await center.findings() == []
    await center.call(image.delete, **source.where, postZero=False, force=False)
    assert not [path for path in center.host.tree.nodes if source.id in path]


async def test_with_its_last_own_volume_a_derived_image_goes(center: DataCenter) -> None:
    source = await template(center)
    made = await derive(center, source)
    await center.volume(made)
    await center.call(volume.delete, **made.where, volumeID=made.volumes[1], postZero=False, force=False)
    assert center.meta(made, 0).role is VolumeRole.LEAF
    await center.call(volume.delete, **made.where, volumeID=made.volumes[0], postZero=False, force=False)
    assert not [path for path in center.host.tree.nodes if made.id in path]
    assert center.meta(source, 0).role is VolumeRole.SHARED
    assert await center.findings() == []


async def test_a_template_is_not_written_to(center: DataCenter) -> None:
    source = await template(center)
    with pytest.raises(VolumeNonWritable, match="template"):
        await center.call(volume.extend_size, **source.where, volumeID=source.volumes[0], newSize=32 * MiB)
    with pytest.raises(CannotCloneVolume, match="another image"):
        await center.volume(source)
    with pytest.raises(CannotCreateVM, match="is a template"):
        await center.host.create("a", disks=[{"path": source.id}])
    ticket = {"uuid": BLANK, "size": 16 * MiB, "timeout": 300, "url": f"file://{source.path(0)}"}
    with pytest.raises(TicketRefused, match="is a template"):
        await center.call(host_verbs.add_image_ticket, ticket={**ticket, "ops": ["read", "write"]})
    await center.call(host_verbs.add_image_ticket, ticket={**ticket, "ops": ["read"]})
    await center.host.create("b", disks=[{"path": source.id, "readOnly": True}])


async def test_a_templates_description_is_the_same_everywhere(center: DataCenter) -> None:
    source = await template(center)
    made = await derive(center, source)
    where = {**source.where, "volumeID": source.volumes[0]}
    await center.call(volume.set_description, **where, description="new")
    seen = await center.call(volume.get_info, **{**where, "imageID": made.id})
    assert seen.description == "new"
    assert await center.findings() == []


async def test_reconciling_leaves_a_template_what_it_is(center: DataCenter) -> None:
    source = await template(center)
    made = await derive(center, source)
    before = center.snapshot()
    chain = await center.call(image.reconcile_volume_chain, **made.where, leafVolID=made.volumes[0])
    assert chain == [source.volumes[0], made.volumes[0]]
    assert center.snapshot() == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"srcVolUUID": BLANK}, "no such template"),
        ({"volFormat": "RAW"}, "only a COW volume"),
        ({"size": 8 * MiB}, "smaller"),
        ({"srcImgUUID": SD2}, "no such template"),
    ],
)
async def test_what_an_image_cannot_go_on_from(center: DataCenter, change: dict[str, Any], reason: str) -> None:
    source = await template(center)
    before = center.snapshot()
    with pytest.raises(CannotCloneVolume, match=reason):
        await derive(center, source, **({"vol_format": change.pop("volFormat")} if "volFormat" in change else change))
    assert center.snapshot() == before


async def test_only_finished_templates_are_gone_on_from(center: DataCenter) -> None:
    plain = await center.image("RAW")
    with pytest.raises(CannotCloneVolume, match="no such template"):
        await derive(center, plain)
    fake = await template(center)
    center.edit_meta(fake, 0, b"LEGALITY=LEGAL", b"LEGALITY=FAKE")
    with pytest.raises(CannotCloneVolume, match="FAKE"):
        await derive(center, fake)
    made = await derive(center, await template(center))
    with pytest.raises(CannotCloneVolume, match="only the first volume"):
        await center.volume(made, srcImgUUID=fake.id, srcVolUUID=fake.volumes[0])


async def test_what_goes_on_from_a_fake_template_is_not_used(center: DataCenter) -> None:
    source = await template(center)
    made = await derive(center, source)
    for home in (source, made):
        center.edit_meta(Made(home.id, source.volumes), 0, b"LEGALITY=LEGAL", b"LEGALITY=FAKE")
        break  # one file under both names
    (row,) = [row for row in await center.call(disk.list_) if row.id == made.id]
    assert (row.status, row.reason) == (VolumeStatus.ILLEGAL, f"its template {source.volumes[0]} is not in this domain")
    with pytest.raises(DiskUnusable, match="not in this domain"):
        await center.host.create("a", disks=[{"path": made.id}])


async def test_in_a_backup_a_volume_stands_in_for_the_template(center: DataCenter) -> None:
    backup = str(uuid.uuid4())
    more: dict[str, Any] = {"domainType": "LOCALFS", "typeArgs": "/storage/dc", "name": "b", "domainClass": "Backup"}
    await center.call(storage_domain.create, storagedomainID=backup, **more)
    for verb in (storage_domain.attach, storage_domain.activate):
        await center.call(verb, storagedomainID=backup, storagepoolID=POOL)
    source = await template(center, "COW")
    made = await derive(center, source)
    center.write(made, 0, MiB, 5)
    flags: dict[str, Any] = {"postZero": False, "force": False}
    await center.call(image.move, **made.where, dstSdUUID=backup, operation="MOVE", **flags)
    kept, stand_in = Made(made.id, made.volumes, backup), Made(source.id, source.volumes, backup)
    assert center.meta(stand_in, 0).legality is VolumeLegality.FAKE
    assert await center.findings() == await center.findings(backup) == []
    with pytest.raises(DiskUnusable, match="not in this domain"):
        await center.call(image.prepare, **kept.where, volumeID=made.volumes[0])
    with pytest.raises(CannotCloneVolume, match="FAKE"):
        await derive(center, stand_in)

    # Back to where the template is.
    await center.call(image.move, **kept.where, dstSdUUID=SD, operation="COPY", **flags)
    read = center.host.disk_images.read
    assert [read(await file_in(center, made), n * MiB) for n in range(3)] == [1, 5, 0]

    # Or the template comes too.
    copy: dict[str, Any] = {"dstImgUUID": source.id, "dstVolUUID": source.volumes[0], "desc": "", "volType": "SHARED"}
    words = {
        **source.where,
        "volumeID": source.volumes[0],
        "dstSdUUID": backup,
        **copy,
        "preallocate": "SPARSE",
        **flags,
    }
    with pytest.raises(OverwriteImageError):
        await center.call(volume.copy, **{**words, "volFormat": "RAW"})
    await center.call(volume.copy, **{**words, "volFormat": "COW"})
    assert [read(await file_in(center, kept), n * MiB) for n in range(3)] == [1, 5, 0]
    for home in (stand_in, kept):
        meta = center.meta(Made(home.id, source.volumes, backup), 0)
        assert (meta.legality, meta.generation) == (VolumeLegality.LEGAL, 1)
    assert await center.findings(backup) == []
    with pytest.raises(OverwriteImageError):
        await center.call(volume.copy, **{**words, "volFormat": "COW"})


async def file_in(center: DataCenter, made: Made) -> Any:
    return (await center.host.storage.catalog.find_in(made.domain, made.id)).file(made.volumes[-1])


async def test_many_images_are_made_from_one_template_at_once(
    center: DataCenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vdsm.core.locks.PATIENCE", 0.01)
    source = await template(center)
    words: dict[str, Any] = {"desc": "", "volType": "LEAF", "volFormat": "COW", "preallocate": "SPARSE"}
    words |= {**source.where, "volumeID": source.volumes[0], "dstSdUUID": SD2, "postZero": False, "force": False}
    copies: list[dict[str, Any]] = [
        {"dstImgUUID": str(uuid.uuid4()), "dstVolUUID": str(uuid.uuid4())} for _ in range(5)
    ]
    made = await asyncio.gather(*(derive(center, source) for _ in range(10)))
    await asyncio.gather(*(center.call(volume.copy, **words, **one) for one in copies))
    assert await center.findings() == await center.findings(SD2) == []
    (row,) = [row for row in await center.call(disk.list_) if row.id == made[0].id]
    assert row.status is VolumeStatus.OK


async def test_a_template_is_held_while_an_image_is_derived(center: DataCenter) -> None:
    source = await template(center)
    await center.host.locks.hold("somebody", [f"disk:{source.id}"], patience=0)
    with pytest.raises(ObjectBusy):
        await derive(center, source)
    await center.host.locks.release("somebody")


async def test_a_derived_image_can_be_undone(center: DataCenter) -> None:
    source = await template(center)
    before = center.snapshot()
    await derive(center, source)
    made = (await center.call(task.list_))[0]
    await center.call(task.revert, taskID=made.id)
    assert (await center.call(task.get, taskID=made.id)).state is State.REVERTED
    assert center.snapshot() == before


async def test_a_link_that_is_none_is_found(center: DataCenter) -> None:
    source = await template(center)
    made = await derive(center, source)
    tree = center.host.tree
    linked = f"{made.directory}/{source.volumes[0]}"
    other = await center.image("RAW")
    tree.nodes[linked] = tree.nodes[other.path(0)]
    (finding,) = await center.findings()
    assert "no link to the template" in finding
    tree.nodes[linked] = tree.nodes[source.path(0)]
    assert await center.findings() == []
    for suffix in ("", ".meta", ".lease"):
        del tree.nodes[f"{source.path(0)}{suffix}"]
    del tree.nodes[source.directory]
    (finding,) = await center.findings()
    assert "whose template it is, is not there" in finding
    assert source.volumes[0] in (await center.call(storage_domain.dump, sd_id=SD)).volumes
