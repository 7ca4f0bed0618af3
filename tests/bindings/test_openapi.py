# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document: complete, valid, and about the same verbs as the contract."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from harness.conformance import Told, run
from harness.rest_server import Server
from vdsm.bindings.openapi import document
from vdsm.client import route
from vdsm.contract import VERBS, AnyVerb, Kind
from vdsm.contract.errors import PROBLEMS, Problem
from vdsm.contract.events import EVENTS

DIALECT = "https://json-schema.org/draft/2020-12/schema"


@pytest.fixture(scope="module")
def api() -> Any:
    return json.loads(json.dumps(document(VERBS)))


def operation(api: Any, verb: AnyVerb) -> Any:
    return api["paths"][verb.route.path][verb.route.method.lower()]


def refs(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from refs(value)


def resolve(api: Any, ref: str) -> Any:
    for part in ref.removeprefix("#/").split("/"):
        api = api[part]
    return api


def test_it_is_served(server: Server, api: Any) -> None:
    reply = server.get("/api/v1/openapi.json")
    assert reply.json == api
    assert server.get("/api/v1/openapi.json", If_None_Match=reply.headers["etag"]).status == 304


def test_every_verb_is_there_and_nothing_else(api: Any) -> None:
    found = {
        op["operationId"]: (method.upper(), path)
        for path, item in api["paths"].items()
        for method, op in item.items()
        if method != "servers"
    }
    others = {name for name in found if name not in VERBS}
    assert others == {"events", "health", "metrics"}
    for verb in VERBS.values():
        assert found[verb.method] == (verb.route.method, verb.route.path)


def test_every_reference_leads_somewhere(api: Any) -> None:
    for ref in set(refs(api)):
        assert resolve(api, ref)


def test_every_schema_is_a_schema(api: Any) -> None:
    for name, schema in api["components"]["schemas"].items():
        assert jsonschema_rs.meta.is_valid({"$schema": DIALECT, **schema}), name


def test_names_are_those_openapi_allows(api: Any) -> None:
    for kind, named in api["components"].items():
        assert all(re.fullmatch(r"[a-zA-Z0-9._-]+", name) for name in named), kind


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda v: v.method)
def test_an_operation_says_what_the_contract_says(api: Any, verb: AnyVerb) -> None:
    op = operation(api, verb)
    assert op["summary"]
    assert op["x-privilege"] == verb.needs
    assert op["x-since"] == verb.since
    assert op.get("x-emits", []) == [e.__struct_config__.tag for e in verb.emits]
    parameters = [resolve(api, p["$ref"]) if "$ref" in p else p for p in op["parameters"]]
    in_path = [p["name"] for p in parameters if p["in"] == "path"]
    in_query = [p["name"] for p in parameters if p["in"] == "query"]
    body = op.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    in_body = list(resolve(api, body["$ref"])["properties"]) if body else []
    assert in_path == list(verb.route.path_params)
    names = list(verb.params.__struct_encode_fields__)
    if verb.mutates:
        assert sorted(in_path + in_body) == sorted(names)
        assert in_query == ["plan"]
    else:
        assert not body
        assert set(names) - set(in_path) <= set(in_query)
        assert len(in_query) == len(set(in_query))
    assert ("202" in op["responses"]) == (verb.kind is Kind.TASK)
    for raised in verb.raises:
        assert raised.slug in response_slugs(api, op, raised)


def response_slugs(api: Any, op: Any, problem: type[Problem]) -> list[str]:
    response = resolve(api, op["responses"][str(problem.status)]["$ref"])
    schema = response["content"]["application/problem+json"]["schema"]
    return [urn.rpartition(":")[2] for urn in schema["allOf"][1]["properties"]["type"]["enum"]]


def test_only_problems_that_exist_are_declared(api: Any) -> None:
    for response in api["components"]["responses"].values():
        (content,) = response["content"].values()
        for urn in content["schema"]["allOf"][1]["properties"]["type"]["enum"]:
            assert urn.rpartition(":")[2] in PROBLEMS


def test_every_event_is_described(api: Any) -> None:
    assert set(api["x-events"]) == set(EVENTS)
    for event in api["x-events"].values():
        assert api["components"]["schemas"][event["schema"]]["properties"]


async def test_answers_fit_their_schema(server: Server, api: Any) -> None:
    """Also without generated input: what a filled host answers is what the document says."""
    answered = set()

    async def door(method: str, params: dict[str, Any]) -> Any:
        verb = VERBS[method]
        target, body = route.target(verb.route.method, verb.route.path, params)
        reply = server.request(verb.route.method, target, body and json.loads(body))
        if reply.status >= 400:
            raise Told(reply.json)
        answered.add(method)
        if reply.status == 204:
            return None
        schema = operation(api, verb)["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema_rs.validate({**schema, "components": api["components"]}, reply.json)
        strict = json.loads(json.dumps(schema).replace("Parts", ""))  # nothing was chosen: all of it is there
        jsonschema_rs.validate({**strict, "components": api["components"]}, reply.json)
        return reply.json

    await run(door)
    assert answered >= {verb.method for verb in VERBS.values() if verb.kind is Kind.QUERY}


def test_problems_fit_their_schema(server: Server, api: Any) -> None:
    schema = {"$ref": "#/components/schemas/Problem", "components": api["components"]}
    for path in ("/api/v1/vms/x", "/nothing", "/api/v1/vms?fields=x"):
        jsonschema_rs.validate(schema, server.get(path).json)


# ---- the page --------------------------------------------------------------------------------------------------------


def test_the_page(server: Server) -> None:
    reply = server.get("/api/docs", Accept="text/html")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    page = reply.body.decode()
    for verb in VERBS.values():
        assert f'id="{verb.method}"' in page
        assert f"vdsmsh {' '.join(verb.command)}" in page
    for name in EVENTS:
        assert f"<code>{name}</code>" in page
    assert "curl --unix-socket" in page


def test_the_page_needs_nothing_else(server: Server) -> None:
    reply = server.get("/api/docs")
    page = reply.body.decode()
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!#|/api/)', page)
    assert not re.search(r"url\(|@import", page)
    assert "default-src 'none'" in reply.headers["content-security-policy"]


def test_its_links_lead_somewhere(server: Server) -> None:
    page = server.get("/api/docs").body.decode()
    targets = re.findall(r'id="([^"]+)"', page)
    assert len(targets) == len(set(targets))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(targets)


def test_its_examples_are_calls_that_are_understood(server: Server) -> None:
    """Each GET of the page, sent as it stands, is no bad request."""
    page = server.get("/api/docs").body.decode()
    paths = [html.unescape(path) for path in re.findall(r"api\.sock &#x27;http://localhost(/[^ ]*?)&#x27;", page)]
    assert len(paths) > 20
    for path in paths:
        if path != "/api/v1/events":
            assert server.get(path).status in (200, 204, 404, 409, 426), path


def test_the_root_leads_there(server: Server) -> None:
    reply = server.get("/")
    assert (reply.status, reply.headers["location"]) == (302, "/api/docs")
