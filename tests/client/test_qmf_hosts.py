# SPDX-License-Identifier: Apache-2.0
"""Who is on the bus: found, silent, heard again, restarted; by heartbeats and the clock alone."""

from __future__ import annotations

import pytest

from vdsm.client.qmf.hosts import FORGOTTEN, MOST, Change, Hosts, State, Unknown
from vdsm.protocols.qmf2.model import AgentAttributes


def heartbeat(instance: str = "a1", name: str = "web", epoch: int = 1, **others: object) -> AgentAttributes:
    return AgentAttributes(
        name=f"vdsm.org:vdsmd:{instance}",
        instance=instance,
        timestamp_ns=0,
        interval_s=10,
        epoch=epoch,
        others={"hostName": name, **others},
    )


@pytest.fixture
def told() -> list[tuple[Change, str]]:
    return []


@pytest.fixture
def hosts(told: list[tuple[Change, str]]) -> Hosts:
    made = Hosts()
    made.watch(lambda change, host: told.append((change, host.name)))
    return made


def test_a_host_goes_silent_after_three_heartbeats_and_comes_back(hosts: Hosts, told: list[tuple[Change, str]]) -> None:
    hosts.hear(heartbeat(), 100.0)
    hosts.pass_time(129.0)
    assert told == [(Change.FOUND, "web")]
    hosts.pass_time(131.0)
    hosts.pass_time(132.0)
    (host,) = hosts
    assert (host.state, host.age(132.0)) == (State.SILENT, 32.0)
    hosts.sign_of_life(host.agent, 140.0)
    assert told == [(Change.FOUND, "web"), (Change.SILENT, "web"), (Change.BACK, "web")]
    assert (host.state, host.age(141.0)) == (State.UP, 1.0)


def test_any_message_is_a_sign_of_life(hosts: Hosts) -> None:
    hosts.hear(heartbeat(), 100.0)
    hosts.sign_of_life("vdsm.org:vdsmd:a1", 125.0)
    hosts.pass_time(150.0)
    assert next(iter(hosts)).state is State.UP


def test_a_restart_is_a_new_epoch(hosts: Hosts, told: list[tuple[Change, str]]) -> None:
    hosts.hear(heartbeat(epoch=3), 100.0)
    hosts.hear(heartbeat(epoch=3), 110.0)
    hosts.hear(heartbeat(epoch=4, name="web-new"), 120.0)
    assert told == [(Change.FOUND, "web"), (Change.RESTARTED, "web-new")]


def test_a_silent_host_that_restarted_is_back_and_restarted(hosts: Hosts, told: list[tuple[Change, str]]) -> None:
    hosts.hear(heartbeat(epoch=3), 100.0)
    hosts.pass_time(200.0)
    hosts.hear(heartbeat(epoch=4), 201.0)
    assert [change for change, _ in told] == [Change.FOUND, Change.SILENT, Change.BACK, Change.RESTARTED]


def test_nobody_falls_silent_while_it_is_we_who_cannot_hear(hosts: Hosts) -> None:
    hosts.hear(heartbeat(), 100.0)
    hosts.forgive(500.0)
    hosts.pass_time(501.0)
    assert next(iter(hosts)).state is State.UP


def test_who_stays_silent_is_forgotten(hosts: Hosts) -> None:
    hosts.hear(heartbeat(), 100.0)
    hosts.pass_time(200.0)
    hosts.pass_time(101.0 + FORGOTTEN)
    assert len(hosts) == 0


@pytest.mark.parametrize("name", ["web1", "a1-and-more", "web", "a1-", "vdsm.org:vdsmd:a1-and-more"])
def test_a_host_is_found_by_its_name_its_id_or_the_beginning_of_either(hosts: Hosts, name: str) -> None:
    hosts.hear(heartbeat("a1-and-more", "web1"), 1.0)
    hosts.hear(heartbeat("b2-and-more", "db1"), 1.0)
    assert hosts.find(name).name == "web1"


@pytest.mark.parametrize(("name", "said"), [("web", "may mean web1 (a1), web2 (b2)"), ("mail", "there are web1, web2")])
def test_no_host_and_several_are_told(hosts: Hosts, name: str, said: str) -> None:
    hosts.hear(heartbeat("a1", "web1"), 1.0)
    hosts.hear(heartbeat("b2", "web2"), 1.0)
    with pytest.raises(Unknown) as unknown:
        hosts.find(name)
    assert said in str(unknown.value)


def test_a_whole_name_counts_before_beginnings(hosts: Hosts) -> None:
    hosts.hear(heartbeat("a1", "web"), 1.0)
    hosts.hear(heartbeat("b2", "web2"), 1.0)
    assert hosts.find("web").instance == "a1"


def test_an_id_counts_before_what_others_call_themselves(hosts: Hosts) -> None:
    hosts.hear(heartbeat("web", "web"), 1.0)
    hosts.hear(heartbeat("evil", "web"), 1.0)
    assert hosts.find("web").instance == "web"


@pytest.mark.parametrize("agent", ["apache.org:qpidd:x", "nonsense", "vdsm.org:other:x", "a:b:"])
def test_other_agents_are_no_hosts(hosts: Hosts, agent: str) -> None:
    hosts.hear(AgentAttributes(name=agent, timestamp_ns=0, interval_s=10), 1.0)
    assert len(hosts) == 0


def test_strange_attributes_are_taken_for_none(hosts: Hosts) -> None:
    hosts.hear(heartbeat(name="x", hostName=7, lastEvent="many"), 1.0)
    (host,) = hosts
    assert (host.name, host.last_event) == ("a1", 0)


def test_inventing_hosts_costs_bounded_memory(hosts: Hosts) -> None:
    for number in range(MOST + 10):
        hosts.hear(heartbeat(f"i{number}"), 1.0)
    assert len(hosts) == MOST
