# SPDX-License-Identifier: Apache-2.0
"""Image.download and Image.upload: which servers, what they may bring, and what is left when it goes wrong."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from harness.crashes import Before, next_daemon
from harness.data_center import DataCenter, Made, MiB
from harness.memory_host import MemoryHost
from vdsm.contract import AnyVerb, audit, image, task
from vdsm.contract.errors import InvalidParams, Problem
from vdsm.contract.errors_domains import DiskInUse, DiskUnusable, VolumeDoesNotExist, VolumeNonWritable
from vdsm.contract.errors_storage import RemoteRefused, RemoteTransferError
from vdsm.contract.storage_words import BLANK, VolumeLegality
from vdsm.contract.task import State
from vdsm.core.storage.remote_transfers import server_of

URL = "https://images.test/debian.raw"


async def call(center: DataCenter, verb: AnyVerb, made: Made, url: str = URL, **more: Any) -> None:
    args = {"url": url, "method": "http", **({"headers": more.pop("headers")} if "headers" in more else {})}
    await center.call(verb, **{**made.where, "methodArgs": args, **more})


def held(center: DataCenter, made: Made, number: int = 0) -> bytes:
    node = center.host.tree.nodes[made.path(number)]
    return bytes(node.data) + bytes(node.size - len(node.data))


async def blank(center: DataCenter, size: int = 4 * MiB) -> Made:
    made = Made(str(uuid.uuid4()), [])
    await center.volume(made, "RAW", size=size)
    return made


async def test_a_volume_is_fetched_and_sent(center: DataCenter) -> None:
    data = bytes(range(256)) * 8192  # two MiB
    center.host.remotes.served[URL] = data
    made = await blank(center)
    await call(center, image.download, made, headers={"Authorization": "Bearer secret-word"})
    assert held(center, made) == data + bytes(2 * MiB)
    meta = center.meta(made, 0)
    assert (meta.legality, meta.generation) == (VolumeLegality.LEGAL, 1)
    assert await center.findings() == []
    assert center.host.remotes.seen == [{"Authorization": "Bearer secret-word"}]
    await call(center, image.upload, made, "http://images.test/up", volumeID=made.volumes[0])
    assert center.host.remotes.served["http://images.test/up"] == data + bytes(2 * MiB)
    kept = str(await center.call(audit.list_, limit=100)) + str(await center.call(task.list_))
    assert "secret-word" not in kept + str(await center.host.store.tasks.load())


async def test_what_was_there_before_is_gone(center: DataCenter) -> None:
    made = await blank(center)
    center.host.remotes.served[URL] = b"\xff" * (4 * MiB)
    await call(center, image.download, made)
    center.host.remotes.served[URL] = b"short"
    await call(center, image.download, made)
    assert held(center, made) == b"short" + bytes(4 * MiB - 5)


@pytest.mark.parametrize(
    "url",
    [
        "https://other.test/a",
        "https://images.test:8443/a",
        "https://images.test@other.test/a",
        "https://user:word@images.test/a",
        "https://images.test.other.test/a",
        "https://169.254.169.254/latest/meta-data",
        "http://localhost/a",
        "http://[::1]/a",
        "https://images.test\\@other.test/a",
        "https://images.test:99999/a",
        "http://[images.test/a",
        "https:///a",
    ],
)
async def test_other_servers_are_not_reached(center: DataCenter, url: str) -> None:
    made = await blank(center)
    before = center.snapshot()
    for verb in (image.download, image.upload):
        with pytest.raises(RemoteRefused) as refused:
            await call(center, verb, made, url)
        assert "remote_servers" in refused.value.hint
    assert center.snapshot() == before
    assert not center.host.remotes.seen


@pytest.mark.parametrize(
    "url", ["file:///etc/shadow", "ftp://images.test/a", "https://images.test/a b", "https://images.test/a\r\nX: y", ""]
)
async def test_other_schemes_are_no_urls(center: DataCenter, url: str) -> None:
    with pytest.raises(InvalidParams):
        await call(center, image.download, await blank(center), url)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "x"},
        {"content-length": "1"},
        {"X": "a\r\nY: b"},
        {"X\n": "a"},
        {"": "a"},
        {"Transfer-Encoding": "chunked"},
    ],
)
async def test_headers_that_would_say_something_else(center: DataCenter, headers: dict[str, str]) -> None:
    with pytest.raises(InvalidParams):
        await call(center, image.download, await blank(center), headers=headers)
    assert not center.host.remotes.seen


def test_a_server_is_named_as_the_configuration_names_it() -> None:
    assert server_of("https://Images.Test/a?b=c") == ("images.test", "")
    assert server_of("http://images.test:80/") == ("images.test", "")
    assert server_of("http://images.test:443/") == ("images.test:443", "")
    assert server_of("https://[2001:DB8::1]:8443/a") == ("[2001:db8::1]:8443", "")


@pytest.mark.parametrize("verb", [image.download, image.upload])
async def test_what_is_not_transferred(center: DataCenter, verb: AnyVerb) -> None:
    made, chain = await blank(center), await center.image("RAW", "COW")
    center.host.remotes.served[URL] = b"x"
    await center.host.create("a", disks=[{"path": made.id}])
    before = center.snapshot()
    calls: list[tuple[Made, dict[str, Any], type[Problem]]] = [
        (made, {}, DiskInUse),
        (chain, {"volumeID": BLANK[:-1] + "1"}, VolumeDoesNotExist),
        (chain, {"volumeID": chain.volumes[0]}, VolumeNonWritable)
        if verb is image.download
        else (chain, {"volumeID": chain.volumes[1]}, DiskUnusable),
    ]
    for one, params, problem in calls:
        with pytest.raises(problem):
            await call(center, verb, one, **params)
    assert center.snapshot() == before


async def test_too_much_or_nothing_leaves_a_volume_that_is_not_used(center: DataCenter) -> None:
    for data in (bytes(4 * MiB + 1), None):
        made = await blank(center)
        if data is None:
            del center.host.remotes.served[URL]
        else:
            center.host.remotes.served[URL] = data
        with pytest.raises(RemoteTransferError):
            await call(center, image.download, made)
        assert center.meta(made, 0).legality is VolumeLegality.ILLEGAL
        with pytest.raises(DiskUnusable):
            await center.host.create("a", disks=[{"path": made.id}])
        center.host.remotes.served[URL] = b"now"
        await call(center, image.download, made)
        assert center.meta(made, 0).legality is VolumeLegality.LEGAL


async def test_after_a_restart_a_transfer_has_failed_and_can_be_asked_for_again(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    first = MemoryHost(tmp_path / "host")
    await first.open()
    center = DataCenter(first)
    await center.open()
    made = await blank(center)
    await first.close()
    mortal = Before(tmp_path / "host", first.tree).again(8)
    mortal.host.remotes.served[URL] = bytes(4 * MiB)
    assert await mortal.die(image.download, {**made.where, "methodArgs": {"url": URL}})
    host = await next_daemon(mortal)
    center = DataCenter(host)
    try:
        (row,) = [row for row in await host.call(task.list_) if row.verb == "Image.download"]
        assert (row.state, row.problem.code) == (State.FAILED, RemoteTransferError.code)
        assert center.meta(made, 0).legality is VolumeLegality.ILLEGAL
        host.remotes.served[URL] = b"again"
        await call(center, image.download, made)
        assert held(center, made)[:5] == b"again"
        assert await center.findings() == []
    finally:
        await host.close()
