# SPDX-License-Identifier: Apache-2.0
"""The index of commands follows the contract by itself, and is cached where that is safe."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from vdsm.shell import index as index_module
from vdsm.shell.index import load

SOURCE = Path(__file__).parents[2] / "src"

THROW_AWAY = '''

@verb(kind=Kind.QUERY, needs=Privilege.VM_READ, since="9.9", http="GET /vms/{vm_id}/mood")
def get_mood(vm_id: VmId, *, loudness: int = 3) -> str:
    """How the machine feels."""
'''


def cached(homes: Mapping[str, str]) -> list[Path]:
    return list((Path(homes["XDG_CACHE_HOME"]) / "vdsm").glob("index-*.json"))


def test_it_is_made_once(homes: Mapping[str, str]) -> None:
    first = load()
    (file,) = cached(homes)
    made = file.stat().st_mtime_ns
    assert load() == first == json.loads(file.read_text())
    assert file.stat().st_mtime_ns == made
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("spoil", ["", "{", "[]", '{"key": "old"}', "\0"])
def test_a_spoilt_cache_is_made_anew(homes: Mapping[str, str], spoil: str) -> None:
    good = load()
    (file,) = cached(homes)
    file.write_text(spoil)
    assert load() == good
    assert json.loads(file.read_text()) == good


def test_a_cache_others_could_have_written_is_not_believed(homes: Mapping[str, str]) -> None:
    good = load()
    (file,) = cached(homes)
    file.write_text(json.dumps({"key": good["key"], "verbs": {}}))
    file.chmod(0o666)
    assert load() == good


def test_without_a_place_for_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load()["verbs"]


def test_a_changed_contract_makes_a_new_one(
    homes: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    contract = tmp_path / "contract"
    shutil.copytree(index_module.CONTRACT, contract, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(index_module, "CONTRACT", str(contract))
    before = load()["key"]
    info = (contract / "vm.py").stat()
    os.utime(contract / "vm.py", ns=(info.st_atime_ns, info.st_mtime_ns + 1))
    assert load()["key"] != before
    (contract / "new.py").write_text("")
    assert len({before, load()["key"]}) == 2


def run_copy(copy: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "import sys; from vdsm.shell.run import main; sys.exit(main(sys.argv[1:]))", *words],
        env={**os.environ, "PYTHONPATH": str(copy), "VDSM_URL": "/nonexistent/sock"},
        capture_output=True, text=True,
    )  # fmt: skip


def test_a_new_verb_is_a_command_at_once(homes: Mapping[str, str], tmp_path: Path) -> None:
    """One declaration, and no other edit: the command, its help, its completion."""
    copy = tmp_path / "copy"
    shutil.copytree(SOURCE / "vdsm", copy / "vdsm", ignore=shutil.ignore_patterns("__pycache__"))
    assert "no command" in run_copy(copy, "vm", "mood", "a").stderr
    with (copy / "vdsm/contract/vm.py").open("a") as source:
        source.write(THROW_AWAY)
    assert "How the machine feels." in run_copy(copy, "help").stdout
    told = run_copy(copy, "help", "vm", "mood").stdout
    assert "--loudness" in told
    assert "default 3" in told
    assert run_copy(copy, "__complete", "bash", "vdsmsh vm mo").stdout == "mood\n"
    assert run_copy(copy, "vm", "mood", "5f0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11").returncode == 3, "it would be sent"


def test_the_index_knows_how_objects_are_called(index: dict[str, Any]) -> None:
    assert index["nouns"]["vm"] == {"list": "VM.list", "id": "vmId", "name": "vmName"}
    assert index["nouns"]["task"]["id"] == "id"
    params = {p["name"]: p for p in index["verbs"]["VM.create"]["params"]}
    assert "ref" not in params["vmID"], "a new machine's id is no name of one there is"
    assert index["verbs"]["Token.revoke"]["params"][0]["exact"]
