# SPDX-License-Identifier: Apache-2.0
"""Whatever a caller or another host writes: a typed problem, nothing outside the domain touched, nothing lost."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from harness.memory_host import ADMIN, MemoryHost
from harness.volumes import Volumes
from vdsm.contract import VERBS, AnyVerb, Kind, disk, image, storage, storage_domain
from vdsm.contract.errors import InternalError, Problem
from vdsm.contract.events import Severity
from vdsm.core.storage.format import volume_meta
from vdsm.core.storage.format.volume_meta import VolumeMeta

NOUNS = ("StoragePool", "StorageDomain", "Storage", "Disk", "Volume", "Image", "SDM", "Lease", "NBD")
HOST_VERBS = ("Host.add_image_ticket", "Host.getStorageDomains", "Host.getStorageRepoStats",
              "Host.getConnectedStoragePools", "Host.startMonitoringDomain", "Host.stopMonitoringDomain")  # fmt: skip
OURS = [verb for verb in VERBS.values() if verb.method.partition(".")[0] in NOUNS or verb.method in HOST_VERBS]
WORDS = [
    "../../../../etc/passwd", "/etc/shadow", "..", ".", "a/../../b", "\0", "x\ny=z", "-oX=1", "%2e%2e%2f", "x" * 5000,
    "{}", "file:///etc/shadow", "json:{}", "nbd:unix:/run/x", "::1:/x", "srv:../../x", "\u202e", "",
]  # fmt: skip
ASKS_FOR_NO_POOL = {  # only pass its id on, as published
    "StoragePool.connectStorageServer", "StoragePool.disconnectStorageServer", "StoragePool.disconnect",
    "Image.prepare", "Image.teardown", "Volume.refresh",
}  # fmt: skip
QUERIES = [verb for verb in OURS if verb.kind is Kind.QUERY]


class Given:
    """Parameters that make sense for one disk with two volumes."""

    def __init__(self, volumes: Volumes, image_id: str, chain: list[str]) -> None:
        self.ids = {"pool": volumes.pool, "domain": volumes.domain, "image": image_id, "volume": chain[-1]}

    def for_(self, verb: AnyVerb) -> dict[str, Any]:
        found: dict[str, Any] = self.sample(msgspec.inspect.type_info(verb.params), "")
        return found

    def sample(self, kind: Any, name: str) -> Any:
        match kind:
            case msgspec.inspect.StructType():
                return {field.encode_name: self.sample(field.type, field.encode_name) for field in kind.fields}
            case msgspec.inspect.ListType() | msgspec.inspect.CollectionType():
                return [self.sample(kind.item_type, name)]
            case msgspec.inspect.DictType():
                return {self.sample(kind.key_type, name): self.sample(kind.value_type, name)}
            case msgspec.inspect.UnionType():
                return self.sample(next(t for t in kind.types if not isinstance(t, msgspec.inspect.NoneType)), name)
            case msgspec.inspect.EnumType():
                return next(iter(kind.cls)).value
            case msgspec.inspect.IntType():
                return max(kind.ge or 0, 1)
            case msgspec.inspect.FloatType():
                return 1.0
            case msgspec.inspect.BoolType():
                return False
            case msgspec.inspect.Metadata():
                return self.sample(kind.type, name)
            case msgspec.inspect.StrType():
                return self._text(name.lower())
        return None

    def _text(self, name: str) -> str:
        words = {"pool": "pool", "sd": "domain", "domain": "domain", "im": "image", "disk": "image", "vol": "volume"}
        words |= {"top": "volume", "base": "volume", "storageid": "domain"}
        return next((self.ids[which] for word, which in words.items() if word in name), str(uuid.uuid4()))


def spoiled(params: Any, word: str) -> Iterator[Any]:
    """The parameters with one text, or one key, become that word."""
    if isinstance(params, str):
        yield word
    elif isinstance(params, dict):
        for key, value in params.items():
            for bad in spoiled(value, word):
                yield {**params, key: bad}
    elif isinstance(params, list):
        for number, value in enumerate(params):
            for bad in spoiled(value, word):
                yield [*params[:number], bad, *params[number + 1 :]]


async def asked(host: MemoryHost, verb: AnyVerb, params: dict[str, Any]) -> Problem | None:
    """What it ended with; never what says that vdsm has a defect."""
    try:
        if verb.kind is Kind.STREAM:
            await (await host.bridge.open(verb, params, ADMIN)).close()
        else:
            await host.bridge.call(verb, params, ADMIN, deadline=2)
    except InternalError as defect:
        pytest.fail(f"{verb.method} {params}: {defect.__cause__!r}")
    except Problem as problem:
        return problem
    return None


@pytest.fixture
async def volumes(host: MemoryHost) -> Volumes:
    return await Volumes.of(host)


def outside(host: MemoryHost) -> set[str]:
    mine = ("/storage/", "/data-center", "/run/vdsm/storage")
    return {path for path in host.tree.nodes if not path.startswith(mine)}


@pytest.mark.parametrize("verb", OURS, ids=lambda verb: verb.method)
async def test_no_text_leads_anywhere(volumes: Volumes, verb: AnyVerb) -> None:
    host = volumes.host
    given = Given(volumes, *await volumes.chain(2)).for_(verb)
    before = outside(host)
    for word in WORDS:
        for params in spoiled(given, word):
            await asked(host, verb, params)
            assert outside(host) == before, params
            assert not [path for path in host.tree.nodes if ".." in path.split("/") or "\0" in path], params


async def every_query(host: MemoryHost, given: Given) -> None:
    for verb in QUERIES:
        await asked(host, verb, given.for_(verb))


async def told(volumes: Volumes) -> Any:
    host = volumes.host
    dump = await host.call(storage_domain.dump, sd_id=volumes.domain)
    return dump, await host.call(storage.check, storageID=volumes.domain)


async def test_metadata_cut_short_anywhere(volumes: Volumes) -> None:
    host = volumes.host
    image_id, chain = await volumes.chain(2)
    given, before = Given(volumes, image_id, chain), await told(volumes)
    assert before[1] == []
    top = f"{volumes.root}/{volumes.domain}/images/{image_id}/{chain[-1]}.meta"
    for file in (top, f"{volumes.root}/{volumes.domain}/dom_md/metadata"):
        node = host.tree.nodes[file]
        whole = bytes(node.data)
        for length in range(len(whole) - 1):  # without its last newline it says the same
            node.data[:], node.size = whole[:length], length
            findings = await host.call(storage.check, storageID=volumes.domain)
            assert {finding.severity for finding in findings} == {Severity.ERROR}, length
            if length % 40 == 0:
                await every_query(host, given)
        node.data[:], node.size = whole, len(whole)
        assert await told(volumes) == before


async def test_any_bytes_in_any_metadata(volumes: Volumes) -> None:
    host, chance = volumes.host, random.Random(5)
    image_id, chain = await volumes.chain(2)
    given, before = Given(volumes, image_id, chain), await told(volumes)
    below = f"{volumes.root}/{volumes.domain}/"
    files = [path for path in host.tree.nodes if path.startswith(below) and path.endswith((".meta", "/metadata"))]
    assert len(files) == 3
    for number in range(90):
        node = host.tree.nodes[files[number % 3]]
        whole = bytes(node.data)
        node.data[:] = _damaged(whole, chance)
        node.size = len(node.data)
        await every_query(host, given)
        await asked(host, image.prepare, given.for_(image.prepare))
        node.data[:], node.size = whole, len(whole)
    assert await told(volumes) == before


def _damaged(data: bytes, chance: random.Random) -> bytes:
    match chance.randrange(5):
        case 0:
            return chance.randbytes(chance.randrange(2000))
        case 1:  # a bit or some
            spoiled = bytearray(data)
            for _ in range(chance.randrange(1, 5)):
                spoiled[chance.randrange(len(spoiled))] ^= 1 << chance.randrange(8)
            return bytes(spoiled)
        case 2:  # the lines in another order, some twice
            lines = data.splitlines(keepends=True)
            return b"".join(chance.choices(lines, k=len(lines)))
        case 3:  # a number that is none, or too large
            return data.replace(b"=1", b"=" + chance.choice([b"-1", b"9" * 30, b"1e9", b"\xd9\xa1", b""]), 1)
    return data * chance.randrange(2, 300)


CHAINS: dict[str, list[int | None]] = {
    "a circle": [1, 0],
    "a circle below": [1, 2, 1],
    "its own parent": [0],
    "a parent that is not there": [None],
    "a parent that is not there, further down": [1, None],
}


@pytest.mark.parametrize("parents", CHAINS.values(), ids=CHAINS)
async def test_chains_that_are_none(volumes: Volumes, parents: list[int | None]) -> None:
    host, (image_id, names) = volumes.host, await volumes.chain(len(parents))
    names.reverse()
    for name, parent in zip(names, parents, strict=True):
        meta: VolumeMeta = volumes.meta(image_id, name)
        node = host.tree.nodes[volumes.path(image_id, name) + ".meta"]
        above = str(uuid.uuid4()) if parent is None else names[parent]
        node.data[:] = volume_meta.encode(msgspec.structs.replace(meta, parent=above))
        node.size = len(node.data)
    before = await told(volumes)
    assert {finding.severity for finding in before[1]} == {Severity.ERROR}
    given, nodes = Given(volumes, image_id, names), set(host.tree.nodes)
    for verb in OURS:
        if verb.method.startswith(("Volume.", "SDM.")) and verb.mutates and verb.method != "Volume.create":
            assert await asked(host, verb, given.for_(verb)) is not None or set(host.tree.nodes) == nodes, verb
    assert await asked(host, disk.start_download, {"diskID": image_id}) is not None
    assert (await told(volumes))[1] == before[1]


async def nothing_is_done(volumes: Volumes, given: Given) -> None:
    """By any verb on volumes, images and jobs."""
    host, done = volumes.host, []
    nodes = {path: bytes(node.data) for path, node in host.tree.nodes.items()}
    for verb in OURS:
        in_domain = "storagedomain_id" in verb.params.__struct_fields__ and not verb.method.startswith("Storage")
        if not verb.mutates or not (in_domain or verb.method.startswith("SDM.")):
            continue
        if await asked(host, verb, given.for_(verb)) is None:
            done.append(verb.method)
        assert {path: bytes(node.data) for path, node in host.tree.nodes.items()} == nodes, verb
    assert done == ["Image.teardown"], "which takes a link away"


async def test_a_domain_of_another_version(volumes: Volumes) -> None:
    host = volumes.host
    given = Given(volumes, *await volumes.chain(2))
    node = host.tree.nodes[f"{volumes.root}/{volumes.domain}/dom_md/metadata"]
    lines = [line.replace(b"VERSION=5", b"VERSION=4") for line in bytes(node.data).splitlines()[:-1]]
    lines.append(b"_SHA_CKSUM=" + hashlib.sha1(b"".join(lines), usedforsecurity=False).hexdigest().encode())
    node.data[:] = b"".join(line + b"\n" for line in lines)
    node.size = len(node.data)
    problem = await asked(host, storage_domain.validate, {"storagedomainID": volumes.domain})
    assert "version 4" in str(problem)
    (finding,) = await host.call(storage.check, storageID=volumes.domain)
    assert "version 4" in finding.what
    await nothing_is_done(volumes, given)


async def test_a_pool_that_is_not_connected(volumes: Volumes) -> None:
    host, given = volumes.host, Given(volumes, *await volumes.chain(2))
    given.ids["pool"] = str(uuid.uuid4())
    before, done = volumes.names(), set()
    for verb in OURS:
        if "storagepool_id" in verb.params.__struct_fields__ and verb.mutates:
            if await asked(host, verb, given.for_(verb)) is None:
                done.add(verb.method)
            assert volumes.names() == before, verb
    assert done == ASKS_FOR_NO_POOL
