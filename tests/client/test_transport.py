# SPDX-License-Identifier: Apache-2.0
"""Connections that are kept, that break, and that never come to be."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.scripted_server import HANG_UP, Answer, lines, said, scripted
from harness.until import until
from vdsm.client import BadAnswer, Unreachable, connect
from vdsm.client.address import Address
from vdsm.client.transport import Transport
from vdsm.contract.errors import DeadlineExceeded, NoSuchVM

VM = "5f0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
def transport(path: Path) -> Iterator[Transport]:
    made = Transport(Address(path=str(path)))
    yield made
    made.close()


def test_one_connection_serves_many_requests(path: Path, transport: Transport) -> None:
    with scripted(path, said(1), said(2), said(3)) as server:
        assert [transport.request("GET", "/").body for _ in range(3)] == [b"1", b"2", b"3"]
    assert server.connections == 1


def test_a_connection_the_daemon_closed_meanwhile_is_not_used(path: Path, transport: Transport) -> None:
    with scripted(path, said(1, close=True), said(2)) as server:
        transport.request("GET", "/")
        kept = transport._idle[0].sock
        until("it is closed", lambda: select.select([kept], [], [], 0)[0])
        assert transport.request("POST", "/", body=b"{}").body == b"2", "not repeatable, and yet it arrives"
    assert len(server.requests) == 2


def test_what_may_be_repeated_is_sent_again_once(path: Path, transport: Transport) -> None:
    with scripted(path, HANG_UP, said(1), HANG_UP, HANG_UP) as server:
        assert transport.request("GET", "/a", repeatable=True).body == b"1"
        with pytest.raises(Unreachable, match="broke"):
            transport.request("GET", "/b", repeatable=True)
    assert lines(server.requests) == ["GET /a", "GET /a", "GET /b", "GET /b"]


def test_what_may_not_be_repeated_is_not(path: Path, transport: Transport) -> None:
    with scripted(path, HANG_UP) as server:
        with pytest.raises(Unreachable) as caught:
            transport.request("POST", "/", body=b"{}")
        assert caught.value.sent
    assert len(server.requests) == 1


def test_a_change_is_repeated_with_one_key(path: Path) -> None:
    with scripted(path, HANG_UP, Answer(b"HTTP/1.1 204 No Content\r\n\r\n")) as server, connect(str(path)) as host:
        host.vm.reset(VM)
    keys = [got.headers["idempotency-key"] for got in server.requests]
    assert len(keys) == 2
    assert keys[0] == keys[1] != ""


def test_each_change_has_a_key_of_its_own(path: Path) -> None:
    nothing = Answer(b"HTTP/1.1 204 No Content\r\n\r\n")
    with scripted(path, nothing, nothing) as server, connect(str(path)) as host:
        host.vm.reset(VM)
        host.vm.reset(VM)
    assert len({got.headers["idempotency-key"] for got in server.requests}) == 2


def test_nobody_listens(path: Path, transport: Transport) -> None:
    with pytest.raises(Unreachable, match="No such file"):
        transport.request("GET", "/")


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("no certificate")
    with connect("https://localhost:1", ca=str(tmp_path / "ca")) as host, pytest.raises(Unreachable, match="ca"):
        host.vm.list()


def test_a_deadline_ends_the_wait_for_a_silent_daemon(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vdsm.client.exchange.GRACE", 0.1)
    silence = threading.Event()
    with scripted(path, Answer(close=True, wait=silence)) as server, connect(str(path)) as host:
        with pytest.raises(DeadlineExceeded):
            host.options(deadline=0.2).vm.get_stats(VM)
        silence.set()
        assert server.requests[0].headers["request-timeout"] == "0.200"


def test_problems_are_raised_as_themselves(path: Path) -> None:
    body = NoSuchVM(vm="x").body("f")
    answer = said(
        {"type": body.type, "title": "", "status": 404, "detail": "d", "code": 1, "facts": {"vm": "x"}}, "404 No"
    )
    with scripted(path, answer) as _, connect(str(path)) as host, pytest.raises(NoSuchVM, match="machine x"):
        host.vm.get_stats(VM)


@pytest.mark.parametrize("answer", [said({"x": 1}, "500 Oops"), said({"no": "list"}), said([{"vmId": 3}])])
def test_an_answer_that_is_not_of_this_api(path: Path, answer: Answer) -> None:
    with scripted(path, answer) as _, connect(str(path)) as host, pytest.raises(BadAnswer):
        host.vm.list()


def test_threads_do_not_share_a_connection(path: Path, transport: Transport) -> None:
    gate = threading.Event()
    first = said(1)
    with scripted(path, Answer(first.data, wait=gate), said(2)) as server:
        slow = threading.Thread(target=transport.request, args=("GET", "/slow"))
        slow.start()
        until("the slow request is there", lambda: server.requests)
        assert transport.request("GET", "/quick").body == b"2"
        gate.set()
        slow.join(10)
    assert server.connections == 2
