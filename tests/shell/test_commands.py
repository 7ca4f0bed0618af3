# SPDX-License-Identifier: Apache-2.0
"""vdsmsh as people and scripts run it, against a daemon that pretends to have machines."""

from __future__ import annotations

import base64
import json
import os
import resource
import statistics
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from harness.daemon import Daemon
from harness.until import until
from vdsm.contract import VERBS
from vdsm.shell.faults import REFUSED, STILL_RUNNING, TASK_FAILED, UNREACHABLE, USAGE

VDSMSH = str(Path(sys.executable).parent / "vdsmsh")


@pytest.fixture(autouse=True)
def _own_directories(homes: dict[str, str]) -> None:
    """Each test is a person of its own."""


@pytest.fixture
def machine(sim: Daemon) -> Iterator[str]:
    """A machine of the test's own, running."""
    name = f"m-{uuid.uuid4().hex[:8]}"
    sim.shell("vm", "create", "--name", name, "--memory", "64", "--guest-agent=false")
    yield name
    sim.shell("vm", "destroy", name, ok=False)


def test_the_list_of_machines(sim: Daemon) -> None:
    table = sim.shell("vm", "list").stdout.splitlines()
    assert table[0].split()[:3] == ["ID", "NAME", "STATUS"]
    assert {line.split()[1] for line in table[1:]} >= {"sim1", "sim2", "sim3", "sim4"}
    rows = sim.json("vm", "list")
    assert rows == yaml.safe_load(sim.shell("vm", "list", "--output", "yaml").stdout)
    assert rows[0]["memory"] == 512


def test_fields_and_filters(sim: Daemon) -> None:
    assert sim.json("vm", "list", "--fields", "vmName", "--where", "vmName=sim1") == [{"vmName": "sim1"}]
    assert sim.shell("vm", "list", "--fields", "vmName", "--where", "vmName=sim1").stdout == "NAME\nsim1\n"
    empty = sim.shell("vm", "list", "--where", "vmName=none")
    assert (empty.stdout, empty.stderr) == ("", "(none)\n")


@pytest.mark.parametrize("of", ["whole name", "name", "id", "prefix of the id"])
def test_machines_by_name_id_or_beginning(sim: Daemon, machine: str, of: str) -> None:
    vm_id = next(row["vmId"] for row in sim.json("vm", "list") if row["vmName"] == machine)
    word = {"whole name": machine, "name": machine[:-1], "id": vm_id, "prefix of the id": vm_id[:8]}[of]
    assert sim.json("vm", "info", word)["vmId"] == vm_id


def test_a_name_that_means_several_or_none(sim: Daemon) -> None:
    several = sim.shell("vm", "pause", "sim", ok=False)
    assert several.returncode == REFUSED
    assert "sim1 (" in several.stderr
    assert "sim4 (" in several.stderr
    none = sim.shell("vm", "pause", "sim9", ok=False)
    assert none.returncode == REFUSED
    assert "Did you mean `sim" in none.stderr


def test_pause_and_go_on(sim: Daemon, machine: str) -> None:
    assert "is Paused" in sim.shell("vm", "pause", machine).stdout
    assert sim.json("vm", "cont", machine)["status"] in ("Up", "Powering up")
    again = sim.shell("vm", "start", machine, ok=False)
    assert again.returncode == REFUSED
    assert "hint:" in again.stderr


def test_problems_name_the_option(sim: Daemon) -> None:
    wrong = sim.shell("vm", "create", "--name", "x", "--memory", "3", ok=False)
    assert (wrong.returncode, wrong.stdout) == (REFUSED, "")
    assert "at:    --memory" in wrong.stderr
    as_json = sim.shell("vm", "create", "--name", "x", "--memory", "3", "--output", "json", ok=False)
    assert json.loads(as_json.stderr)["path"] == "$.vmParams.memory"


