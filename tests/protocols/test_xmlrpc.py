# SPDX-License-Identifier: Apache-2.0
"""The XML-RPC codec, with Python's own as the judge of what is good, and what it must refuse."""

from __future__ import annotations

import random
import time
import tracemalloc
import xmlrpc.client
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vdsm.protocols.xmlrpc import (
    I4_MAX,
    I4_MIN,
    MAX_DEPTH,
    NOT_WELL_FORMED,
    NOT_XMLRPC,
    BadXmlRpc,
    Call,
    Fault,
    parse_answer,
    parse_call,
    write_answer,
    write_call,
    write_fault,
)

UNSPEAKABLE = [*(chr(n) for n in range(32) if n not in (9, 10, 13)), "\ufffe", "\uffff"]
SPEAKABLE = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters=UNSPEAKABLE), max_size=20)
SCALARS = st.integers(I4_MIN, I4_MAX) | st.booleans() | SPEAKABLE | st.integers(-(10**9), 10**9).map(lambda n: n / 1024)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inside: st.lists(inside, max_size=4) | st.dictionaries(SPEAKABLE, inside, max_size=4), max_leaves=20
)
METHODS = st.from_regex(r"\A[A-Za-z][A-Za-z0-9_.]{0,20}\Z")


@given(VALUES)
def test_an_answer_is_understood_by_the_judge_and_by_us(value: Any) -> None:
    document = write_answer(value)
    (judged,), _ = xmlrpc.client.loads(document)
    assert judged == value
    assert parse_answer(document) == value


@given(METHODS, st.lists(VALUES, max_size=4))
def test_a_call_of_the_judge_is_understood(method: str, params: list[Any]) -> None:
    assume("\\r" not in repr(params))  # xmlrpc.client sends them bare, and XML's own reading changes them
    document = xmlrpc.client.dumps(tuple(params), method)
    said, judged = xmlrpc.client.loads(document)[1], list(xmlrpc.client.loads(document)[0])
    assert parse_call(document.encode()) == Call(str(said), judged)


@given(METHODS, st.lists(VALUES, max_size=4))
def test_a_call_of_ours_is_understood(method: str, params: list[Any]) -> None:
    document = write_call(method, params)
    assert xmlrpc.client.loads(document) == (tuple(params), method)
    assert parse_call(document) == Call(method, params)


@given(st.integers(I4_MIN, I4_MAX), SPEAKABLE)
def test_a_fault_is_understood(code: int, reason: str) -> None:
    document = write_fault(code, reason)
    with pytest.raises(xmlrpc.client.Fault) as fault:
        xmlrpc.client.loads(document)
    assert (fault.value.faultCode, fault.value.faultString) == (code, reason)
    assert parse_answer(document) == Fault(code, reason)


@given(st.text(max_size=40))
def test_what_xml_cannot_carry_becomes_a_sign_for_it(text: str) -> None:
    (judged,), _ = xmlrpc.client.loads(write_answer({"a": text}))
    assert len(judged["a"]) == len(text)
    assert all(one in (other, "\ufffd") for one, other in zip(judged["a"], text, strict=True))


@pytest.mark.parametrize("size", [2**31, -(2**31) - 1, 2**63])
def test_a_size_travels_as_text(size: int) -> None:
    assert parse_answer(write_answer({"size": size})) == {"size": f"{size}"}


def test_there_is_no_nil() -> None:
    assert b"nil" not in write_answer({"a": None, "b": [None], "c": 1})
    assert parse_answer(write_answer({"a": None, "c": 1})) == {"c": 1}


def test_a_fraction_has_a_dot_and_no_exponent() -> None:
    assert b"<double>1.0</double>" in write_answer(1.0)
    assert b"<double>0.000010000</double>" in write_answer(0.00001)


def test_a_value_without_a_type_is_text() -> None:
    document = b"<methodCall><methodName>a</methodName><params><param><value> b </value></param></params></methodCall>"
    assert parse_call(document) == Call("a", [" b "])


def test_what_other_clients_send() -> None:
    document = b"""<?xml version="1.0" encoding="ISO-8859-1"?><!-- hello --><methodCall>
      <methodName> setVmTicket </methodName><params>
        <param><value><i8>4294967296</i8></value></param> <param><value><nil/></value></param>
        <param><value><ex:nil xmlns:ex="http://ws.apache.org/xmlrpc/namespaces/extensions"/></value></param>
        <param><value><base64>Z3LDvMOf
        ZQ==</base64></value></param><param><value><double>1e3</double></value></param>
        <param><value><string><![CDATA[<domain/>]]></string></value></param>
        <param><value><dateTime.iso8601>19980717T14:08:55</dateTime.iso8601></value></param>
        <param><value>gr\xfc\xdfe</value></param>
      </params></methodCall>"""
    assert parse_call(document) == Call(
        "setVmTicket", [4294967296, None, None, "grüße", 1000.0, "<domain/>", "19980717T14:08:55", "grüße"]
    )


def call_of(value: str) -> bytes:
    return f"<methodCall><methodName>a</methodName><params><param>{value}</param></params></methodCall>".encode()


