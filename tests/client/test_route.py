# SPDX-License-Identifier: Apache-2.0
"""Where each parameter goes in a request."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, unquote, urlsplit

from hypothesis import given
from hypothesis import strategies as st

from vdsm.client.route import prefer, target


def test_a_read_has_its_parameters_in_path_and_query() -> None:
    where, body = target("GET", "/vms/{vmID}/x", {"vmID": "a", "list": ["p", "q"], "flag": True, "none": None, "n": 3})
    assert where == "/api/v1/vms/a/x?list=p&list=q&flag=true&n=3"
    assert body is None


def test_a_change_has_the_rest_in_its_body() -> None:
    where, body = target("POST", "/vms/{vmID}/x", {"vmID": "a", "n": 3, "none": None}, plan=True)
    assert where == "/api/v1/vms/a/x?plan=true"
    assert body == b'{"n": 3}'


def test_a_change_without_parameters_sends_an_empty_object() -> None:
    assert target("POST", "/x", {}) == ("/api/v1/x", b"{}")


def test_a_delete_without_parameters_sends_nothing() -> None:
    assert target("DELETE", "/tasks/{taskID}", {"taskID": "t"}) == ("/api/v1/tasks/t", None)


@given(st.text(min_size=1).filter(lambda t: t.isprintable()), st.text())
def test_no_value_leaves_its_place(in_path: str, in_query: str) -> None:
    where, _ = target("GET", "/vms/{vmID}/stats", {"vmID": in_path, "q": in_query.encode("utf-8", "replace").decode()})
    split = urlsplit(where)
    pieces = split.path.split("/")
    assert len(pieces) == 6
    assert pieces[4] not in (".", "..")
    assert unquote(pieces[4]) == in_path
    assert list(parse_qs(split.query, keep_blank_values=True)) == ["q"]


@given(st.dictionaries(st.text(min_size=1), st.one_of(st.integers(), st.text(), st.booleans()), min_size=1))
def test_a_body_is_the_parameters(params: dict[str, object]) -> None:
    _, body = target("POST", "/x", params)
    assert body is not None
    assert json.loads(body.decode("utf-8", "surrogatepass")) == params


def test_how_long_to_wait() -> None:
    assert prefer(None) == {}
    assert prefer(0) == {"Prefer": "respond-async"}
    assert prefer(2.5) == {"Prefer": "wait=2.5"}
