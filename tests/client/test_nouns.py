# SPDX-License-Identifier: Apache-2.0
"""The static types of the client follow from the contract, and say no to what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

RIGHT = """
from vdsm.client import connect
from vdsm.contract import vm
from vdsm.contract.outcome import Outcome
from vdsm.contract.task import Plan
from vdsm.contract.vm_info import VmInfo
from vdsm.contract.vm_params import VmParams
from vdsm.contract.vm_stats import VmStats

with connect() as host:
    stats: list[VmStats] = host.vm.get_stats("a")
    again: list[VmStats] = host.call(vm.get_stats, vm_id="a")
    plan: Plan = host.options(plan=True).vm.create(VmParams(name="a", memory=64))
    outcome: Outcome[VmInfo] = host.options(wait=1).vm.create(VmParams(name="a", memory=64))
    data: bytes = host.vm.console("a").read()
"""

WRONG = [
    "host.vm.get_stats(1)",
    "host.vm.get_stats()",
    "host.vm.stats('a')",
    "host.vms.list()",
    "host.vm.shutdown('a', 1.0)",
    "host.call(vm.get_stats, 1)",
    "host.options(plan=True).vm.get_stats('a')",
    "host.options(wait=1).vm.pause('a')",
    "n: int = host.vm.get_info('a')",
]


def test_the_generated_types_are_current() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "generators", "--check"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
    )  # fmt: skip
    assert "nouns.pyi" not in done.stdout, done.stdout


def test_mypy_knows_what_each_call_takes_and_gives(tmp_path: Path) -> None:
    source = tmp_path / "use.py"
    source.write_text(RIGHT + "".join(f"    {line}\n" for line in WRONG))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(source)],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    wrong_lines = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line}
    first = RIGHT.count("\n") + 1
    assert wrong_lines == set(range(first, first + len(WRONG))), done.stdout + done.stderr
