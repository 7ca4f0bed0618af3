# SPDX-License-Identifier: Apache-2.0
"""The published image streams over mutual TLS: headers, statuses, cuts, and that nothing of an image is kept."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from harness.stomp import PythonClient, Wired
from harness.until import BUSY, until

BLANK = "00000000-0000-0000-0000-000000000000"
SIZE = 64 << 20
DATA = b"a manager's archive " * 100_000  # two MB


class Place(NamedTuple):
    """A simulated host in charge of a pool, on a plain and a TLS port."""

    wired: Wired
    pool: str
    domain: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    limits = "[limits]\nbody_seconds = 2.0\n"
    wired = Wired(tmp_path_factory.mktemp("images"), f"vdsmtest-{secrets.token_hex(4)}", limits).serve()
    with PythonClient(wired.port("http")) as host:
        made = host.call("Storage.init", {"path": "/storage/vm"})
    yield Place(wired, made["pool"], made["id"])
    wired.end()


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> str:
        return str(json.loads(self.body)["type"]).rpartition(":")[2]

    @property
    def code(self) -> int:
        return int(json.loads(self.body)["status"]["code"])


class Streams:
    """What a manager's HTTP client does, about one new volume."""

    def __init__(self, place: Place) -> None:
        self.wired, self.pool, self.domain = place
        self.image, self.volume = f"{uuid.uuid4()}", f"{uuid.uuid4()}"
        self.where = {"storagepoolID": self.pool, "storagedomainID": self.domain, "imageID": self.image}
        new = {
            **self.where, "volumeID": self.volume, "size": f"{SIZE}", "volFormat": 5, "preallocate": 1,
            "diskType": "OVFS", "desc": '{"Updated":false}', "srcImgUUID": BLANK, "srcVolUUID": BLANK,
        }  # fmt: skip
        task = self.call("Volume.create", new)
        until("it is there", lambda: self.call("Task.getStatus", {"taskID": task})["taskResult"] == "success")

    @property
    def headers(self) -> dict[str, str]:
        return {
            "Storage-Pool-Id": self.pool, "Storage-Domain-Id": self.domain, "Image-Id": self.image,
            "Volume-Id": self.volume,
        }  # fmt: skip

    def connection(self, client: str = "engine") -> http.client.HTTPSConnection:
        context = self.wired.context(client)
        return http.client.HTTPSConnection("127.0.0.1", self.wired.port("https"), timeout=20 * BUSY, context=context)

    def put(self, data: bytes, *, client: str = "engine", **change: str) -> Answer:
        headers = {**self.headers, **{name.replace("_", "-"): value for name, value in change.items()}}
        return self._ask("PUT", data, {name: value for name, value in headers.items() if value}, client)

    def get(self, last: int | str, *, client: str = "engine") -> Answer:
        wanted = f"bytes=0-{last}" if isinstance(last, int) else last
        return self._ask("GET", b"", {**self.headers, "Range": wanted}, client)

    def _ask(self, method: str, data: bytes, headers: dict[str, str], client: str) -> Answer:
        connection = self.connection(client)
        try:
            connection.request(method, "/", data if method == "PUT" else None, headers)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def call(self, method: str, params: dict[str, Any]) -> Any:
        with PythonClient(self.wired.port("http")) as host:
            return host.call(method, params)

    def legality(self) -> str:
        return str(self.call("Volume.getInfo", {**self.where, "volumeID": self.volume})["legality"])


@pytest.fixture
def streams(place: Place) -> Streams:
    return Streams(place)


