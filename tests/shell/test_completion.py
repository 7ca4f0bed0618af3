# SPDX-License-Identifier: Apache-2.0
"""What completion offers, and that bash and zsh understand the scripts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.daemon import Daemon
from vdsm.shell.completion import complete, script, split
from vdsm.shell.describe import describe
from vdsm.shell.session import Session

INDEX = describe()  # not an argument of property tests: hypothesis would print it


def offered(index: dict[str, Any], line: str, socket: str = "/nonexistent") -> list[str]:
    words, current = split(line)
    with closing(Session(index, {"socket": socket})) as session:
        return [word for word, _ in complete(session, words, current)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("vm pa", ["pause"]),
        ("ev", ["event", "events"]),
        ("expl", ["explain"]),
        ("explain ", ["vm"]),
        ("task wat", ["watch"]),
        ("vm create --gra", ["--graphics"]),
        ("vm create --graphics ", ["kind=", "none"]),
        ("vm create --graphics kind=", ["kind=vnc"]),
        ("vm create --nic kind=user,mo", ["kind=user,model="]),
        ("vm create --firmware ", ["bios", "uefi"]),
        ("vm create --firmware=u", ["--firmware=uefi"]),
        ("vm create --serial ", ["true", "false"]),
        ("--output ", ["table", "json", "yaml"]),
        ("--output json vm pa", ["pause"]),
        ("vm list --output y", ["yaml"]),
        ("token create bob o", ["operator"]),
        ("host set-log-level CR", ["CRITICAL", "CRIT"]),
        ("events --severity ", ["info", "warning", "error"]),
        ("events --type VM_d", ["VM_defined"]),
        ("call VM.getStat", ["VM.getStats"]),
        ("call VM.getStats ", ["vmID="]),
        ("help vm pa", ["pause"]),
        ("completion ", ["bash", "zsh"]),
        ("vm pause ", []),  # the daemon is not there
    ],
)
def test_what_is_offered(index: dict[str, Any], line: str, words: list[str]) -> None:
    found = offered(index, line)
    if "serial" in line:
        found = [word for word in found if not word.startswith("--")]
    assert found == words


def test_an_option_is_not_offered_twice_unless_it_repeats(index: dict[str, Any]) -> None:
    found = offered(index, "vm create --name a --disk /x --")
    assert "--name" not in found
    assert "--disk" in found


def test_names_of_what_is_there(index: dict[str, Any], sim: Daemon) -> None:
    assert offered(index, "vm pause sim", str(sim.socket)) == ["sim1", "sim2", "sim3", "sim4"]
    assert offered(index, "events --vm sim1", str(sim.socket)) == ["sim1"]
    assert offered(index, "explain vm sim2", str(sim.socket)) == ["sim2"]
    assert offered(index, "vm rename sim1 ", str(sim.socket)) == [], "a new name cannot be guessed"


@given(st.text())
def test_no_line_breaks_it(line: str) -> None:
    offered(INDEX, line)


@pytest.mark.parametrize(
    ("line", "words", "current"),
    [
        ("vdsmsh vm pa", ["vdsmsh", "vm"], "pa"),
        ("a  b ", ["a", "b"], ""),
        ("a 'b c' \"d e", ["a", "b c"], "d e"),
        (r"a\ b c\"d", ["a b"], 'c"d'),
        ("a '' ", ["a", ""], ""),
        ("a\\", [], "a"),
        ("", [], ""),
    ],
)
def test_words_of_a_line(line: str, words: list[str], current: str) -> None:
    assert split(line) == (words, current)


def test_bash(sim: Daemon, homes: Mapping[str, str]) -> None:
    """In a real bash: the function it registers fills COMPREPLY."""
    program = (
        script(["bash"])
        + """
COMP_LINE="vdsmsh vm pause sim"; COMP_POINT=${#COMP_LINE}; COMP_WORDS=("$VDSMSH" vm pause sim); COMP_CWORD=3
_vdsmsh; printf '%s\\n' "${COMPREPLY[@]}"
"""
    )
    vdsmsh = str(Path(sys.executable).parent / "vdsmsh")
    done = subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True,
        env={"VDSMSH": vdsmsh, "VDSM_URL": str(sim.socket), "PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **homes},
    )  # fmt: skip
    assert done.stdout.split() == ["sim1", "sim2", "sim3", "sim4"], done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_scripts_are_well_formed(shell: str) -> None:
    done = subprocess.run([shell, "-n"], input=script([shell]), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
