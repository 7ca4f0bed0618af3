# SPDX-License-Identifier: Apache-2.0
"""Verbs over HTTP: results, problems, headers."""

from __future__ import annotations

import pytest

from harness.rest_server import Server, exchange
from vdsm.bindings.rest import Status
from vdsm.contract import VERBS, Kind
from vdsm.drivers.simulated.faults import Fault

NOBODY = "00000000-0000-4000-8000-000000000000"


def test_an_object_is_read(server: Server) -> None:
    vm_id = server.create("web1")
    reply = server.get(f"/api/v1/vms/{vm_id}")
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json["vmName"] == "web1"


def test_a_verb_without_a_result_gives_no_content(server: Server) -> None:
    reply = server.get("/api/v1/host/ping2")
    assert (reply.status, reply.body) == (204, b"")


def test_every_verb_is_routed(server: Server) -> None:
    connection = server.connection()
    for verb in VERBS.values():
        path = "/api/v1" + verb.route.path
        for name in verb.route.path_params:
            path = path.replace(f"{{{name}}}", NOBODY)
        reply = exchange(connection, "OPTIONS", path)
        assert reply.status == 204
        assert verb.route.method in reply.headers["allow"].split(", "), verb
    connection.close()


def test_a_fixed_segment_beats_a_parameter(server: Server) -> None:
    made = server.request("POST", "/api/v1/vms/define", {"vmParams": {"name": "kept", "memory": 64}})
    assert made.status == 200, made.body
    assert made.json["kept"] is True


def test_text_numbers_are_taken_from_a_query_only(server: Server) -> None:
    assert server.get("/api/v1/events/history?since=0&limit=5").status == 200
    vm_id = server.create("a")
    body = server.request("POST", f"/api/v1/vms/{vm_id}/destroy", {"gracefulAttempts": "1"}).problem("invalid-params")
    assert body["path"] == "$.gracefulAttempts"


def test_repeated_keys_are_a_list(server: Server) -> None:
    a, b, _ = (server.create(name) for name in "abc")
    reply = server.get(f"/api/v1/host/vm-list?vmList={a}&vmList={b}&fullStatus=true")
    assert {row["vmId"] for row in reply.json} == {a, b}


@pytest.mark.parametrize(
    ("path", "slug", "where"),
    [
        ("/api/v1/vms/not-an-id", "invalid-params", "$.vmID"),
        (f"/api/v1/vms/{NOBODY}", "no-such-vm", None),
        ("/api/v1/events/history?limit=0", "invalid-params", "$.limit"),
        ("/api/v1/events/history?limit=1&limit=2", "invalid-params", "$.limit"),
        ("/api/v1/events/history?limt=1", "invalid-params", "$"),
        ("/api/v1/host/echo", "invalid-params", "$"),
        (f"/api/v1/vms/{NOBODY}?vmID={NOBODY}", "invalid-params", "$.vmID"),
        ("/api/v1/vms?plan=true", "plan-not-offered", None),
        ("/api/v1/vms?plan=perhaps", "invalid-params", "$.plan"),
        ("/api/v1/vms/%ff", "invalid-request", None),
        ("/api/v1/host/echo?message=%ff", "invalid-request", None),
        ("/api/v1/host/echo?" + "a=1&" * 300, "invalid-request", None),
        ("/api/v1/host/tasks%2F", "method-not-found", None),
        ("/api/v1/vms//stats", "method-not-found", None),
        ("/api/v1/vms/", "method-not-found", None),
        ("/api/v2/vms", "method-not-found", None),
        ("/favicon.ico", "method-not-found", None),
    ],
)
def test_a_bad_read_gets_a_problem(server: Server, path: str, slug: str, where: str | None) -> None:
    reply = server.get(path)
    body = reply.problem(slug)
    assert where is None or body["path"] == where
    assert 400 <= reply.status < 500
    assert reply.json["instance"] == f"urn:vdsm:flow:{reply.headers['flow-id']}"
    assert reply.json["flowId"] == reply.headers["flow-id"]


@pytest.mark.parametrize(
    ("body", "slug", "where"),
    [
        ({"vmParams": {"name": "a", "memory": 64, "colour": "red"}}, "invalid-params", "$.vmParams"),
        ({"vmParams": {"name": "a", "memory": -1}}, "invalid-params", "$.vmParams.memory"),
        ({"vmParams": {"name": "a", "memory": "64"}}, "invalid-params", "$.vmParams.memory"),
        ({"vmParams": {"name": "a\x00b", "memory": 64}}, "invalid-params", "$.vmParams.name"),
        ({"vmParams": {"name": "a\n", "memory": 64}}, "invalid-params", "$.vmParams.name"),
        ({"vmParams": {"name": "a", "memory": 1e400}}, "invalid-request", None),
        ({}, "invalid-params", "$"),
        (b"", "invalid-params", "$"),
        (b"[]", "invalid-params", "$"),
        (b"null", "invalid-params", "$"),
        (b"{", "invalid-request", None),
        (b'{"vmParams": {}, "vmParams": {}}', "invalid-request", None),
        (b'{"vmParams": {"name": "\xff", "memory": 64}}', "invalid-request", None),
        (b'{"vmParams": {"name": "\\ud800", "memory": 64}}', "invalid-request", None),
        (b'{"vmParams": {"name": "a", "memory": NaN}}', "invalid-request", None),
        (b'{"vmParams": {"name": "a", "memory": ' + b"9" * 10_000 + b"}}", "invalid-request", None),
        (b'{"vmParams": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "invalid-request", None),
        (b'{"vmParams": ' * 10_000, "invalid-request", None),
        (b" " * 100_000, "invalid-request", None),
    ],
)
def test_a_bad_body_gets_a_problem_and_makes_nothing(server: Server, body: object, slug: str, where: str) -> None:
    reply = server.request("POST", "/api/v1/vms", body, Content_Type="application/json")
    found = reply.problem(slug)
    assert where is None or found["path"] == where
    assert server.get("/api/v1/vms").json == []


def test_a_parameter_has_one_place(server: Server) -> None:
    vm_id = server.create("a")
    twice = server.request("POST", f"/api/v1/vms/{vm_id}/pause", {"vmID": vm_id})
    assert twice.problem("invalid-params")["path"] == "$.vmID"
    in_query = server.request("POST", f"/api/v1/vms/{vm_id}/destroy?gracefulAttempts=1")
    assert in_query.problem("invalid-params")["path"] == "$.gracefulAttempts"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
        {"Content_Type": "application/json; charset=latin-1"},
        {"Content_Type": "application/json", "Content_Encoding": "gzip"},
    ],
)
def test_only_json_is_read(server: Server, headers: dict[str, str]) -> None:
    vm_id = server.create("a")
    for body in (b"{}", None):
        reply = server.request("POST", f"/api/v1/vms/{vm_id}/pause", body, **headers)
        reply.problem("unsupported-media-type")
    assert server.get(f"/api/v1/vms/{vm_id}").json["status"] != "Paused"


