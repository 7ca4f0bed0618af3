# SPDX-License-Identifier: Apache-2.0
"""Command lines to calls: every verb's parameters, flattened."""

from __future__ import annotations

import io
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdsm.contract import VERBS
from vdsm.contract.codec import from_plain
from vdsm.contract.vm_params import BootDevice, DiskBus, DiskFormat, Firmware, VmParams
from vdsm.shell.describe import describe
from vdsm.shell.faults import OK, USAGE, Fault
from vdsm.shell.options import options
from vdsm.shell.parse import find_verb, parse_verb, take_common

INDEX = describe()  # not an argument of property tests: hypothesis would print it


def parse(index: dict[str, Any], line: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    method, rest = find_verb(index, shlex.split(line))
    assert method, f"{line}: no such command"
    return (method, *parse_verb(index, method, rest))


@pytest.mark.parametrize(
    ("line", "method", "params", "given"),
    [
        ("vm list", "VM.list", {}, {}),
        ("vm pause a", "VM.pause", {"vmID": "a"}, {}),
        ("explain vm a", "VM.explain", {"vmID": "a"}, {}),
        ("vm rename a b", "VM.rename", {"vmID": "a", "name": "b"}, {}),
        ("vm rename a --name b", "VM.rename", {"vmID": "a", "name": "b"}, {}),
        ("vm rename --name b a", "VM.rename", {"vmID": "a", "name": "b"}, {}),
        ("vm set-autostart a on", "VM.setAutostart", {"vmID": "a", "enabled": True}, {}),
        ("vm shutdown --force a", "VM.shutdown", {"vmID": "a", "force": True}, {}),
        ("vm shutdown a --force false --reboot", "VM.shutdown", {"vmID": "a", "force": False, "reboot": True}, {}),
        ("vm shutdown a --timeout 2m --wait 5", "VM.shutdown", {"vmID": "a", "timeout": 120.0}, {"wait": 5.0}),
        ("vm pause a --timeout 5 --plan", "VM.pause", {"vmID": "a"}, {"timeout": 5.0, "plan": True}),
        ("vm pause a --output=json --no-wait", "VM.pause", {"vmID": "a"}, {"output": "json", "no_wait": True}),
        ("vm change-cd a ''", "VM.changeCD", {"vmID": "a", "driveSpec": ""}, {}),
        ("token create bob admin --ttl 1d", "Token.create", {"name": "bob", "role": "admin", "ttl": 86400.0}, {}),
        ("event list --type A,B --type C --severity error", "Event.list",
         {"types": ["A", "B", "C"], "severities": ["error"]}, {}),
        ("host jobs --job-id 1 --job-ids 2", "Host.getJobs", {"job_ids": ["1", "2"]}, {}),
        ("host vm-list --vm-list a,b", "Host.getVMList", {"vmList": ["a", "b"]}, {}),
        ("vm list --fields vmName --where status=Up --where kept=true", "VM.list", {},
         {"fields": "vmName", "where": ["status=Up", "kept=true"]}),
        ("vm screenshot a -o a.png", "VM.screenshot", {"vmID": "a"}, {"save": "a.png"}),
        ("vm create --name a --memory 2G --vcpus 2 --disk path=/x.qcow2,format=qcow2 --disk /y --nic kind=user"
         " --graphics none --serial false --cmdline 'a b=c'", "VM.create",
         {"vmParams": {"name": "a", "memory": 2048, "vcpus": 2, "graphics": None, "serial": False, "cmdline": "a b=c",
                       "disks": [{"path": "/x.qcow2", "format": "qcow2"}, {"path": "/y"}], "nics": [{"kind": "user"}]}},
         {}),
        ("vm create", "VM.create", {"vmParams": {}}, {}),
        ("vm define --vm-id X --autostart --name a", "VM.define",
         {"vmID": "X", "autostart": True, "vmParams": {"name": "a"}}, {}),
    ],
)  # fmt: skip
def test_lines(index: dict[str, Any], line: str, method: str, params: dict[str, Any], given: dict[str, Any]) -> None:
    assert parse(index, line) == (method, params, given)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("vm pause", "required: VM"),
        ("vm pause a b", "'b' is one word too many"),
        ("vm rename a", "--name is missing"),
        ("vm create --memry 5", "no option --memry"),
        ("vm create --memory 5X", "--memory: expected a whole number"),
        ("vm create --nic warp", "--nic: kind: expected one of"),
        ("vm shutdown a --wait -5", "0 or more"),
        ("vm list --output xml", "invalid choice"),
        ("vm set-ticket a --ttl 5 --password hunter2", "takes no secret from the command line"),
        ("vm set-ticket a --ttl 5 --password=hunter2", "takes no secret from the command line"),
        ("vm set-ticket a --ttl 5", "--password is missing"),
    ],
)
def test_what_is_wrong_is_said(index: dict[str, Any], monkeypatch: pytest.MonkeyPatch, line: str, words: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(Fault) as caught:
        parse(index, line)
    assert caught.value.code == USAGE
    assert words in caught.value.body["detail"]
    assert caught.value.body["hint"]


def test_a_near_option_is_named(index: dict[str, Any]) -> None:
    with pytest.raises(Fault) as caught:
        parse(index, "vm create --memry 5")
    assert caught.value.body["hint"] == "Did you mean `--memory`?"


def test_a_secret_from_a_file_or_standard_input(
    index: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "p").write_text("from file\nmore\n")
    assert parse(index, f"vm set-ticket a --ttl 5 --password @{tmp_path}/p")[1]["password"] == "from file"
    monkeypatch.setattr(sys, "stdin", io.StringIO("typed\n"))
    assert parse(index, "vm set-ticket a --ttl 5 --password -")[1]["password"] == "typed"


def test_options_before_the_command() -> None:
    assert take_common(["--output", "json", "--plan", "vm", "list", "--wait", "5"]) == (
        {"output": "json", "plan": True},
        ["vm", "list", "--wait", "5"],
    )


def test_every_verb_has_a_command_line(index: dict[str, Any]) -> None:
    """Each parameter has flags of its own, and every required one can be given."""
    for method, verb in index["verbs"].items():
        found = options(index, verb)
        flags = [flag for option in found for flag in option.flags]
        assert len(flags) == len(set(flags)), method
        assert find_verb(index, verb["command"]) == (method, [])


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


PATHS = st.from_regex(r"/[a-z0-9/._-]{1,30}", fullmatch=True)
DISKS = st.fixed_dictionaries(
    {"path": PATHS},
    optional={
        "format": st.sampled_from([f.value for f in DiskFormat]),
        "bus": st.sampled_from([b.value for b in DiskBus]),
        "readOnly": st.booleans(),
    },
)
PARAMS = st.fixed_dictionaries(
    {"name": st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,20}", fullmatch=True), "memory": st.integers(16, 10**6)},
    optional={
        "vcpus": st.integers(1, 700),
        "firmware": st.sampled_from([f.value for f in Firmware]),
        "disks": st.lists(DISKS, min_size=1, max_size=4),
        "serial": st.booleans(),
        "kernel": PATHS,
        "bootOrder": st.lists(st.sampled_from([d.value for d in BootDevice]), unique=True, min_size=1),
        "graphics": st.sampled_from([None, {"kind": "vnc"}]),
    },
)
FLAGS = {"disks": "--disk", "bootOrder": "--boot-order"}


@given(PARAMS)
def test_whatever_can_be_asked_can_be_typed(params: dict[str, Any]) -> None:
    words: list[str] = []
    for name, value in params.items():
        flag = FLAGS.get(name, f"--{name}")
        if name == "disks":
            for disk in value:
                words += [flag, ",".join(f"{k.replace('readOnly', 'read-only')}={_text(v)}" for k, v in disk.items())]
        elif name == "graphics":
            words += [flag, "none" if value is None else "kind=vnc"]
        else:
            words += [f"{flag}={','.join(value) if isinstance(value, list) else _text(value)}"]
    made, _ = parse_verb(INDEX, "VM.create", words)
    assert made == {"vmParams": params}
    assert from_plain(made["vmParams"], VmParams).name == params["name"]


@given(
    st.sampled_from(sorted(VERBS)), st.lists(st.one_of(st.text(), st.sampled_from(["--", "-", "--name", "@x", "="])))
)
def test_whatever_is_typed_is_a_call_or_a_usage_fault(method: str, words: list[str]) -> None:
    stdin, sys.stdin = sys.stdin, io.StringIO("")
    try:
        parse_verb(INDEX, method, words)
        code = OK
    except Fault as fault:
        code = fault.code
    finally:
        sys.stdin = stdin
    assert code in (OK, USAGE)
