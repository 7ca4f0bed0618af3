# SPDX-License-Identifier: Apache-2.0
"""JSON-RPC documents: every request in its place, and what cannot be read answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdsm.protocols import jsonrpc
from vdsm.protocols.jsonrpc import INVALID_REQUEST, MAX_BATCH, MAX_DEPTH, PARSE_ERROR, Call, Refusal


def read(value: object) -> jsonrpc.Document:
    return jsonrpc.read(json.dumps(value).encode())


def request(**members: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "method": "Host.ping", "id": 1, **members}


@pytest.mark.parametrize("key", ["", "a", "ü", 0, -1, 2**70, 1.5, True, None])
@pytest.mark.parametrize("params", [{}, {"vmID": "a"}, [], ["a", {"b": []}]])
def test_a_call(key: Any, params: Any) -> None:
    document = read(request(id=key, params=params))
    assert document == jsonrpc.Document([Call("Host.ping", params, key, False)], batch=False)
    assert json.loads(jsonrpc.result(key, True)) == {"jsonrpc": "2.0", "id": key, "result": True}


def test_params_may_be_left_out_and_more_may_be_there() -> None:
    assert read(request(extra=1)).calls == [Call("Host.ping", {}, 1, False)]


def test_without_an_id_nobody_waits() -> None:
    assert read({"jsonrpc": "2.0", "method": "a.b"}).calls == [Call("a.b", {}, None, True)]


@pytest.mark.parametrize(
    ("members", "key"),
    [
        ({"jsonrpc": "1.0"}, 1),
        ({"jsonrpc": 2.0}, 1),
        ({"jsonrpc": None}, 1),
        ({"method": 5}, 1),
        ({"method": None}, 1),
        ({"params": "a"}, 1),
        ({"params": None}, 1),
        ({"params": 5}, 1),
        ({"id": {}}, None),
        ({"id": [1]}, None),
    ],
)
def test_a_bad_envelope_is_refused_under_its_id(members: dict[str, object], key: Any) -> None:
    (refusal,) = read(request(**members)).calls
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.id) == (INVALID_REQUEST, key)


@pytest.mark.parametrize("value", [1, "a", None, True, [], [[]], [1]])
def test_what_is_no_call_is_refused(value: object) -> None:
    (refusal,) = read(value).calls
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.id) == (INVALID_REQUEST, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff",
        b'{"a":"\xff"}',
        b'"\\ud800"',
        b"NaN",
        b"[1e999]",
        b'{"a":1,"a":1}',
        b'{"jsonrpc":"2.0","method":"a","params":{"b":{"c":1,"c":2}},"id":1}',
        b"[" * 10_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        b"{} {}",
    ],
)
def test_what_is_no_clean_json_is_a_parse_error(body: bytes) -> None:
    (refusal,) = jsonrpc.read(body).calls
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.id) == (PARSE_ERROR, None)
    assert refusal.reason


def test_wide_is_not_deep() -> None:
    assert jsonrpc.decode(b"[" + b"[[]]," * 5000 + b"1]") is not None
    assert jsonrpc.decode(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH) is not None


def test_a_batch_keeps_its_order_and_its_faults() -> None:
    document = read([request(id=1), 5, request(id=2, method=None), {"jsonrpc": "2.0", "method": "a.b"}])
    assert document.batch
    one, two, three, four = document.calls
    assert one == Call("Host.ping", {}, 1, False)
    assert isinstance(two, Refusal)
    assert isinstance(three, Refusal)
    assert (two.id, three.id) == (None, 2)
    assert isinstance(four, Call)
    assert four.notification


def test_a_batch_of_one_is_its_call() -> None:
    assert read([request()]) == read(request())


def test_a_batch_has_an_end() -> None:
    assert len(read([request()] * MAX_BATCH).calls) == MAX_BATCH
    (refusal,) = read([request()] * (MAX_BATCH + 1)).calls
    assert isinstance(refusal, Refusal)


def test_answers() -> None:
    one, two = jsonrpc.result("a", [1.0]), jsonrpc.error(2, 99, "later", {"retryable": True})
    assert one == b'{"jsonrpc":"2.0","id":"a","result":[1.0]}'
    error = {"code": 99, "message": "later", "data": {"retryable": True}}
    assert json.loads(jsonrpc.batch([one, two])) == [json.loads(one), {"jsonrpc": "2.0", "id": 2, "error": error}]
    assert json.loads(jsonrpc.error(None, -32700, "what?"))["error"] == {"code": -32700, "message": "what?"}
    assert json.loads(jsonrpc.notification("|a|b|c", {"d": 1})) == {
        "jsonrpc": "2.0", "method": "|a|b|c", "params": {"d": 1}
    }  # fmt: skip


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_any_json_is_read_or_refused(value: object) -> None:
    for call in read(value).calls:
        assert isinstance(call, Call | Refusal)


@given(
    st.binary(max_size=200) | st.lists(st.sampled_from('{}[]",:0 ae\\'), max_size=40).map(lambda p: "".join(p).encode())
)
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for call in jsonrpc.read(body).calls:
        assert isinstance(call, Call | Refusal)


@given(values)
def test_what_is_answered_is_json_again(value: object) -> None:
    assert json.loads(jsonrpc.result(1, value))["result"] == value
