# SPDX-License-Identifier: Apache-2.0
"""Names and keys on the bus."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdsm.protocols.qmf2 import names
from vdsm.protocols.qmf2.model import Severity
from vdsm.protocols.qmf2.names import AgentName

AGENT = AgentName("vdsm.org", "vdsmd", "a:b.c")

parts = st.text(st.characters(exclude_characters=":", exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(parts, parts, st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_an_agents_name_is_read_as_it_is_written(vendor: str, product: str, instance: str) -> None:
    name = AgentName(vendor, product, instance)
    assert AgentName.parse(str(name)) == name


@pytest.mark.parametrize("text", ["", "a", "a:b", "a:b:", ":b:c", "a::c", "a:b:" + "c" * 300])
def test_what_is_no_agents_name(text: str) -> None:
    with pytest.raises(ValueError, match="name"):
        AgentName.parse(text)


def test_dots_in_names_do_not_make_words_of_a_key() -> None:
    assert names.heartbeat_key(AGENT) == "agent.ind.heartbeat.vdsm_org.vdsmd.a:b_c"
    assert names.data_key("org.vdsm", "VM", AGENT) == "agent.ind.data.org_vdsm.VM.vdsm_org.vdsmd.a:b_c"
    key = names.event_key("org.vdsm", "VMStarted", Severity.NOTICE.word, AGENT)
    assert key == "agent.ind.event.org_vdsm.VMStarted.note.vdsm_org.vdsmd.a:b_c"


@given(parts, parts, st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_a_key_fits_amqp_0_10_and_keeps_its_first_words(package: str, name: str, instance: str) -> None:
    key = names.data_key(package, name, AgentName("v", "p", instance))
    assert len(key.encode()) <= 255
    assert key.startswith("agent.ind.data.")
    long = names.data_key(package, name, AgentName("v", "p", "é" * 120))
    assert len(long.encode()) <= 255
    assert long.split(".")[:5] == key.split(".")[:5]