def test_a_plan_changes_nothing(sim: Daemon) -> None:
    before = sim.json("vm", "list")
    shown = sim.shell("vm", "create", "--plan", "--name", "planned", "--memory", "64").stdout
    assert "nothing was done" in shown
    assert "1." in shown
    plan = sim.json("vm", "create", "--plan", "--name", "planned", "--memory", "64")
    assert plan["method"] == "VM.create"
    assert {row["vmId"] for row in sim.json("vm", "list")} == {row["vmId"] for row in before}


def test_the_same_create_twice_makes_one(sim: Daemon) -> None:
    name, key = f"k-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    words = ("vm", "create", "--name", name, "--memory", "64", "--idempotency-key", key)
    assert sim.json(*words)["vmId"] == sim.json(*words)["vmId"]
    assert len([row for row in sim.json("vm", "list") if row["vmName"] == name]) == 1
    sim.shell("vm", "destroy", name)


def test_a_task_left_to_itself(sim: Daemon, machine: str) -> None:
    begun = sim.shell("vm", "shutdown", machine, "--delay", "60", "--no-wait")
    task_id = begun.stdout.strip()
    assert f"vdsmsh task watch {task_id[:8]}" in begun.stderr
    assert sim.json("task", "show", task_id[:8])["state"] == "running"
    sim.shell("task", "stop", task_id[:8])
    watched = sim.shell("task", "watch", task_id[:8], ok=False)
    assert watched.returncode == TASK_FAILED
    assert "aborted" in watched.stdout
    assert task_id in sim.shell("task", "list").stdout


def test_waiting_not_to_the_end(sim: Daemon, machine: str) -> None:
    words = ("vm", "shutdown", machine, "--delay", "60")
    late = sim.shell(*words, "--wait", "0.2", "--output", "json", ok=False)
    assert late.returncode == STILL_RUNNING
    task = json.loads(late.stdout)
    assert task["state"] == "running"
    sim.shell("task", "stop", task["id"])
    until("it ended", lambda: sim.json("task", "show", task["id"])["state"] == "aborted")


