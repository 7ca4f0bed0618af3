# SPDX-License-Identifier: Apache-2.0
"""Routes and header fields, apart from any server."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdsm.bindings.fields import Preferences, accepts, is_json, joined, matches_etag, preferences, sane_id, seconds
from vdsm.bindings.routes import Routes
from vdsm.contract import VERBS

SEGMENT = st.sampled_from(["a", "b", "c", "{x}", "{y}"])
PATHS = st.lists(st.lists(SEGMENT, min_size=1, max_size=4).map("/".join), min_size=1, max_size=8)


def make(*paths: str) -> Routes[str]:
    routes: Routes[str] = Routes()
    for path in paths:
        routes.add("GET", path, path)
    return routes


def find(routes: Routes[str], path: str) -> object:
    return routes.find("GET", path.split("/")[1:])


def test_a_fixed_segment_wins() -> None:
    routes = make("/vms/define", "/vms/{id}", "/vms/{id}/stats", "/vms/all/{what}")
    assert find(routes, "/vms/define") == ("/vms/define", ())
    assert find(routes, "/vms/x") == ("/vms/{id}", ("x",))
    assert find(routes, "/vms/all/x") == ("/vms/all/{what}", ("x",))
    assert find(routes, "/vms/all/stats") == ("/vms/all/{what}", ("stats",))


def test_a_dead_end_is_left_again() -> None:
    routes = make("/a/b/c", "/{x}/b/d", "/{x}/{y}/e")
    assert find(routes, "/a/b/d") == ("/{x}/b/d", ("a",))
    assert find(routes, "/a/b/e") == ("/{x}/{y}/e", ("a", "b"))
    assert find(routes, "/a/b/f") is None


@pytest.mark.parametrize("path", ["/", "/vms", "/vms/", "/vms//", "//vms/x", "/vms/x/"])
def test_an_empty_segment_is_no_value(path: str) -> None:
    assert find(make("/vms/{id}"), path) is None


def test_methods_are_apart() -> None:
    routes = make("/vms/{id}")
    routes.add("DELETE", "/vms/{id}", "gone")
    routes.add("POST", "/vms/define", "defined")
    assert routes.find("DELETE", ["vms", "define"]) == ("gone", ("define",))
    assert routes.methods(["vms", "define"]) == ["GET", "DELETE", "POST"]
    assert routes.methods(["vms"]) == []
    assert routes.find("PATCH", ["vms", "x"]) is None


def test_a_route_is_added_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        make("/vms/{a}", "/vms/{b}")


@given(PATHS, st.lists(st.sampled_from("abcd"), min_size=1, max_size=4))
def test_it_finds_what_a_list_of_patterns_finds(paths: list[str], segments: list[str]) -> None:
    shapes = {re.sub("{.}", "{}", path): f"/{path}" for path in paths}
    found = make(*shapes.values()).find("GET", segments)
    path = "/".join(segments)
    matching = [p for p in shapes.values() if re.fullmatch(re.sub("{.}", "[^/]+", p[1:]), path)]
    if found is None:
        assert not matching
    else:
        # The best one has, from the left, a fixed segment where another has a parameter.
        assert found[0] == min(matching, key=lambda p: [part.startswith("{") for part in p.split("/")])
        assert len(found[1]) == found[0].count("{")


def test_every_verb_finds_itself() -> None:
    routes: Routes[str] = Routes()
    for verb in VERBS.values():
        routes.add(verb.route.method, verb.route.path, verb.method)
    for verb in VERBS.values():
        path = re.sub("{.*?}", "value", verb.route.path)
        assert routes.find(verb.route.method, path.split("/")[1:]) == (
            verb.method,
            ("value",) * len(verb.route.path_params),
        )


# ---- header fields ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefer", "wanted"),
    [
        (b"", Preferences()),
        (b"respond-async", Preferences(True)),
        (b"Respond-Async, WAIT=10", Preferences(True, 10.0)),
        (b'wait="2.5"', Preferences(False, 2.5)),
        (b"wait=1, wait=2", Preferences(False, 1.0)),
        (b"wait=-1", Preferences()),
        (b"wait=99999", Preferences()),
        (b"wait=nan", Preferences()),
        (b"respond-async; foo=bar, handling=lenient", Preferences(True)),
        (b"respond-asynchronously", Preferences()),
    ],
)
def test_preferences(prefer: bytes, wanted: Preferences) -> None:
    assert preferences(prefer) == wanted


@pytest.mark.parametrize(
    ("accept", "taken"),
    [
        (b"*/*", True),
        (b"application/json", True),
        (b"Application/JSON; charset=utf-8", True),
        (b"text/html, application/*;q=0.1", True),
        (b"application/json;q=0", False),
        (b"application/json;q=0, */*", False),
        (b"*/*;q=0", False),
        (b"text/*", False),
        (b"", False),
        (b"application/json;q=much", True),
    ],
)
def test_accept(accept: bytes, taken: bool) -> None:
    assert accepts(accept, "application/json") is taken


@given(st.binary(max_size=60))
def test_no_header_breaks_its_reader(value: bytes) -> None:
    preferences(value)
    accepts(value, "application/json")
    is_json(value)
    matches_etag(value, b'"x"')
    sane_id(value)
    seconds(value.decode("latin-1"))


def test_media_types() -> None:
    assert is_json(b"application/json")
    assert is_json(b"Application/Json ; charset=UTF-8")
    assert not is_json(b"application/json; charset=utf-16")
    assert not is_json(b"text/json")
    assert not is_json(b"")


def test_repeated_fields_are_one() -> None:
    assert joined([(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]) == {b"a": b"1, 3", b"b": b"2"}
