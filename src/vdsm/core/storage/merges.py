# SPDX-License-Identifier: Apache-2.0
"""Folds a volume of an image into the one it goes on from, while no machine uses the image.

In three parts, so that a manager may let any host do the middle one: `prepare` makes the base large enough, `fold`
writes into it what the top holds, `finish` lets the chain go on without the top. From the first step to the last the
base is ILLEGAL, and near the end the top too: at no moment does the chain look good and is not. What a guest reads
through the chain stays the same all the while, so that everything can be undone until the top is removed.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from vdsm.contract import sdm, storage_pool
from vdsm.contract.errors_domains import (
    DiskInUse,
    DiskUnusable,
    GenerationMismatch,
    SharedVolumeNonWritable,
    UnexpectedVolumeState,
    VolumeDoesNotExist,
    VolumeIsNotInChain,
    WrongParentVolume,
)
from vdsm.contract.sdm import SubchainInfo
from vdsm.contract.storage_words import VolumeLegality, VolumeRole
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.handlers import Context, handles
from vdsm.core.ports.disks import DiskImages
from vdsm.core.ports.disks import Image as ImageFile
from vdsm.core.steps import Step, operation, report

from .catalog import Catalog, Found, chain_of
from .disk import Users
from .format.volume_meta import GENERATIONS, VolumeMeta
from .repository import Repository
from .volume_jobs import Address, Place, VolumeJobs
from .volume_operations import VolumeOperations
from .volume_sizes import VolumeSizes

_FOLDING = 20.0  # times what any other step takes


class Subchain(NamedTuple):
    """A volume, the one it goes on from, and the one that goes on from it, if any."""

    found: Found
    base: str
    top: str
    child: str

    def at(self, volume: str) -> Address:
        return Address(self.found.domain.id, self.found.image.id, volume)

    def meta(self, volume: str) -> VolumeMeta:
        return self.found.image.volumes[volume]


class Merges:
    def __init__(
        self,
        images: DiskImages,
        repository: Repository,
        catalog: Catalog,
        operations: VolumeOperations,
        jobs: VolumeJobs,
        sizes: VolumeSizes,
        users: Users,
    ) -> None:
        self._images = images
        self._repository = repository
        self._catalog = catalog
        self._do = operations
        self._jobs = jobs
        self._sizes = sizes
        self._users = users

    # ---- the verbs -------------------------------------------------------------------------------------------------

    @handles(storage_pool.prepare_merge)
    async def prepare_merge(self, ctx: Context, storagepool_id: str, subchain_info: SubchainInfo) -> None:
        await ctx.hold(f"disk:{subchain_info.img_id}")
        await self._repository.writable(subchain_info.sd_id, storagepool_id)
        chain = await self.subchain(subchain_info)
        base = chain.meta(chain.base)
        _check_generation(chain, subchain_info.base_generation, base.generation)
        await self._images.info(chain.found.file(chain.top))  # refused before anything is marked
        await ctx.run(*self.prepare(chain), about=subchain_info.img_id)

    @handles(sdm.merge)
    async def merge(self, ctx: Context, job_id: str, subchain_info: SubchainInfo, merge_bitmaps: bool = False) -> None:
        await ctx.hold(f"disk:{subchain_info.img_id}")
        await self._repository.workable(subchain_info.sd_id)
        chain = await self.subchain(subchain_info)
        base = chain.meta(chain.base)
        _check_generation(chain, subchain_info.base_generation, base.generation)
        if base.legality is VolumeLegality.LEGAL or base.capacity < chain.meta(chain.top).capacity:
            raise UnexpectedVolumeState(volume=chain.base, reason="it was not prepared for a merge")
        await ctx.run(self.fold(chain, bitmaps=merge_bitmaps), about=subchain_info.img_id)

    @handles(storage_pool.finalize_merge)
    async def finalize_merge(self, ctx: Context, storagepool_id: str, subchain_info: SubchainInfo) -> None:
        await ctx.hold(f"disk:{subchain_info.img_id}")
        await self._repository.writable(subchain_info.sd_id, storagepool_id)
        chain = await self.subchain(subchain_info)
        base, stated = chain.meta(chain.base), subchain_info.base_generation
        if stated is None or base.generation != (stated + 1) % GENERATIONS:  # as it was before the merge
            _check_generation(chain, stated, base.generation)
        if base.legality is VolumeLegality.LEGAL:
            raise UnexpectedVolumeState(volume=chain.base, reason="nothing was merged into it")
        await ctx.run(*self.finish(chain, base), about=subchain_info.img_id)

    @handles(storage_pool.reduce_volume)
    async def reduce_volume(
        self,
        ctx: Context,
        storagepool_id: str,
        storagedomain_id: str,
        image_id: str,
        volume_id: str,
        allow_active: bool = False,
    ) -> None:
        await self._repository.writable(storagedomain_id, storagepool_id)
        await self._jobs.find(Address(storagedomain_id, image_id, volume_id))
        await ctx.run(about=image_id)  # a file takes no more than it holds

    # ---- what they check -------------------------------------------------------------------------------------------

    async def subchain(self, info: SubchainInfo) -> Subchain:
        """Raises VolumeIsNotInChain, WrongParentVolume, SharedVolumeNonWritable, DiskUnusable, DiskInUse."""
        found = (await self._jobs.find(Address(info.sd_id, info.img_id, info.base_id))).found
        chain = chain_of(found)
        for volume in (info.base_id, info.top_id):
            if volume not in found.image.volumes:
                raise VolumeDoesNotExist(volume=volume, image=info.img_id)
            if volume not in chain:
                raise VolumeIsNotInChain(volume=volume, image=info.img_id)
            if found.image.volumes[volume].role is VolumeRole.SHARED:
                raise SharedVolumeNonWritable(volume=volume)
        if found.image.volumes[info.top_id].parent != info.base_id:
            raise WrongParentVolume(volume=info.top_id, parent=info.base_id)
        if found.image.volumes[info.top_id].legality is not VolumeLegality.LEGAL:
            raise DiskUnusable(disk=found.name, reason=f"its volume {info.top_id} was not finished")
        for machine in self._users(info.img_id):
            raise DiskInUse(disk=found.name, vm=machine)
        at = chain.index(info.top_id)
        return Subchain(found, info.base_id, info.top_id, chain[at - 1] if at else "")

    # ---- the steps -------------------------------------------------------------------------------------------------

    def prepare(self, chain: Subchain) -> list[Step]:
        base = chain.meta(chain.base)
        size = max(base.capacity, chain.meta(chain.top).capacity)
        marked = replace(base, legality=VolumeLegality.ILLEGAL, capacity=size)
        return [
            Step("make room in its parent", self._sizes.enlarge(base.domain, base.image, chain.base, size)),
            self._step("mark its parent as unfinished", chain, chain.base, base, marked),
        ]

    def fold(self, chain: Subchain, *, bitmaps: bool) -> Step:
        """Nothing to undo: through the top, the base reads as before."""
        generation = chain.meta(chain.base).generation
        commit = self.commit(chain.at(chain.base), chain.top, generation, bitmaps)
        return Step("write it into its parent", commit, weight=_FOLDING)

    def finish(self, chain: Subchain, base: VolumeMeta) -> list[Step]:
        """`base`: its metadata when this begins."""
        top, address = chain.meta(chain.top), chain.at(chain.child)
        steps = [self._step("mark it as merged", chain, chain.top, top, replace(top, legality=VolumeLegality.ILLEGAL))]
        if chain.child:
            child = chain.meta(chain.child)
            linked = self.link(address, chain.base), self.link_back(address, chain.top, chain.base)
            steps += [
                Step("let the next one go on from its parent", *linked),
                self._step("say so", chain, chain.child, child, replace(child, parent=chain.base)),
            ]
        role = VolumeRole.INTERNAL if chain.child else VolumeRole.LEAF
        done = replace(base, legality=VolumeLegality.LEGAL, role=role)
        return [*steps, Step("finish its parent", self._do.describe(chain.base, done))]

    def whole(self, chain: Subchain) -> list[Step]:
        """All of it, and the top is removed."""
        prepare = self.prepare(chain)
        old = chain.meta(chain.base)
        size = max(old.capacity, chain.meta(chain.top).capacity)
        merged = replace(old, legality=VolumeLegality.ILLEGAL, capacity=size, generation=old.next_generation())
        *relink, last = self.finish(chain, merged)
        drop = self.drop(chain.at(chain.base), chain.top)
        folded = self.fold(chain, bitmaps=True)
        remove = Step("remove what was merged", drop, final=True)
        return [*prepare, folded, *relink, Step(last.title, last.do, drop), remove]

    def _step(self, title: str, chain: Subchain, volume: str, old: VolumeMeta, new: VolumeMeta) -> Step:
        return Step(title, self._do.describe(volume, new), self.restore(volume, old, chain.base))

    # ---- the operations --------------------------------------------------------------------------------------------

    @operation("merge.commit")
    async def commit(self, base: Address, top: str, generation: int, bitmaps: bool) -> None:
        """The base is of the generation given, and of the next afterwards: then nothing is done."""

        async def work(place: Place) -> None:
            file, into = place.found.file(top), place.found.file(base.volume)
            await self._images.commit(file, into, progress=report)
            if bitmaps and into.format is DiskFormat.QCOW2:
                await self._merge_bitmaps(file, into)

        await self._jobs.work(base, generation, work, VolumeLegality.ILLEGAL)

    async def _merge_bitmaps(self, top: ImageFile, base: ImageFile) -> None:
        """After the data, since those of the base record that being written.

        One of the base that was not closed (QEMU was killed) stays as it is, which everybody refuses: to begin it anew
        would lose what it had recorded.
        """
        there = {bitmap.name: bitmap for bitmap in (await self._images.info(base)).bitmaps}
        for bitmap in (await self._images.info(top)).bitmaps:
            if bitmap.in_use or (bitmap.name in there and there[bitmap.name].in_use):
                continue
            if bitmap.name not in there:
                await self._images.add_bitmap(base, bitmap.name, granularity=bitmap.granularity, enabled=bitmap.enabled)
            await self._images.merge_bitmap(top, bitmap.name, base, bitmap.name)

    @operation("merge.link")
    async def link(self, child: Address, parent: str) -> None:
        """Let the child's header name another parent."""
        await self._repository.writable(child.domain)
        await self._link(child, parent)

    @operation("merge.link_back")
    async def link_back(self, child: Address, parent: str, base: str) -> None:
        """As it was, unless the merge is finished."""
        if await self._unfinished(child.domain, child.image, base):
            await self._link(child, parent)

    @operation("merge.restore")
    async def restore(self, volume: str, meta: VolumeMeta, base: str) -> None:
        """Its metadata is this again, but for its generation; unless the merge is finished, and others build on it."""
        if await self._unfinished(meta.domain, meta.image, base):
            place = await self._jobs.find(Address(meta.domain, meta.image, volume))
            await self._do.write(place.found.domain, volume, replace(meta, generation=place.meta.generation))

    @operation("merge.drop")
    async def drop(self, base: Address, top: str) -> None:
        """Remove the top, once the merge is finished; from its last step on that is the only way."""
        domain = await self._repository.writable(base.domain)
        image = await self._catalog.image(domain, base.image)
        if image is None or top in chain_of(Found(domain, image)):
            return
        meta = image.volumes.get(base.volume)
        if meta is not None and meta.legality is VolumeLegality.LEGAL:
            await self._do.erase_volume(base.domain, base.image, top).run()

    async def _unfinished(self, domain_id: str, image_id: str, base: str) -> bool:
        image = await self._catalog.image(await self._repository.writable(domain_id), image_id)
        meta = image.volumes.get(base) if image is not None else None
        return meta is not None and meta.legality is VolumeLegality.ILLEGAL

    async def _link(self, child: Address, parent: str) -> None:
        """By the header alone; what it names now the metadata do not say yet, or no more."""
        found = (await self._jobs.find(child)).found
        bare = replace(found.file(child.volume), backing=None)
        named = await self._images.reference(bare)
        now = named.path.rpartition("/")[2] if named is not None else ""
        if now not in found.image.volumes:
            raise DiskUnusable(disk=found.name, reason=f"volume {child.volume} goes on from {now or 'none'}")
        if now != parent:
            file = replace(bare, backing=found.file(now))
            await self._images.rebase(file, found.file(parent), backing_name=parent, unsafe=True)


def _check_generation(chain: Subchain, stated: int | None, found: int) -> None:
    if stated is not None and stated != found:
        raise GenerationMismatch(volume=chain.base, stated=stated, found=found)
