# SPDX-License-Identifier: Apache-2.0
"""Whatever a client puts into a call, or onto a connection, it is answered or let go, and never by a defect."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.memory_host import ADMIN, MemoryHost
from harness.stomp import REQUESTS, Closed, Wired
from vdsm.bindings.jsonrpc import JsonRpc
from vdsm.contract import VERBS, Kind
from vdsm.protocols import jsonrpc
from vdsm.protocols.dialect import JSONRPC

NOBODY = "00000000-0000-4000-8000-000000000000"
DEFECT = -32603

names = st.sampled_from(["vmId", "xml", "name", "memory", "memSize", "drives", "devices", "disks", "password", "vmID"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", NOBODY, "5", "-1", "0.5", "true", "\0", "\ud7ff", "a" * 5000, "../../etc/passwd", "9" * 400])
    | st.text(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | names, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    """A call of any verb, whose parameters have the right names more often than the right values."""
    verb = draw(st.sampled_from([verb for verb in VERBS.values() if verb.kind is not Kind.STREAM]))
    known = list(verb.params.__struct_encode_fields__)
    by_name = st.dictionaries(st.sampled_from(known) if known else st.text(max_size=5), values, max_size=6)
    params = draw(by_name | st.dictionaries(st.text(max_size=8), values, max_size=3) | st.lists(values, max_size=6))
    return {"jsonrpc": "2.0", "method": verb.method, "params": params, "id": 1}


@pytest.fixture
async def rpc() -> AsyncIterator[JsonRpc]:
    host = MemoryHost(None)
    await host.open()
    yield JsonRpc(host.bridge, JSONRPC)
    await host.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(call=calls())
async def test_no_argument_finds_a_defect(rpc: JsonRpc, call: dict[str, Any]) -> None:
    document = jsonrpc.read(json.dumps(call).encode())
    answer = json.loads(await rpc.answer(document.calls[0], ADMIN, "flow"))
    assert answer["id"] == 1
    if "error" in answer:
        assert answer["error"]["code"] != DEFECT, answer
        assert answer["error"]["message"]


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    made = Wired(tmp_path_factory.mktemp("fuzz"), f"vdsmtest-{secrets.token_hex(4)}")
    yield made.serve(machines=1)
    made.end()


PIECES = (
    b"CONNECT\naccept-version:1.2\n\n\0",
    b"STOMP\naccept-version:1.0\nheart-beat:1,1\n\n\0",
    b"DISCONNECT\nreceipt:1\n\n\0",
    b"SUBSCRIBE\nid:1\ndestination:jms.queue.events\n\n\0",
    b"SUBSCRIBE\nid:2\ndestination:r\nreceipt:5\n\n\0",
    b"UNSUBSCRIBE\nid:1\n\n\0",
    b"SEND\ndestination:r\n\nhello\0",
    b'SEND\ndestination:jms.topic.vdsm_requests\nreply-to:r\n\n{"jsonrpc":"2.0","method":"Host.ping","id":1}\0',
    b"SEND\ndestination:jms.topic.vdsm_requests\nreply-to:r\n\n[[[[\0",
    b"ACK\nid:1\n\n\0",
    b"SEND\n",
    b"content-length:99999\n",
    b"a:b:c\n",
    b"\xff" * 50,
    b"\n\n",
    b"\r\n",
    b"\0",
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(pieces=st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), min_size=1, max_size=12))
def test_no_bytes_harm_the_daemon(wired: Wired, pieces: list[bytes]) -> None:
    with wired.plain(timeout=0.05) as client, contextlib.suppress(Closed, TimeoutError, ConnectionError):
        client.sock.sendall(b"".join(pieces))
        client.read()


def test_after_all_that_it_serves_and_has_no_defect_to_tell(wired: Wired) -> None:
    with wired.plain().open() as client:
        assert client.call("Host.ping") is True
        client.send("SEND", "x", destination=f"{REQUESTS}.more")
    said = wired.log.read_text(errors="replace")
    assert "Traceback" not in said, said[said.index("Traceback") :][:2000]
    assert "ERROR" not in said
