# SPDX-License-Identifier: Apache-2.0
"""Whatever an XML-RPC caller says, it gets a status struct, a Fault or an HTTP error, and never by a defect."""

from __future__ import annotations

import http.client
import secrets
import xmlrpc.client
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.stomp import Wired
from vdsm.contract import VERBS
from vdsm.protocols import historical
from vdsm.protocols.xmlrpc import I4_MAX, I4_MIN, NOT_WELL_FORMED, NOT_XMLRPC, Fault, parse_answer, write_call

NOBODY = "00000000-0000-4000-8000-000000000000"
DEFECT = -32603
NAMES = sorted([*VERBS, *(name for name, _ in historical.names())])

words = st.sampled_from(
    ["vmId", "vmName", "memSize", "smp", "drives", "path", "device", "devices", "type", "display", "boot", "nicModel",
     "bridge", "macAddr", "xml", "vmParams", "vmID", "cpuType", "emulatedMachine", "kernel", "hda", "custom"]
)  # fmt: skip
scalars = (
    st.booleans()
    | st.integers(I4_MIN, I4_MAX)
    | st.floats(-1e9, 1e9)
    | st.sampled_from(
        ["", NOBODY, "5", "-1", "0.5", "true", "vnc", "cdn", "pv", "a" * 5000, "../../etc/passwd", "9" * 400]
    )
    | st.text(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=6), inner, max_size=5),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    made = Wired(tmp_path_factory.mktemp("fuzz"), f"vdsmtest-{secrets.token_hex(4)}")
    yield made.serve(machines=1)
    made.end()


@pytest.fixture(scope="module")
def raw(wired: Wired) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", wired.port(), timeout=60)
    yield connection
    connection.close()


def post(raw: http.client.HTTPConnection, document: bytes) -> tuple[int, bytes]:
    raw.request("POST", "/RPC2", document, {"Content-Type": "text/xml"})
    answer = raw.getresponse()
    return answer.status, answer.read()


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(name=st.sampled_from(NAMES), params=st.lists(values, max_size=4))
def test_no_argument_finds_a_defect(raw: http.client.HTTPConnection, name: str, params: list[Any]) -> None:
    status, document = post(raw, write_call(name, params))
    assert status == 200
    (answer,), _ = xmlrpc.client.loads(document)  # raises what is a Fault
    assert isinstance(answer, dict)
    assert isinstance(answer["status"]["code"], int)
    assert answer["status"]["code"] != DEFECT, answer


SEEDS = (
    write_call("create", [{"vmId": NOBODY, "memSize": 64, "drives": [{"path": "/a", "readonly": True}], "f": 1.5}]),
    xmlrpc.client.dumps(("grüße", [1, 2.5, {}], True), "system.multicall").encode(),
    xmlrpc.client.dumps(({"methodName": "ping", "params": []},), "ping").encode(),
)
PIECES = (
    b"<", b">", b"</value>", b"<value>", b"<struct>", b"&", b"&lt;", b"]]>", b"<![CDATA[", b"<!--", b"\x00", b"<i4>",
    b"<?xml version='1.1'?>", b"<!DOCTYPE a>", b"<!ENTITY a 'b'>", b"</i4>", b"<nil/>", b"99999999999", b"<param>",
    b"\xff", b"\xc0\x80",
)  # fmt: skip


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """A good document, spoilt in a few places."""
    document = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(document)))
        document[at : at + draw(st.integers(0, 40))] = draw(st.sampled_from(PIECES) | st.binary(max_size=8))
    return bytes(document)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(document=documents() | st.binary(max_size=100))
def test_no_document_finds_a_defect(raw: http.client.HTTPConnection, document: bytes) -> None:
    status, body = post(raw, document)
    assert status == 200
    answer = parse_answer(body)
    assert not isinstance(answer, Fault) or answer.code in (NOT_WELL_FORMED, NOT_XMLRPC)


def test_after_all_that_it_serves_and_has_no_defect_to_tell(wired: Wired, raw: http.client.HTTPConnection) -> None:
    assert b"Done" in post(raw, write_call("ping", []))[1]
    said = wired.log.read_text(errors="replace")
    assert "Traceback" not in said, said[said.index("Traceback") :][:2000]
    assert "ERROR" not in said
