# SPDX-License-Identifier: Apache-2.0
"""The permissions that docs/bus.md gives a host on RabbitMQ: enough to be a host, and to be no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.bus_console import console, until
from harness.bus_host import joined
from harness.rabbitmq import RabbitMQ
from vdsm.amqp.address import BusAddress
from vdsm.amqp.bus import Bus
from vdsm.amqp.errors import BusDown
from vdsm.amqp.places import Direct, Source, Topic
from vdsm.protocols.qmf2 import writing
from vdsm.protocols.qmf2.model import AgentAttributes

DOMAIN = "guarded"
HOST = "vdsmtest-guarded"
GUIDE = Path(__file__).parents[2] / "docs/bus.md"


def _permissions() -> dict[str, object]:
    """Those of the guide, for our host and our domain."""
    lines = [line for line in GUIDE.read_text().splitlines() if line.startswith("rabbitmqctl set_")]
    topics = []
    everything: dict[str, str] = {}
    for line in (each.replace("host07", HOST).replace("default\\.", f"{DOMAIN}\\.") for each in lines):
        words = line.replace("qmf.default.", f"qmf.{DOMAIN}.").split()
        texts = [word.strip("'") for word in words]
        if words[1] == "set_permissions":
            everything = dict(zip(("configure", "write", "read"), texts[3:], strict=True))
        elif words[1] == "set_topic_permissions":
            topics.append({"exchange": texts[3], "write": texts[4], "read": texts[5]})
    assert everything
    assert len(topics) == 2
    mine = {"user": HOST, "vhost": "/"}
    return {"permissions": [mine | everything], "topic_permissions": [mine | topic for topic in topics]}


@pytest.fixture(scope="module")
def guarded(rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL for a host that can do only what the guide lets it; it can see other hosts in a domain of its own."""
    exchange = {
        "vhost": "/",
        "type": "topic",
        "durable": True,
        "auto_delete": False,
        "internal": False,
        "arguments": {},
    }
    exchanges = [exchange | {"name": f"qmf.{DOMAIN}.{name}"} for name in ("topic", "direct")]
    users = [{"name": HOST, "password": HOST, "tags": ""}]
    file = tmp_path_factory.mktemp("guarded") / "definitions.json"
    file.write_text(json.dumps({"users": users, "exchanges": exchanges, **_permissions()}))
    rabbitmq.control("import_definitions", str(file))
    return rabbitmq.url(HOST)


async def test_it_can_be_a_host(rabbitmq: RabbitMQ, guarded: str) -> None:
    async with (
        joined(guarded, domain=DOMAIN, instance=HOST, heartbeat_s=1) as there,
        console(rabbitmq.url("engine"), there.name, domain=DOMAIN) as here,
    ):
        await until(lambda: here.heartbeats)
        await here.locate()
        await until(lambda: any(here.answers.values()))
        made = (await here.call("VM.create", vmParams={"name": "a", "memory": 64}))["result"]
        await until(lambda: any(e.values.get("vmId") == made["vmId"] for e in here.events))
        await until(lambda: any(o.id and o.id.name == f"VM:{made['vmId']}" for o in here.objects))


async def test_it_cannot_speak_as_another(rabbitmq: RabbitMQ, guarded: str) -> None:
    other = "vdsm.org:vdsmd:other"
    bus = Bus(BusAddress.parse(guarded), domain=DOMAIN)
    said: list[bool] = []
    async with console(rabbitmq.url("engine"), other, domain=DOMAIN) as here:
        await bus.open()
        await bus.wait_up(60)
        attributes = AgentAttributes(name=other, vendor="vdsm.org", product="vdsmd", timestamp_ns=1, interval_s=1)
        message = writing.heartbeat(attributes)
        bus.send(Topic(message.subject or ""), message, said.append)
        await until(lambda: said)
        assert said == [False]
        assert here.heard == []
    await bus.close()


@pytest.mark.parametrize("where", [Direct("vdsm.org:vdsmd:other"), Topic("agent.ind.#"), Topic("#")], ids=str)
async def test_it_cannot_listen_to_others(guarded: str, where: Source) -> None:
    bus = Bus(BusAddress.parse(guarded), domain=DOMAIN)
    bus.listen(where, lambda message: None)
    await bus.open()
    with pytest.raises(BusDown):
        await bus.wait_up(3)
    await bus.close()