BOMB = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">]>
<methodCall><methodName>&d;</methodName></methodCall>"""
EXTERNAL = (
    b"""<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><methodCall><methodName>&x;</methodName></methodCall>"""
)


@pytest.mark.parametrize(
    "document",
    [
        b"", b" ", b"\x00", b"{}", b"<", b"<methodCall>", b"<methodCall></methodcall>", b"\xff\xfe\x00", BOMB,
        EXTERNAL, b"<methodCall><methodName>\xe9</methodName></methodCall>",
        b"<!DOCTYPE methodCall><methodCall><methodName>a</methodName></methodCall>",
        b"<methodCall><methodName>&b;</methodName></methodCall>",
        b"<methodCall><methodName>a</methodName></methodCall><methodCall/>",
        b'<?xml version="1.0" encoding="no-such"?><methodCall/>', b'<?xml version="1.0" encoding="idna"?><methodCall/>',
        b"<methodCall><methodName>a\x01</methodName></methodCall>",
    ],
)  # fmt: skip
def test_what_is_not_well_formed_is_refused(document: bytes) -> None:
    with pytest.raises(BadXmlRpc) as error:
        parse_call(document)
    assert error.value.code == NOT_WELL_FORMED


@pytest.mark.parametrize(
    "document",
    [
        b"<a/>", b"<methodCall/>", b"<methodCall><params/></methodCall>", b"<methodResponse><params/></methodResponse>",
        b"<methodCall><methodName>a b</methodName></methodCall>", b"<methodCall><methodName/></methodCall>",
        b"<methodCall><methodName>a</methodName><methodName>b</methodName></methodCall>",
        b"<methodCall><methodName>a</methodName><params/><params/></methodCall>",
        b"<methodCall>x<methodName>a</methodName></methodCall>",
        b"<methodCall><methodName>" + b"a" * 300 + b"</methodName></methodCall>",
        *map(call_of, [
            "", "<value/><value/>", "<value><i4>1</i4><i4>2</i4></value>", "<value>a<i4>1</i4></value>",
            "<value><i4>2147483648</i4></value>", "<value><int>-2147483649</int></value>",
            "<value><int>1.0</int></value>", "<value><i4></i4></value>", "<value><i4>1_0</i4></value>",
            "<value><i4>\u0663</i4></value>",
            "<value><i8>9223372036854775808</i8></value>", "<value><i4>" + "9" * 100000 + "</i4></value>",
            "<value><double>nan</double></value>", "<value><double>inf</double></value>",
            "<value><double>1_0.0</double></value>", "<value><double>1e9999</double></value>",
            "<value><boolean>true</boolean></value>", "<value><boolean>2</boolean></value>",
            "<value><base64>&amp;</base64></value>", "<value><base64>/w==</base64></value>",
            "<value><float>1</float></value>", "<value><double>1e999</double></value>",
            "<value><struct><member><name>a</name></member></struct></value>",
            "<value><struct><member><value>a</value></member></struct></value>",
            "<value><struct><member><value>a</value><name>a</name></member></struct></value>",
            "<value><struct>" + "<member><name>a</name><value/></member>" * 2 + "</struct></value>",
            "<value><array/></value>", "<value><array><data/><data/></array></value>",
            "<value><array><value/></array></value>",
            "<value><string><i4>1</i4></string></value>", "<value><nil>1</nil><nil/></value>",
        ]),
    ],
)  # fmt: skip
def test_what_is_no_xmlrpc_is_refused(document: bytes) -> None:
    with pytest.raises(BadXmlRpc) as error:
        parse_call(document)
    assert error.value.code == NOT_XMLRPC
    assert len(str(error.value)) < 200


def nested(depth: int) -> bytes:
    return call_of("<value><array><data>" * depth + "<value>a</value>" + "</data></array></value>" * depth)


def test_depth_ends_early() -> None:
    assert parse_call(nested(MAX_DEPTH)).method == "a"
    for depth in (MAX_DEPTH * 2, 10_000, 100_000):
        with pytest.raises(BadXmlRpc, match="deep"):
            parse_call(nested(depth))


def test_a_large_document_costs_its_size() -> None:
    """Nothing in two megabytes of the densest kind takes more than a small multiple of it, in memory or time."""
    document = call_of("<value><array><data>" + "<value/>" * 250_000 + "</data></array></value>")
    tracemalloc.start()
    begun = time.process_time()
    (values,) = parse_call(document).params
    taken, (_, peak) = time.process_time() - begun, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(values) == 250_000
    assert peak < 50 * len(document)
    assert taken < 20


def test_noise_is_refused_and_nothing_else() -> None:
    """Documents that were good, cut, doubled and changed at random: an answer or BadXmlRpc, never another error."""
    dice = random.Random(20260711)
    seeds = [
        write_call("create", [{"vmId": "x", "memSize": 1, "drives": [{"path": "/a", "readonly": True}], "f": 1.5}]),
        xmlrpc.client.dumps(("grüße", [1, 2.5, {}], True), "a.b").encode(), BOMB, write_answer({"status": {"code": 0}}),
        write_call("a", ["text " * 200]),
    ]  # fmt: skip
    pieces = [
        b"<", b">", b"</value>", b"<value>", b"<struct>", b"&", b"&lt;", b"]]>", b"<![CDATA[", b"<!--", b"\x00",
        b"<?xml version='1.1'?>", b"<!DOCTYPE a>", b"<i4>", b"</i4>", b"<nil/>", b"99999999999", b"<param>",
        b"\xff", b"\xc0\x80",
    ]  # fmt: skip
    understood = 0
    for _ in range(4000):
        document = bytearray(dice.choice(seeds))
        for _ in range(dice.randint(1, 2)):
            at = dice.randrange(len(document) + 1)
            match dice.randrange(4):
                case 0:
                    document[at:at] = dice.choice(pieces)
                case 1:
                    del document[at : at + dice.randint(1, 30)]
                case 2:
                    document[at:at] = document[at : at + dice.randint(1, 60)]
                case _:
                    document[at : at + 1] = bytes([dice.randrange(256)])
        for read in (parse_call, parse_answer):
            try:
                read(bytes(document))
                understood += 1
            except BadXmlRpc:
                pass
    assert understood > 50  # some changes do no harm: then the test looked at more than the first byte


@given(st.binary(max_size=200))
def test_any_bytes(document: bytes) -> None:
    with pytest.raises(BadXmlRpc):
        parse_call(document)
