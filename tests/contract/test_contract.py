# SPDX-License-Identifier: Apache-2.0
"""The contract keeps its rules, and start-up refuses one that does not."""

from __future__ import annotations

import dataclasses
import json
import typing
from pathlib import Path

import msgspec
import pytest

from vdsm.contract import VERBS, ContractError, Kind, check, vm
from vdsm.contract.access import ROLES, Privilege, Role
from vdsm.contract.codec import from_json, from_plain, parse_json, to_json, to_plain, to_shown
from vdsm.contract.errors import PROBLEMS, InternalError, InvalidParams, InvalidRequest, NoSuchVM, Problem
from vdsm.contract.events import EVENTS
from vdsm.contract.types import Secret, VmName
from vdsm.protocols import dialect

PUBLISHED = json.loads((Path(__file__).parents[2] / "scripts/generators/published.json").read_text(encoding="utf-8"))


def test_the_contract_is_sound() -> None:
    check(VERBS.values())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"doc": ""}, "no docstring"),
        ({"needs": None}, "no privilege"),
        ({"result": typing.Any}, "Any"),
        ({"result": dict}, "Any"),
        ({"result": dict[str, list[typing.Any]]}, "Any"),
        ({"kind": Kind.STREAM}, "ByteStream"),
        ({"raises": (ValueError,)}, "no problem"),
        ({"route": dataclasses.replace(vm.pause.route, method="GET")}, "GET"),
        ({"route": dataclasses.replace(vm.pause.route, path="/vms/{nobody}/pause")}, "nobody"),
        ({"route": dataclasses.replace(vm.pause.route, path="/vms/{vmID}/cont")}, "HTTP route"),
        ({"method": "VM.cont"}, "method VM.cont is declared twice"),
    ],
)
def test_a_broken_declaration_is_refused(change: dict[str, object], says: str) -> None:
    broken = dataclasses.replace(vm.pause, **change)
    with pytest.raises(ContractError, match=says):
        check([broken if v is vm.pause else v for v in VERBS.values()])


@pytest.mark.parametrize("row", [r for r in PUBLISHED if r["method"] in VERBS], ids=lambda row: row["method"])
def test_published_verbs_keep_their_parameters(row: dict[str, typing.Any]) -> None:
    """What a published caller sends by name is a name here; what it may leave out may be left out.

    Or it is a struct whose members are names here: the published wires take it apart.
    """
    mine = {f.encode_name: f.required for f in msgspec.structs.fields(VERBS[row["method"]].params)}
    lifted = {struct for struct, _ in dialect.table().verbs[row["method"]].lift.values()}
    for name in row["params"]:
        if name in lifted and name not in mine:
            continue
        assert name.rstrip("?") in mine
        if name.endswith("?"):
            assert not mine[name.rstrip("?")], name


def test_codes_and_slugs_are_one_to_one() -> None:
    codes = [p.code for p in PROBLEMS.values()]
    assert len(codes) == len(set(codes))
    for problem in PROBLEMS.values():
        assert 400 <= problem.status <= 599
        assert problem.hint, problem


def test_a_problem_crosses_a_wire() -> None:
    body = NoSuchVM(vm="web1").body("flow")
    again = Problem.of(from_json(to_json(body), type(body)))
    assert isinstance(again, NoSuchVM)
    assert str(again) == "there is no virtual machine web1"
    unknown = Problem.of(msgspec.structs.replace(body, type="urn:vdsm:problem:of-the-future", facts={}))
    assert isinstance(unknown, InternalError)
    assert "web1" in str(unknown)


def test_facts_are_text_and_never_templates() -> None:
    assert str(NoSuchVM(vm="{hint}{0.__class__}")) == "there is no virtual machine {hint}{0.__class__}"


def test_every_event_tells_its_subject_and_story() -> None:
    for event in EVENTS.values():
        assert event.__doc__
        fields = {f.name for f in msgspec.structs.fields(event)}
        assert not {"vm_id", "task_id"} <= fields, "one subject"


@pytest.mark.parametrize("name", ["a\n", "a b", "", "-a", "a/b", "ü", "a" * 129, "a\0", "../a", "a\u202eb"])
def test_names_that_could_mislead_are_refused_in_words(name: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        from_plain({"vmID": "5f0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11", "name": name}, vm.rename.params)
    assert caught.value.path == "$.name"
    assert "letters, digits" in str(caught.value)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(name, VmName)


@pytest.mark.parametrize("text", [b"{", b"\xff", b'{"a":1,"a":2}', b'{"a":[{"b":1,"b":1}]}', b"[" * 100_000])
def test_text_that_is_no_clean_json_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_json(text)


def test_a_secret_is_shown_to_its_receiver_only() -> None:
    args = from_plain(
        {"vmID": "5f0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11", "password": "canary", "ttl": 1}, vm.set_ticket.params
    )
    assert to_plain(args)["password"] == "canary"
    assert to_shown(args)["password"] == "***"
    assert "canary" not in repr(args)
    assert "canary" not in f"{Secret('canary')}"


def test_roles_grow() -> None:
    assert ROLES[Role.VIEWER] < ROLES[Role.OPERATOR] < ROLES[Role.ADMIN] == set(Privilege)
