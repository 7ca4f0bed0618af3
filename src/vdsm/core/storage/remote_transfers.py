# SPDX-License-Identifier: Apache-2.0
"""The verbs by which this host itself fetches a volume's data from an HTTP server, and sends them to one.

A caller could let the host reach what only the host can reach: so the configuration names the servers, and without any
there are no such transfers. Headers may hold secrets and are kept in memory only: a transfer cut short by a restart has
lost them, and fails. What came is verified before the volume is LEGAL.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from vdsm.contract import image
from vdsm.contract.errors import InvalidParams
from vdsm.contract.errors_domains import DiskInUse, DiskUnusable, VolumeDoesNotExist, VolumeNonWritable
from vdsm.contract.errors_storage import ImageVerificationError, RemoteRefused, RemoteTransferError
from vdsm.contract.image import HttpTransfer
from vdsm.contract.storage_words import BLANK, VolumeAllocation, VolumeFormat, VolumeLegality
from vdsm.contract.types import Secret
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.handlers import Context, handles
from vdsm.core.locks import shared
from vdsm.core.ports.disks import DiskImages
from vdsm.core.ports.files import Files
from vdsm.core.ports.remotes import Remotes
from vdsm.core.steps import Step, operation, report

from .catalog import Catalog, Found, chain_of, sound
from .disk import BLOCK, Users
from .format import layout
from .repository import Repository
from .volume_jobs import Address, Place, VolumeJobs
from .volume_leases import VolumeLeases

_PORTS = {"http": 80, "https": 443}
_URL = re.compile(r"https?://[!-~]+", re.ASCII)
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t -~\x80-\xff]*")
_OURS = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "expect", "upgrade", "te"}


class RemoteTransfers:
    """`servers` are those that may be reached: `host`, at its scheme's own port, or `host:port`."""

    def __init__(
        self,
        files: Files,
        images: DiskImages,
        remotes: Remotes,
        repository: Repository,
        catalog: Catalog,
        jobs: VolumeJobs,
        leases: VolumeLeases,
        users: Users,
        servers: Sequence[str],
    ) -> None:
        self._files = files
        self._images = images
        self._remotes = remotes
        self._repository = repository
        self._catalog = catalog
        self._jobs = jobs
        self._leases = leases
        self._users = users
        self._servers = {server.lower() for server in servers}
        self._headers: dict[str, dict[str, str]] = {}

    @handles(image.download)
    async def download(
        self,
        ctx: Context,
        method_args: HttpTransfer,
        storagepool_id: str,
        storagedomain_id: str,
        image_id: str,
        volume_id: str | None = None,
    ) -> None:
        await ctx.hold(f"disk:{image_id}")
        found, at = await self._find(method_args, storagepool_id, storagedomain_id, image_id, volume_id)
        if at.volume != chain_of(found)[0] or found.image.template():
            raise VolumeNonWritable(volume=at.volume, image=image_id, reason="others go on from it")
        generation = found.image.volumes[at.volume].generation
        with self._keeping(method_args) as key:
            await ctx.run(Step("fetch its data", self.fetch(at, generation, method_args.url, key)), about=image_id)

    @handles(image.upload)
    async def upload(
        self,
        ctx: Context,
        method_args: HttpTransfer,
        storagepool_id: str,
        storagedomain_id: str,
        image_id: str,
        volume_id: str | None = None,
    ) -> None:
        await ctx.hold(shared(f"disk:{image_id}"))
        found, at = await self._find(method_args, storagepool_id, storagedomain_id, image_id, volume_id)
        if sound(found).image.volumes[at.volume].parent != BLANK:
            raise DiskUnusable(disk=found.name, reason=f"its volume {at.volume} is no whole disk: copy it first")
        with self._keeping(method_args) as key:
            await ctx.run(Step("send its data", self.send(at, method_args.url, key)), about=image_id)

    async def _find(
        self, args: HttpTransfer, pool_id: str, domain_id: str, image_id: str, volume_id: str | None
    ) -> tuple[Found, Address]:
        """Raises RemoteRefused, SpmStatusError, NoSuchDisk, VolumeDoesNotExist, DiskUnusable, DiskInUse."""
        self._check(args.url)
        _check_headers(args.headers)
        await self._repository.writable(domain_id, pool_id)
        found = await self._catalog.find_in(domain_id, image_id)
        chain = chain_of(found)
        volume = chain[0] if volume_id in (None, BLANK) else str(volume_id)
        if volume not in chain:
            raise VolumeDoesNotExist(volume=volume, image=image_id)
        for machine in self._users(image_id):
            raise DiskInUse(disk=found.name, vm=machine)
        return found, Address(domain_id, image_id, volume)

    @contextlib.contextmanager
    def _keeping(self, args: HttpTransfer) -> Iterator[str]:
        """The headers, under a key that may be written down."""
        key = str(uuid.uuid4())
        self._headers[key] = {name: value.reveal() for name, value in args.headers.items()}
        try:
            yield key
        finally:
            del self._headers[key]

    def _check(self, url: str) -> None:
        """Raises RemoteRefused."""
        server, reason = server_of(url)
        if not reason and server not in self._servers:
            reason = "it is none of those that may be reached"
        if reason:
            raise RemoteRefused(server=server, reason=reason)

    # ---- what the tasks do -----------------------------------------------------------------------------------------

    @operation("remote.fetch")
    async def fetch(self, at: Address, generation: int, url: str, key: str) -> None:
        """The volume is ILLEGAL until what came is verified. Raises RemoteTransferError, ImageVerificationError."""
        done = (await self._jobs.find(at)).meta.generation != generation
        headers = {} if done else self._kept(key, url)

        async def fill(place: Place) -> None:
            domain, inside = place.found.domain, place.found.domain.path(layout.volume(at.image, at.volume))
            file, capacity = place.found.file(at.volume), place.meta.capacity
            most = capacity
            if place.meta.format is VolumeFormat.COW:
                most = (await self._images.measure_new(capacity, DiskFormat.QCOW2)).fully_allocated
            await self._files.resize(domain.root, inside, 0)
            came = 0

            async def take(piece: bytes, length: int) -> None:
                nonlocal came
                await self._files.write_at(domain.root, inside, came, piece)
                came += len(piece)
                report(came / length)

            await self._remotes.fetch(url, headers, take, most=most)
            if place.meta.format is VolumeFormat.RAW and came < capacity:
                whole = place.meta.allocation is VolumeAllocation.PREALLOCATED
                await self._images.resize(file, capacity, preallocate=whole)
            size = (await self._images.verify(file, largest=capacity)).virtual_size
            if size <= capacity - BLOCK:
                reason = f"its virtual size of {size} bytes is less than the volume's {capacity}"
                raise ImageVerificationError(file=file.path, reason=reason)

        await self._jobs.work(at, generation, fill, VolumeLegality.LEGAL)

    @operation("remote.send")
    async def send(self, at: Address, url: str, key: str) -> None:
        headers = self._kept(key, url)
        domain = await self._repository.writable(at.domain)
        inside = domain.path(layout.volume(at.image, at.volume))
        async with self._leases.held(domain, at.image, at.volume):
            length = (await self._files.status(domain.root, inside)).size

            async def give(offset: int, most: int) -> bytes:
                report(offset / max(length, 1))
                return await self._files.read_at(domain.root, inside, offset, most)

            await self._remotes.send(url, headers, give, length)

    def _kept(self, key: str, url: str) -> dict[str, str]:
        """Raises RemoteRefused, RemoteTransferError."""
        self._check(url)
        try:
            return self._headers[key]
        except KeyError:
            raise RemoteTransferError(server=server_of(url)[0], reason="the host was restarted meanwhile") from None


def server_of(url: str) -> tuple[str, str]:
    """The server a URL names, as the configuration names them, and what is wrong with the URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url[:64], "its URL cannot be read"
    server = (parts.hostname or "").lower()
    server = f"[{server}]" if ":" in server else server
    if port is not None and port != _PORTS.get(parts.scheme):
        server = f"{server}:{port}"
    if not _URL.fullmatch(url) or parts.scheme not in _PORTS or not parts.hostname:
        return server, "its URL is none of http or https"
    if "@" in parts.netloc or "\\" in url or parts.fragment:
        return server, "its URL names a user, or has more than a server, a path and a query"
    return server, ""


def _check_headers(headers: Mapping[str, Secret]) -> None:
    """Raises InvalidParams."""
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or name.lower() in _OURS:
            raise InvalidParams(reason=f"{name[:64]!r} is no header that a transfer may have")
        if not _VALUE.fullmatch(value.reveal()):
            raise InvalidParams(reason=f"the value of the header {name} has characters that none has")
