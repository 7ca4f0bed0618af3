# SPDX-License-Identifier: Apache-2.0
"""What a host is on a bus, derived from the contract: classes, methods, events, and hashes that tell a change."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from vdsm.bindings.qmf import types
from vdsm.bindings.qmf.nouns import nouns_of
from vdsm.bindings.qmf.schema import EVENT_FIELDS, GAP, Schemata
from vdsm.bindings.qmf.types import shape_of
from vdsm.contract import VERBS, AnyVerb, Kind
from vdsm.contract.events import EVENTS, Gap
from vdsm.contract.host_capabilities import Capabilities
from vdsm.contract.types import Bytes, MiB, Seconds, Secret, Uuid
from vdsm.contract.vm_info import Accelerator, ExitReason
from vdsm.protocols.qmf2 import forms, schema_v1
from vdsm.protocols.qmf2.model import Direction, OldSchemaRequest, SchemaFilter, SchemaId, Severity, Type

SCHEMATA = Schemata()


def test_every_verb_is_one_method_of_one_class() -> None:
    placed = [verb for kind in SCHEMATA.classes.values() for verb in kind.noun.methods.values()]
    assert sorted(verb.method for verb in placed) == sorted(
        v.method for v in VERBS.values() if v.kind is not Kind.STREAM
    )
    for kind in SCHEMATA.classes.values():
        assert [method.name for method in kind.schema.methods] == list(kind.noun.methods)


def test_what_names_an_object_is_its_method_and_the_rest_the_hosts() -> None:
    machine, host = SCHEMATA.classes["VM"], SCHEMATA.classes["Host"]
    assert machine.noun.methods["pause"] is VERBS["VM.pause"]
    assert host.noun.methods["VM.create"] is VERBS["VM.create"]
    assert host.noun.methods["getStats"] is VERBS["Host.getStats"]
    assert {m.name for m in host.schema.methods} >= {"Event.list", "Audit.list", "Token.create"}
    shutdown = next(m for m in machine.schema.methods if m.name == "shutdown")
    given = {a.name: a.type for a in shutdown.arguments if a.direction is Direction.IN}
    assert given == {
        "delay": Type.FLOAT, "message": Type.STRING, "reboot": Type.BOOL, "timeout": Type.FLOAT, "force": Type.BOOL,
    }  # fmt: skip
    assert {a.name for a in shutdown.arguments if a.direction is Direction.OUT} == {
        "result",
        "plan",
        "task",
        "replayed",
    }
    assert shutdown.description


def test_an_object_is_made_of_its_types_and_each_word_means_one_thing() -> None:
    machine = {p.name: p for p in SCHEMATA.classes["VM"].schema.properties}
    assert machine["vmId"].index
    assert not machine["vmId"].optional
    assert machine["memSize"].unit == "MiB"
    assert machine["memSize"].unsigned
    assert machine["devices"].type is Type.LIST
    assert machine["diskRate" if "diskRate" in machine else "disks"].type is Type.MAP
    assert machine["cpuUsage"].statistic
    assert machine["cpuUsage"].type is Type.INT  # nanoseconds; the summary's is a percentage and is left out
    assert "cpuUsage" not in SCHEMATA.classes["VM"].fields["VM.list"]
    assert not machine["status"].statistic
    host = {p.name: p for p in SCHEMATA.classes["Host"].schema.properties}
    assert not host["cpuModel"].statistic
    assert host["memFree"].statistic


@pytest.mark.parametrize("name", SCHEMATA.classes)
def test_names_are_unique_within_a_class(name: str) -> None:
    schema = SCHEMATA.classes[name].schema
    for names in ([p.name for p in schema.properties], [m.name for m in schema.methods]):
        assert len(names) == len(set(names))
    for method in schema.methods:
        assert len({(a.name, a.direction) for a in method.arguments}) == len(method.arguments), method.name


def test_every_event_is_a_class_with_its_severity() -> None:
    assert set(SCHEMATA.events) == {*EVENTS, GAP}
    assert SCHEMATA.events["Host_hypervisor_lost"].severity is Severity.ERROR
    assert SCHEMATA.events["VM_status"].severity is Severity.INFO
    assert {p.name for p in SCHEMATA.events["VM_status"].properties} >= {"vmId", "status", "eventId", "time"}


@pytest.mark.parametrize("kind", [*EVENTS.values(), Gap], ids=lambda kind: kind.__name__)
def test_no_event_has_a_field_that_the_record_has_too(kind: type[msgspec.Struct]) -> None:
    assert not {*kind.__struct_encode_fields__, "type"} & {*EVENT_FIELDS}


def test_hashes_are_the_same_in_another_process() -> None:
    script = "from vdsm.bindings.qmf.schema import Schemata\nprint([str(s.id.hash) for s in Schemata().all])"
    for seed in ("1", "2"):
        said = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
        assert said.stdout.strip() == str([str(s.id.hash) for s in SCHEMATA.all])
    assert len({s.id.hash for s in SCHEMATA.all}) == len(SCHEMATA.all)


def _without(method: str) -> Schemata:
    return Schemata(verb for verb in VERBS.values() if verb.method != method)


def test_a_changed_class_has_another_hash_and_the_others_keep_theirs() -> None:
    before = {s.id.name: s.id.hash for s in SCHEMATA.all}
    after = {s.id.name: s.id.hash for s in _without("VM.reset").all}
    assert {name for name, found in after.items() if before[name] != found} == {"VM"}


def test_a_contract_with_nothing_but_a_ping_is_a_host() -> None:
    assert list(nouns_of([VERBS["Host.ping"]])) == ["Host"]


def test_a_console_finds_classes_by_any_part_of_their_id() -> None:
    machine = SCHEMATA.classes["VM"].schema
    assert SCHEMATA.find(SchemaFilter(name="VM")) == [machine]
    assert SCHEMATA.find(SchemaFilter(hash=machine.id.hash)) == [machine]
    assert len(SCHEMATA.find(SchemaFilter(package="org.vdsm"))) == len(SCHEMATA.all)
    assert {s.id.name for s in SCHEMATA.find(SchemaFilter(kind="_event"))} == {*EVENTS, GAP}
    assert SCHEMATA.find(SchemaFilter(name="VM", hash=uuid.uuid4())) == []


@pytest.mark.parametrize("schema", SCHEMATA.all, ids=lambda schema: schema.id.name)
def test_both_forms_of_a_schema_are_read_back(schema: Any) -> None:
    assert SCHEMATA.old(SchemaId(schema.id.package, schema.id.name, hash=schema.id.hash)) is schema
    assert SCHEMATA.old(SchemaId(schema.id.package, schema.id.name, hash=uuid.uuid4())) is None
    read = forms.read_schema(forms.schema_map(schema))
    assert [p.name for p in read.properties] == [p.name for p in schema.properties]
    old = schema_v1.encode_found(OldSchemaRequest(7, schema.id).sequence, schema)
    assert len(old) < 65_536  # what a console takes in one piece


# ---- types -----------------------------------------------------------------------------------------------------------


Things = Annotated[int, Meta(ge=1, description="Things.")]


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        (bool, {"type": Type.BOOL}),
        (int, {"type": Type.INT}),
        (MiB, {"type": Type.INT, "unit": "MiB", "unsigned": True}),
        (Bytes, {"type": Type.INT, "unit": "bytes", "unsigned": True}),
        (Seconds | None, {"type": Type.FLOAT, "unit": "seconds", "optional": True}),
        (Things, {"type": Type.INT, "unsigned": True, "description": "Things."}),
        (Secret, {"type": Type.STRING}),
        (Uuid, {"type": Type.STRING, "description": "A UUID in lower case with dashes."}),
        (Accelerator, {"type": Type.STRING}),
        (ExitReason, {"type": Type.INT}),
        (Capabilities, {"type": Type.MAP}),
        (dict[str, int], {"type": Type.MAP}),
        (list[str], {"type": Type.LIST}),
        (int | str, {"type": Type.MAP}),
        (None, {"type": Type.VOID}),
    ],
)  # fmt: skip
def test_types_of_the_contract_in_qmfs_words(hint: Any, said: dict[str, Any]) -> None:
    assert shape_of(hint) == types.Shape(**said)


def test_no_verb_has_a_type_that_cannot_be_said() -> None:
    for verb in VERBS.values():
        if verb.kind is not Kind.STREAM:
            assert _shapes(verb)


def _shapes(verb: AnyVerb) -> list[types.Shape]:
    return [shape_of(hint) for hint in (verb.result, *verb.params.__annotations__.values())]


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(plain)
def test_plain_data_is_what_it_was_after_the_way(value: Any) -> None:
    assert types.to_plain(types.to_wire(value)) == value


def test_a_uuid_is_the_text_the_contract_has() -> None:
    one = uuid.uuid4()
    assert types.to_plain({"ids": [one]}) == {"ids": [str(one)]}