def test_a_task_that_fails_has_its_own_exit_code(sim: Daemon, machine: str) -> None:
    """Stopped while somebody waits for it: not the same as a call that was refused."""
    waiting = subprocess.Popen(
        [VDSMSH, "vm", "shutdown", machine, "--delay", "60"], env={**os.environ, "VDSM_URL": str(sim.socket)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    running = until(
        "it runs", lambda: [t for t in sim.json("task", "list") if t["state"] == "running" and "shutdown" in t["verb"]]
    )
    sim.shell("task", "stop", running[0]["id"])
    _, said = waiting.communicate(timeout=60)
    assert waiting.returncode == TASK_FAILED
    assert "stopped" in said


def test_explain(sim: Daemon, machine: str) -> None:
    lines = sim.shell("explain", "vm", machine).stdout.splitlines()
    assert lines[0].startswith(f"{machine} is ")
    start = next(line for line in lines if line.startswith("vm start"))
    assert "no" in start.split()
    assert "needs it stopped" in start


def test_events(sim: Daemon, machine: str) -> None:
    sim.shell("vm", "pause", machine)
    told = sim.shell("events", "--since", "0", "--vm", machine, "--type", "VM_status").stdout.splitlines()
    assert "Paused" in told[-1]
    assert machine in told[-1]
    records = json.loads(sim.shell("events", "--vm", machine, "--output", "json").stdout)
    assert records[-1]["data"]["status"] == "Paused"
    later = json.loads(
        sim.shell("events", "--since", str(records[-1]["id"]), "--vm", machine, "--output", "json").stdout
    )
    assert later == []


def test_following_events(sim: Daemon, machine: str) -> None:
    since = json.loads(sim.shell("events", "--output", "json").stdout)[-1]["id"]
    following = subprocess.Popen(
        [VDSMSH, "events", "--follow", "--since", str(since), "--output", "json", "--type", "VM_status"],
        env={**os.environ, "VDSM_URL": str(sim.socket)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert following.stdout is not None
    sim.shell("vm", "pause", machine)
    assert json.loads(following.stdout.readline())["data"]["status"] == "Paused"
    following.send_signal(2)
    assert following.wait(20) == 0, "Ctrl-C is how it ends"
    following.stdout.close()


@pytest.mark.parametrize(
    "words", [["--type", "VM_statos"], ["--since", "-1"], ["--severity", "fatal"], ["--vm", "nobody"]]
)
def test_events_that_cannot_be(sim: Daemon, words: list[str]) -> None:
    assert sim.shell("events", *words, ok=False).returncode in (USAGE, REFUSED)


def test_direct_calls(sim: Daemon) -> None:
    assert sim.json("call", "VM.getStats", "vmID=sim1")[0]["vmName"] == "sim1"
    assert sim.json("call", "vm.getstats", "vmID=sim1") is not None
    assert sim.json("call", "Host.echo", "message=a=b") == "a=b"
    assert sim.json("call", "VM.list", "--where", "vmName=sim1")[0]["vmName"] == "sim1"
    plan = sim.json("call", "VM.create", 'vmParams:={"name": "x", "memory": 64}', "--plan")
    assert plan["steps"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["VM.getStat"], "Did you mean `VM.getStats`?"),
        (["VM.getStats"], "needs vmID="),
        (["VM.getStats", "vmid=a"], "Did you mean `vmID`?"),
        (["VM.getStats", "vmID"], "NAME=TEXT"),
        (["VM.create", "vmParams:={"], "vmParams:"),
        (["VM.setTicket", "vmID=sim1", "ttl=1", "password=x"], "no secret from the command line"),
        ([], "VERB"),
    ],
)
def test_direct_calls_that_are_wrong(sim: Daemon, words: list[str], told: str) -> None:
    wrong = sim.shell("call", *words, ok=False)
    assert wrong.returncode == USAGE
    assert told in wrong.stderr


def test_a_screenshot(sim: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    assert "image/png" in sim.shell("vm", "screenshot", "sim1", "-o", str(file)).stderr
    assert file.read_bytes().startswith(b"\x89PNG")
    assert base64.b64decode(sim.json("vm", "screenshot", "sim1")["data"]).startswith(b"\x89PNG")
    piped = subprocess.run(
        [VDSMSH, "vm", "screenshot", "sim1"], env={**os.environ, "VDSM_URL": str(sim.socket)}, capture_output=True
    )
    assert piped.stdout.startswith(b"\x89PNG")
    failed = sim.shell("vm", "screenshot", "sim1", "-o", str(tmp_path / "no/a.png"), ok=False)
    assert failed.returncode == USAGE


def test_a_console_on_pipes(sim: Daemon) -> None:
    talk = subprocess.Popen(
        [VDSMSH, "vm", "console", "sim3", "--force"], env={**os.environ, "VDSM_URL": str(sim.socket)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert talk.stdin is not None
    assert talk.stdout is not None
    talk.stdin.write(b"\r")
    talk.stdin.close()  # the end of what we say is not the end of what the guest says
    heard = b""
    while b"login:" not in heard:
        heard += os.read(talk.stdout.fileno(), 4096)
    sim.shell("vm", "destroy", "sim3")
    until("the console ended with the machine", lambda: talk.poll() is not None)
    sim.shell("vm", "start", "sim3")
    talk.stdout.close()
    assert talk.stderr is not None
    talk.stderr.close()


def test_tokens(sim: Daemon) -> None:
    name = f"t-{uuid.uuid4().hex[:8]}"
    assert sim.json("token", "create", name, "viewer")["token"].startswith("vdsm_")
    assert name in sim.shell("token", "list").stdout
    short = sim.shell("token", "revoke", name[:-1], ok=False)
    assert short.returncode == REFUSED, "the beginning of a name is too little to revoke a token"
    assert sim.shell("token", "revoke", name).stdout == f"token revoke {name}: done\n"


def test_help_covers_every_command(sim: Daemon) -> None:
    told = sim.shell("help").stdout
    for verb in VERBS.values():
        assert f"  {' '.join(verb.command)} " in told
        page = sim.shell("help", *verb.command).stdout if verb.noun == "vm" else verb.method
        assert verb.method in page
    for code in ("0", "1", "2", "3", "4", "5", "130"):
        assert f"\n  {code:<4}" in told
    assert sim.shell("--help").stdout == told
    assert sim.shell("--output", "json", "-h").stdout == told
    assert sim.shell("vm", "pause", "--help").stdout == sim.shell("help", "vm", "pause").stdout
    assert "vm create" in sim.shell("help", "vm").stdout


def test_a_command_there_is_not(sim: Daemon) -> None:
    for words, hint in ((["vm", "puase", "a"], "vm pause"), (["vn", "list"], "vm"), (["vm"], "help vm")):
        wrong = sim.shell(*words, ok=False)
        assert wrong.returncode == USAGE
        assert hint in wrong.stderr


@pytest.mark.parametrize("output", ["table", "json"])
def test_nobody_there(sim: Daemon, tmp_path: Path, output: str) -> None:
    away = sim.shell("--socket", str(tmp_path / "none"), "--output", output, "vm", "list", ok=False)
    assert away.returncode == UNREACHABLE
    assert "systemctl start vdsmd" in away.stderr
    assert (output == "json") == away.stderr.startswith("{")


@pytest.mark.parametrize(
    "words",
    [
        ["--url", "ftp://x"],
        ["--token-file", "/nonexistent"],
        ["--url", "https://a", "--socket", "/b"],
        ["--url", "http://192.0.2.1"],
    ],
)
def test_addresses_that_are_none(sim: Daemon, words: list[str]) -> None:
    assert sim.shell(*words, "vm", "list", ok=False).returncode == USAGE


def test_output_nobody_reads(sim: Daemon) -> None:
    """`vdsmsh ... | head -0` says nothing on standard error."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [VDSMSH, "help"], env={**os.environ, "VDSM_URL": str(sim.socket)}, stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    assert done.stderr == b""


def test_commands_from_a_pipe(sim: Daemon) -> None:
    done = sim.shell(
        stdin=b"# a comment\nvm list --fields vmName --where vmName=sim1\n\nvm pause nobody\nhost ping2\n", ok=False
    )
    assert done.stdout == "NAME\nsim1\nhost ping2: done\n"
    assert done.returncode == REFUSED


def test_version(sim: Daemon) -> None:
    assert sim.shell("--version").stdout.startswith("vdsmsh ")


def test_the_fast_path_imports_little(sim: Daemon) -> None:
    """What costs CPU at every start is named here, not measured: a number would depend on the machine."""
    sim.shell("vm", "list")  # makes the index
    program = (
        "import sys; from vdsm.shell.run import main; main(['vm', 'list']);"
        "print(*sorted({m.partition('.')[0] for m in sys.modules} | {m for m in sys.modules if 'vdsm' in m}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "VDSM_URL": str(sim.socket)}, capture_output=True, text=True
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    heavy = {"msgspec", "asyncio", "websockets", "prompt_toolkit", "yaml", "dataclasses", "inspect", "difflib"}
    assert not loaded & (heavy | {"vdsm.contract", "vdsm.protocols"})


def test_cpu_time_of_one_shot(sim: Daemon, record_property: Callable[[str, object], None]) -> None:
    """Reported, not judged."""
    sim.shell("vm", "list")
    spent = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        sim.shell("vm", "list")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    record_property("vdsmsh vm list, CPU ms", round(statistics.median(spent) * 1000, 1))
    assert len(spent) == 5