def test_there_and_back(streams: Streams) -> None:
    """As a manager keeps its archive: a volume far larger than what it holds."""
    sent = streams.put(DATA)
    assert (sent.status, sent.body) == (200, b"")
    task = sent.headers["task-id"]
    every = streams.call("Host.getAllTasksStatuses", {})
    assert every[task]["taskResult"] == "success"
    assert streams.call("Task.clear", {"taskID": task}) is True
    back = streams.get(len(DATA) - 1)
    assert (back.status, back.body == DATA) == (206, True)
    assert back.headers["content-type"] == "application/octet-stream"
    assert back.headers["content-range"] == f"bytes 0-{len(DATA) - 1}"
    assert streams.call("Task.getStatus", {"taskID": back.headers["task-id"]})["taskResult"] == "success"
    assert streams.put(DATA, Volume_Id="").status == 200, "without it the image's last"
    assert (streams.legality(), streams.put(b"x", Expect="100-continue").status) == ("LEGAL", 200)


def test_wrong_requests(streams: Streams) -> None:
    for name in ("Storage_Pool_Id", "Storage_Domain_Id", "Image_Id"):
        assert streams.put(DATA, **{name: ""}).problem == "invalid-request", name
        assert streams.put(DATA, **{name: "../../etc"}).problem == "invalid-params", name
    for wanted in ("bytes=1-2", "bytes=0-", "bytes=-5", "", "bytes=0-1,3-4", "bytes=0-99999999999999999999"):
        answer = streams.get(wanted)
        assert (answer.status, answer.problem) == (400, "invalid-request"), wanted
    chunked = streams.put(b"", Transfer_Encoding="chunked", Content_Length="")
    assert chunked.status in (400, 411)
    assert streams.put(b"").problem == "invalid-params"
    assert streams.legality() == "LEGAL"


def test_what_the_host_refuses_is_told_as_published(streams: Streams) -> None:
    missing = streams.put(DATA, Image_Id=f"{uuid.uuid4()}")
    assert (missing.status, missing.code, missing.problem) == (500, 268, "no-such-disk")
    assert streams.put(DATA, Storage_Pool_Id=f"{uuid.uuid4()}").code == 654
    large = streams.get(SIZE)
    assert (large.status, large.problem) == (500, "beyond-volume")
    for answer in (streams.put(DATA, client="watcher"), streams.get(1, client="watcher")):
        assert (answer.status, answer.problem) == (403, "access-denied")
    nobody = streams.put(DATA, client="")
    assert (nobody.status, nobody.problem) == (401, "unauthenticated")
    assert streams.legality() == "LEGAL"


def test_a_sender_that_leaves_leaves_a_volume_that_says_so(streams: Streams) -> None:
    with contextlib.closing(_begun(streams, b"x" * (9 << 20))):
        until("it is being written", lambda: streams.legality() == "ILLEGAL")
    until("its task has ended", lambda: not _running(streams))
    assert streams.get(1).problem == "disk-unusable"
    assert streams.put(DATA).status == 200
    assert streams.legality() == "LEGAL"


def test_a_sender_that_falls_silent_is_let_go(streams: Streams) -> None:
    with contextlib.closing(_begun(streams, b"x" * 1000)) as connection:
        assert connection.sock.recv(1000).startswith(b"HTTP/1.1 408")
    until("its task has ended", lambda: not _running(streams))
    assert streams.legality() == "LEGAL"


def test_a_reader_that_leaves_costs_nobody(streams: Streams) -> None:
    with contextlib.closing(streams.connection()) as connection:
        connection.request("GET", "/", headers={**streams.headers, "Range": f"bytes=0-{SIZE - 1}"})
        assert len(connection.getresponse().read(1000)) == 1000
    until("its task has ended", lambda: not _running(streams))
    assert streams.get(10).status == 206


def _begun(streams: Streams, data: bytes) -> http.client.HTTPSConnection:
    connection = streams.connection()
    connection.putrequest("PUT", "/")
    for name, value in {**streams.headers, "Content-Length": f"{SIZE}"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(data)
    return connection


def _running(streams: Streams) -> list[str]:
    rows = streams.call("Host.getAllTasksStatuses", {})
    return [task for task, row in rows.items() if row["taskState"] != "finished"]