def test_a_body_needs_a_type(server: Server) -> None:
    vm_id = server.create("a")
    connection = server.connection()
    connection.request("POST", f"/api/v1/vms/{vm_id}/pause", b"{}")
    assert connection.getresponse().status == 415
    connection.close()


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/json", 204),
        ("application/*", 204),
        ("*/*;q=0.1, text/html", 204),
        ("text/html", 406),
        ("application/json;q=0, */*", 406),
        ("", 406),
    ],
)
def test_only_json_is_written(server: Server, accept: str, status: int) -> None:
    assert server.get("/api/v1/host/ping2", Accept=accept).status == status


def test_another_method_is_told_which_there_are(server: Server) -> None:
    reply = server.request("DELETE", "/api/v1/vms")
    reply.problem("method-not-allowed")
    assert reply.headers["allow"] == "GET, POST, HEAD, OPTIONS"
    assert server.request("PATCH", f"/api/v1/vms/{NOBODY}").headers["allow"] == "GET, DELETE, HEAD, OPTIONS"


def test_head_is_get_without_the_body(server: Server) -> None:
    server.create("a")
    full, head = server.get("/api/v1/vms"), server.request("HEAD", "/api/v1/vms")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["etag"] == full.headers["etag"]
    assert head.headers["content-length"] == str(len(full.body))


def test_an_etag_saves_the_body(server: Server) -> None:
    first = server.get("/api/v1/vms")
    etag = first.headers["etag"]
    for sent in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        again = server.get("/api/v1/vms", If_None_Match=sent)
        assert (again.status, again.body) == (304, b"")
        assert again.headers["etag"] == etag
    server.create("a")
    assert server.get("/api/v1/vms", If_None_Match=etag).status == 200


def test_a_flow_id_goes_round(server: Server) -> None:
    assert server.get("/api/v1/host/ping2", Flow_Id="abc-1").headers["flow-id"] == "abc-1"
    by_other_name = server.get("/api/v1/host/ping2", X_Request_Id="abc-2").headers
    assert (by_other_name["flow-id"], by_other_name["x-request-id"]) == ("abc-2", "abc-2")
    made = {server.get("/api/v1/host/ping2", Flow_Id=bad).headers["flow-id"] for bad in ("a b", "x" * 65, "ü", "")}
    assert len(made) == 4
    assert not made & {"a b", "x" * 65, "ü", ""}


def test_a_flow_id_reaches_the_journal(server: Server) -> None:
    vm_id = server.create("a")
    server.request("POST", f"/api/v1/vms/{vm_id}/pause", Flow_Id="why-paused")
    page = server.get("/api/v1/audit?limit=1000").json
    assert [r["method"] for r in page if r["flowId"] == "why-paused"] == ["VM.pause"]


def test_answers_are_not_guessed_at(server: Server) -> None:
    for reply in (server.get("/api/v1/vms"), server.get("/nothing")):
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "cache-control" in reply.headers
        assert "date" in reply.headers
        assert "strict-transport-security" not in reply.headers  # there is no TLS here


def test_a_deadline_is_kept(server: Server) -> None:
    vm_id = server.create("a")

    async def slow() -> None:
        server.host.hypervisor.faults.set("screenshot", Fault(delay=30))

    server.run(slow)
    path = f"/api/v1/vms/{vm_id}/screenshot"
    late = server.get(path, Request_Timeout="0.1")
    late.problem("deadline-exceeded")
    assert late.headers["retry-after"]
    assert server.get(path, Prefer="wait=0.1").status == 504
    for bad in ("0", "-1", "soon", "1e9", "99999"):
        server.get(path, Request_Timeout=bad).problem("invalid-request")


def test_health(server: Server) -> None:
    assert server.get("/health").json == {"status": "ok"}
    server.status = Status.STARTING
    reply = server.get("/health")
    assert (reply.status, reply.json) == (503, {"status": "starting"})


def test_metrics(server: Server) -> None:
    reply = server.get("/metrics")
    assert reply.body.endswith(b"# EOF\n")
    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")


def test_a_stream_needs_a_websocket(server: Server) -> None:
    reply = server.get(f"/api/v1/vms/{NOBODY}/console")
    reply.problem("upgrade-required")
    assert reply.status == 426


def test_kinds_of_verbs_have_their_methods() -> None:
    for verb in VERBS.values():
        assert (verb.route.method == "GET") == (verb.kind in (Kind.QUERY, Kind.STREAM))
