# SPDX-License-Identifier: Apache-2.0
"""Chosen fields and filters."""

from __future__ import annotations

from typing import Any

import pytest

from harness.rest_server import Server
from vdsm.contract import VERBS
from vdsm.contract.selection import Selection


@pytest.fixture
def filled(server: Server) -> Server:
    server.create("a")
    server.create("b", vcpus=2)
    paused = server.create("c", vcpus=3)
    assert server.request("POST", f"/api/v1/vms/{paused}/pause").status == 200
    return server


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("status=Paused", ["c"]),
        ("status=Paused&vcpus=3&vcpus=1", ["c"]),
        ("status=Paused&vcpus=2", []),
        ("vcpus=2&vcpus=3", ["b", "c"]),
        ("foreign=true", []),
        ("foreign=false&vmName=a", ["a"]),
        ("vmName=nobody", []),
    ],
)
def test_filters(filled: Server, query: str, names: list[str]) -> None:
    reply = filled.get(f"/api/v1/vms?{query}")
    assert reply.status == 200, reply.body
    assert sorted(row["vmName"] for row in reply.json) == names


def test_fields(filled: Server) -> None:
    reply = filled.get("/api/v1/vms?fields=vmName,vcpus&status=Paused")
    assert reply.json == [{"vmName": "c", "vcpus": 3}]
    assert filled.get("/api/v1/vms?fields=vmName&fields=vcpus&vmName=a").json == [{"vmName": "a", "vcpus": 1}]


def test_fields_of_one_object(filled: Server) -> None:
    vm_id = filled.get("/api/v1/vms?vmName=a").json[0]["vmId"]
    assert filled.get(f"/api/v1/vms/{vm_id}?fields=smp,devices").json.keys() == {"smp", "devices"}


def test_an_etag_is_of_what_was_chosen(filled: Server) -> None:
    a, b = (filled.get(f"/api/v1/vms?fields={f}").headers["etag"] for f in ("vmName", "vmId"))
    assert a != b


def test_fields_of_a_map(filled: Server) -> None:
    filled.request("POST", "/api/v1/vms", {"vmParams": {"name": "d", "memory": 64}})
    rows = filled.get("/api/v1/host/tasks-statuses?fields=taskState&taskState=finished").json
    assert rows
    assert all(row == {"taskState": "finished"} for row in rows.values())
    assert filled.get("/api/v1/host/tasks-statuses?taskState=running").json == {}


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("fields=", "$.fields"),
        ("fields=vmName,color", "$.fields"),
        ("fields=vm_name", "$.fields"),
        ("status=up", "$.status"),
        ("vcpus=many", "$.vcpus"),
        ("memory=-1", "$.memory"),
        ("foreign=perhaps", "$.foreign"),
        ("color=red", "$"),
    ],
)
def test_what_cannot_be_chosen_is_refused(server: Server, query: str, path: str) -> None:
    assert server.get(f"/api/v1/vms?{query}").problem("invalid-params")["path"] == path


def test_nothing_to_choose_in_a_text(server: Server) -> None:
    server.get("/api/v1/host/echo?message=a&fields=b").problem("invalid-params")


@pytest.mark.parametrize("verb", [v for v in VERBS.values() if Selection.of(v.result)], ids=lambda v: v.method)
def test_every_field_can_be_chosen(verb: Any) -> None:
    selection = Selection.of(verb.result)
    assert selection is not None
    assert selection.read({"fields": [",".join(selection.fields)]}) is not None
