# SPDX-License-Identifier: Apache-2.0
"""Changes over HTTP: awaited, left to themselves, planned, repeated."""

from __future__ import annotations

import json
import time

import pytest

from harness.rest_server import Server
from harness.until import until
from vdsm.drivers.simulated.faults import Fault

CREATE = {"vmParams": {"name": "a", "memory": 64}}


def slow_start(server: Server, seconds: float = 30.0) -> None:
    async def set_fault() -> None:
        server.host.hypervisor.faults.set("start", Fault(delay=seconds))

    server.run(set_fault)


def mend(server: Server) -> None:
    async def clear() -> None:
        server.host.hypervisor.faults.clear()

    server.run(clear)


def test_a_task_is_awaited(server: Server) -> None:
    reply = server.request("POST", "/api/v1/vms", CREATE)
    assert reply.status == 200
    assert reply.json["vmName"] == "a"
    task = server.get(reply.headers["location"]).json
    assert (task["verb"], task["state"]) == ("VM.create", "done")


def test_a_task_is_left_to_itself(server: Server) -> None:
    slow_start(server, 0.3)
    reply = server.request("POST", "/api/v1/vms", CREATE, Prefer="respond-async")
    assert reply.status == 202
    assert reply.headers["preference-applied"] == "respond-async"
    assert reply.json["state"] in ("pending", "running")
    location = reply.headers["location"]
    assert location == f"/api/v1/tasks/{reply.json['id']}"
    until("the task is done", lambda: server.get(location).json["state"] == "done")


@pytest.mark.parametrize("prefer", ["wait=0.05", "respond-async, wait=0.05", 'Respond-Async; foo, wait="0.05"'])
def test_a_task_is_awaited_for_a_while(server: Server, prefer: str) -> None:
    slow_start(server)
    begun = time.monotonic()
    reply = server.request("POST", "/api/v1/vms", CREATE, Prefer=prefer)
    assert reply.status == 202
    assert "wait=0.05" in reply.headers["preference-applied"]
    assert time.monotonic() - begun < 10
    mend(server)


def test_within_its_wait_a_task_gives_its_result(server: Server) -> None:
    reply = server.request("POST", "/api/v1/vms", CREATE, Prefer="respond-async, wait=60")
    assert (reply.status, reply.json["vmName"]) == (200, "a")


def test_what_is_no_task_is_not_detached(server: Server) -> None:
    vm_id = server.create("a")
    reply = server.request("POST", f"/api/v1/vms/{vm_id}/pause", Prefer="respond-async")
    assert (reply.status, reply.json["status"]) == (200, "Paused")
    assert "preference-applied" not in reply.headers


def test_an_unknown_preference_is_passed_over(server: Server) -> None:
    assert server.request("POST", "/api/v1/vms", CREATE, Prefer="wait=soon, return=minimal, ,;").status == 200


def test_a_task_outlives_its_client(server: Server) -> None:
    slow_start(server, 0.5)
    connection = server.connection()
    connection.request("POST", "/api/v1/vms", json.dumps(CREATE), {"Content-Type": "application/json"})
    until("the task runs", lambda: [t for t in server.get("/api/v1/tasks").json if t["state"] == "running"])
    connection.close()
    until("the task is done", lambda: [t["state"] for t in server.get("/api/v1/tasks").json] == ["done"])
    assert [m["vmName"] for m in server.get("/api/v1/vms").json] == ["a"]


def test_a_plan_changes_nothing(server: Server) -> None:
    reply = server.request("POST", "/api/v1/vms?plan=true", CREATE)
    assert reply.status == 200
    assert reply.json["method"] == "VM.create"
    assert [s["state"] for s in reply.json["steps"]] == ["pending"] * len(reply.json["steps"])
    assert server.get("/api/v1/vms").json == []
    assert server.get("/api/v1/tasks").json == []


def test_the_same_key_makes_one_machine(server: Server) -> None:
    first = server.request("POST", "/api/v1/vms", CREATE, Idempotency_Key="k1")
    again = server.request("POST", "/api/v1/vms", CREATE, Idempotency_Key="k1")
    assert (first.status, again.status) == (200, 200)
    assert again.json["vmId"] == first.json["vmId"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert len(server.get("/api/v1/vms").json) == 1
    other = server.request("POST", "/api/v1/vms", {"vmParams": {"name": "b", "memory": 64}}, Idempotency_Key="k1")
    other.problem("idempotency-conflict")


@pytest.mark.parametrize("key", ["", "a b", "ü", "x" * 256])
def test_a_key_is_visible_ascii(server: Server, key: str) -> None:
    server.request("POST", "/api/v1/vms", CREATE, Idempotency_Key=key).problem("invalid-request")


def test_a_failure_is_a_problem_and_is_undone(server: Server) -> None:
    async def fail() -> None:
        server.host.hypervisor.faults.set("start", Fault(error="no memory"))

    server.run(fail)
    reply = server.request("POST", "/api/v1/vms", CREATE, Flow_Id="f1")
    assert reply.status >= 400
    assert "no memory" in reply.problem("hypervisor-error")["detail"]
    assert server.get("/api/v1/vms").json == []


def test_delete(server: Server) -> None:
    made = server.request("POST", "/api/v1/vms/define", CREATE).json
    assert server.request("DELETE", f"/api/v1/vms/{made['vmId']}?plan=true").json["method"] == "VM.undefine"
    assert server.request("DELETE", f"/api/v1/vms/{made['vmId']}").status == 204
    assert server.get(f"/api/v1/vms/{made['vmId']}").status == 404


def test_a_secret_is_told_to_its_maker_alone(server: Server) -> None:
    reply = server.request("POST", "/api/v1/tokens", {"name": "t", "role": "viewer"})
    assert reply.headers["cache-control"] == "no-store"
    secret = reply.json["token"]
    assert secret.startswith("vdsm_")
    for path in ("/api/v1/tokens", "/api/v1/audit", "/api/v1/events/history", "/api/v1/tasks"):
        assert secret not in server.get(path).body.decode()
