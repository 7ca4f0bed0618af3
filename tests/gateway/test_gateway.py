# SPDX-License-Identifier: Apache-2.0
"""A host behind a gateway is to its clients what it is without one."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bindings.test_stomp import (
    SLOW,
    test_a_batch_is_answered_in_its_order,
    test_a_machine_from_its_making_to_its_end,
    test_a_viewer_may_watch_and_not_touch,
    test_an_error_is_an_integer_code_with_our_problem_beside_it,
    test_events_from_now_on_and_in_order,
    test_many_calls_at_once,
    test_params_by_position,
    test_slow_calls_do_not_block_others,
)
from harness.on_bus import Gateway, bus_table
from harness.rabbitmq import RabbitMQ
from harness.stomp import JavaClient, StompClient, Wired
from harness.until import until
from vdsm.contract.errors import StreamNotCarried
from vdsm.contract.storage_words import BLANK

__all__ = [  # a manager's own flow and manners, unchanged
    "test_a_batch_is_answered_in_its_order",
    "test_a_machine_from_its_making_to_its_end",
    "test_a_viewer_may_watch_and_not_touch",
    "test_an_error_is_an_integer_code_with_our_problem_beside_it",
    "test_events_from_now_on_and_in_order",
    "test_many_calls_at_once",
    "test_params_by_position",
    "test_slow_calls_do_not_block_others",
]


# Machines take their time to start, as real ones do: the manager sees them wait for their launch.
SLOW_HOST = f'[simulate]\nfaults = "reset:delay={SLOW};start:delay=0.5"\n'


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory, rabbitmq: RabbitMQ) -> Iterator[Gateway]:
    """What the tests take for a daemon."""
    name = f"vdsmtest-{secrets.token_hex(4)}"
    home = tmp_path_factory.mktemp("gateway")
    host = Wired(home / "host", name, bus_table(home, rabbitmq, name) + SLOW_HOST)
    gateway = Gateway(home / "gateway", name, rabbitmq, name)
    try:
        host.serve(machines=1)
        yield gateway.serve()
    finally:
        gateway.end()
        host.end()


def test_the_host_notes_the_gateway_and_the_gateway_notes_who_it_was(wired: Gateway) -> None:
    with wired.plain().open() as client:
        client.call("Host.setLogLevel", {"level": "INFO", "name": "vdsm.core"}, ovirtCorrelationId="corr-1")
        (record,) = [r for r in client.call("Audit.list", {"limit": 10_000}) if r["flowId"] == "corr-1"]
    assert (record["caller"], record["channel"]) == ("bus:engine", "qmf")
    (line,) = [line for line in wired.log.read_text().splitlines() if "[corr-1]" in line]
    assert "Host.setLogLevel for tcp:127.0.0.1 over stomp+tcp: ok" in line


def test_rest(wired: Gateway) -> None:
    """With `vdsmsh`, which cannot tell either."""
    (machine,) = wired.json("vm", "list")
    assert (machine["vmName"], wired.json("vm", "info", "sim1")["vmId"]) == ("sim1", machine["vmId"])
    plan = wired.json("vm", "pause", "sim1", "--plan")
    assert plan["steps"]
    assert "VM_status" in wired.shell("events", "--since", "0").stdout
    refused = wired.shell("vm", "console", "sim1", ok=False)
    assert refused.returncode == 1
    assert "two-way stream, which this protocol cannot carry" in refused.stderr


def test_xml_rpc(wired: Gateway) -> None:
    with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{wired.port()}/RPC2") as proxy:
        answer: Any = proxy.getVdsCapabilities()
        assert answer["status"] == {"code": 0, "message": "Done"}
        assert answer["info"]["cpuModel"]


def test_an_image_stream_is_refused_by_name(wired: Gateway) -> None:
    door = http.client.HTTPConnection("127.0.0.1", wired.port(), timeout=60)
    ids = dict.fromkeys(("Storage-Pool-Id", "Storage-Domain-Id", "Image-Id"), BLANK)
    with contextlib.closing(door):
        door.request("PUT", "/", b"data", ids)
        answer = door.getresponse()
        assert (answer.status, json.loads(answer.read())["code"]) == (400, StreamNotCarried.code)


def told_of_a_pause(gateway: Gateway, client: StompClient) -> bool:
    """Whether events reach a client that has subscribed; from when on they do, it cannot know."""
    gateway.shell("vm", "pause", "sim1")
    gateway.shell("vm", "cont", "sim1")
    try:
        client.wait_event(lambda event: "VM_status" in event["method"] and "Paused" in str(event["params"]))
    except TimeoutError:
        return False
    return True


def test_a_host_that_is_not_heard_is_told_and_then_served(tmp_path: Path, prefix: str, rabbitmq: RabbitMQ) -> None:
    host = Wired(tmp_path / "host", prefix, bus_table(tmp_path, rabbitmq, prefix))
    gateway = Gateway(tmp_path / "gateway", prefix, rabbitmq, prefix)
    try:
        gateway.begin()
        told = gateway.shell("--output", "json", "vm", "list", ok=False)
        problem = json.loads(told.stderr)
        assert (problem["type"], problem["retryable"]) == ("urn:vdsm:problem:host-unreachable", True)
        assert prefix in problem["detail"]
        with JavaClient(gateway.port()) as early:
            early.sock.settimeout(1)
            host.serve(machines=2)
            until("it is heard", lambda: gateway.shell("vm", "list", ok=False).returncode == 0)
            until("who came before the host is told of it", lambda: told_of_a_pause(gateway, early))
        assert gateway.terminate() == 0
    finally:
        gateway.end()
        host.end()
