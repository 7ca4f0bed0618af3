# SPDX-License-Identifier: Apache-2.0
"""vdsmsh over a message bus: all hosts at a glance, and every command on one of them as if it were this one."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.daemon import Daemon
from harness.on_bus import bus_table, password
from harness.rabbitmq import RabbitMQ
from harness.simulated import simulated
from harness.until import BUSY, until
from vdsm.shell.faults import REFUSED, STILL_RUNNING, UNREACHABLE, USAGE

VDSMSH = Path(sys.executable).parent / "vdsmsh"
Done = subprocess.CompletedProcess[str]


class Shell:
    """vdsmsh as somebody on the bus runs it, far from any daemon."""

    def __init__(self, home: Path, broker: RabbitMQ) -> None:
        self.broker = broker
        self.environment = {
            **os.environ,
            "VDSM_BUS": broker.url().replace("://", "://engine@"),
            "VDSM_TOKEN_FILE": str(password(home, "engine")),
            "VDSM_URL": f"unix:{home}/no-such-daemon",
        }

    def run(self, *words: str, env: dict[str, str] | None = None) -> Done:
        return subprocess.run(
            [VDSMSH, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60 * BUSY,
            env={**self.environment, **(env or {})},
        )  # fmt: skip

    def begin(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [VDSMSH, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
            env=self.environment,
        )  # fmt: skip

    def json(self, *words: str) -> Any:
        done = self.run("--output", "json", *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def name() -> str:
    return f"vdsmtest-{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, rabbitmq: RabbitMQ, name: str) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("one")
    with simulated(home, 3, bus_table(home, rabbitmq, f"{name}-one")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, rabbitmq: RabbitMQ, name: str) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("two")
    with simulated(home, 1, bus_table(home, rabbitmq, f"{name}-two", "host-b")) as daemon:
        yield daemon


@pytest.fixture
def shell(tmp_path: Path, rabbitmq: RabbitMQ, one: Daemon, two: Daemon) -> Shell:
    return Shell(tmp_path, rabbitmq)


# ---- all of them -----------------------------------------------------------------------------------------------------


def test_all_hosts_at_a_glance(shell: Shell, name: str) -> None:
    rows = {row["name"]: row for row in shell.json("host", "list") if row["name"].startswith(name)}
    assert rows.keys() == {f"{name}-one", f"{name}-two"}
    first = rows[f"{name}-one"]
    assert (first["state"], first["vmCount"], first["vmActive"]) == ("up", 3, 3)
    assert isinstance(first["cpuLoad"], float)
    assert 0 <= first["age"] < 60
    table = shell.run("host", "list").stdout
    assert table.split("\n")[0].split() == ["NAME", "STATE", "VMS", "LOAD", "AGE", "ID"]
    (line,) = [line for line in table.split("\n") if f"{name}-two" in line.split()]
    assert line.split()[1:5] == ["up", "1", "of", "1"]


def test_who_may_not_ask_still_sees_who_is_there(shell: Shell, tmp_path: Path, name: str) -> None:
    nobody = {"VDSM_BUS": shell.broker.url().replace("://", "://stranger@")}
    nobody["VDSM_TOKEN_FILE"] = str(password(tmp_path, "stranger"))
    done = shell.run("--output", "json", "host", "list", env=nobody)
    (row,) = [row for row in json.loads(done.stdout) if row["name"] == f"{name}-one"]
    assert (row["state"], row["vmCount"]) == ("up", None)
    assert "has no role on this host" in row["problem"]


def test_events_of_all_hosts(shell: Shell, one: Daemon, two: Daemon, name: str) -> None:
    bus = shell.environment["VDSM_BUS"]
    following = shell.begin("--bus", bus, "--output", "json", "events", "--follow", "--since", "0")
    assert following.stdout is not None
    try:
        one.shell("vm", "pause", "sim3")
        one.shell("vm", "cont", "sim3")
        two.shell("vm", "pause", "sim1")
        two.shell("vm", "cont", "sim1")
        seen: set[tuple[str, str]] = set()
        while not {(f"{name}-one", "sim3"), (f"{name}-two", "sim1")} <= seen:
            record = json.loads(following.stdout.readline())
            if record["data"].get("status") == "Paused":
                seen.add((record["host"], record["data"]["vmName"]))
        following.send_signal(signal.SIGINT)
        assert following.wait(20 * BUSY) == 0
    finally:
        following.kill()
        following.communicate()


def test_what_happened_on_all_hosts_by_time(shell: Shell, name: str) -> None:
    done = shell.run("--bus", shell.environment["VDSM_BUS"], "--output", "json", "events")
    told = [record for record in json.loads(done.stdout) if record["host"].startswith(name)]
    assert {record["host"] for record in told} == {f"{name}-one", f"{name}-two"}
    assert [record["time"] for record in told] == sorted(record["time"] for record in told)
    line = shell.run("--bus", shell.environment["VDSM_BUS"], "events", "--type", "Host_started").stdout
    assert f"{name}-one" in line


# ---- one of them -----------------------------------------------------------------------------------------------------

FLOW = re.compile('"flowId": "[^"]+"|urn:vdsm:flow:[^"]+')  # each call's own
SAME = [
    ["vm", "list"],
    ["--output", "json", "vm", "list", "--fields", "vmName,status"],
    ["--output", "json", "vm", "list", "--where", "vmName=sim2"],
    ["--output", "yaml", "vm", "list", "--fields", "vmName"],
    ["vm", "list", "--fields", "nonsense"],
    ["vm", "info", "sim1"],
    ["vm", "info", "nobody"],
    ["vm", "info", "sim"],
    ["vm", "pause", "sim1", "--plan"],
    ["--output", "json", "vm", "rename", "sim1", "other"],
    ["vm", "create", "--name", "x", "--memory", "8"],
    ["vm", "create", "--name", "x", "--memory", "64", "--cdrom", "/etc/passwd"],
    ["call", "Host.echo", "message=grüß"],
    ["call", "VM.getInfo", "vmID=nobody"],
    ["events", "--type", "VM_defined"],
    ["explain", "vm", "sim2"],
    ["help", "vm", "list"],
]


@pytest.mark.parametrize("words", SAME, ids=" ".join)
def test_every_command_is_as_on_the_host_itself(shell: Shell, one: Daemon, name: str, words: list[str]) -> None:
    here = one.shell(*words, ok=False)
    there = shell.run("--host", f"{name}-one", *words)
    assert (there.stdout, there.returncode) == (here.stdout, here.returncode)
    assert FLOW.sub("", there.stderr) == FLOW.sub("", here.stderr)


def test_changes(shell: Shell, one: Daemon, name: str) -> None:
    there = ("--host", f"{name}-o")  # the beginning of its name
    made = shell.json(*there, "vm", "create", "--name", "web1", "--memory", "64")
    assert one.json("vm", "info", "web1")["vmId"] == made["vmId"]
    paused = shell.run(*there, "vm", "pause", "web1")
    assert (paused.returncode, paused.stdout.split()[0]) == (0, "web1"), paused
    assert one.json("vm", "info", "web1")["status"] == "Paused"
    assert shell.run(*there, "vm", "cont", "web1").returncode == 0
    left = shell.run(*there, "vm", "shutdown", "web1", "--wait", "0")
    assert (left.returncode, left.stderr.split()[0]) == (STILL_RUNNING, "task"), left
    done = shell.run(*there, "task", "watch", left.stdout.strip())
    assert done.returncode == 0, done
    assert one.json("vm", "info", "web1")["status"] == "Down"
    assert shell.run(*there, "vm", "undefine", "web1").returncode == 0


def test_the_audit_names_who_it_was(shell: Shell, one: Daemon, name: str) -> None:
    shell.run("--host", f"{name}-one", "host", "set-log-level", "INFO", "--name", "vdsm.core")
    record = one.json("audit", "list")[-1]
    assert (record["caller"], record["channel"], record["method"]) == ("bus:engine", "qmf", "Host.setLogLevel")


def test_follow_one_host(shell: Shell, two: Daemon, name: str) -> None:
    following = shell.begin("--host", f"{name}-two", "events", "--follow", "--type", "VM_defined", "--since", "0")
    assert following.stdout is not None
    try:
        two.shell("vm", "define", "--name", "late", "--memory", "64")
        until("it is told", lambda: "late" in following.stdout.readline())
    finally:
        following.kill()
        following.communicate()
        two.shell("vm", "undefine", "late")


def test_names_of_hosts_are_completed(shell: Shell, name: str) -> None:
    done = shell.run("__complete", "bash", f"vdsmsh --host {name}-")
    assert done.stdout.split() == [f"{name}-one", f"{name}-two"]
    done = shell.run("__complete", "bash", f"vdsmsh --host {name}-one vm pause sim")
    assert done.stdout.split() == ["sim1", "sim2", "sim3"]


def test_many_commands_over_one_connection(shell: Shell, name: str) -> None:
    lines = f"vm list --fields vmName\n--host {name}-two vm list --fields vmName\nexit\n"
    done = subprocess.run(
        [VDSMSH, "--host", f"{name}-one"], input=lines, capture_output=True, text=True, timeout=60 * BUSY,
        env=shell.environment,
    )  # fmt: skip
    assert done.stdout.split() == ["NAME", "sim1", "sim2", "sim3", "NAME", "sim1"]


# ---- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--bus", "{bus}", "vm", "list"], USAGE, "which host of the bus?"),
        (["--host", "nobody-there", "vm", "list"], UNREACHABLE, "no host called 'nobody-there' is heard"),
        (["--host", "{both}", "vm", "list"], UNREACHABLE, "may mean"),
        (["--bus", "http://x", "host", "list"], USAGE, "scheme"),
        (["--bus", "amqp://127.0.0.1:1", "--host", "x", "vm", "list"], UNREACHABLE, "cannot use the bus"),
        (["--host", "{one}", "--url", "https://x", "vm", "list"], USAGE, "exclude"),
        (["--host", "{one}", "vm", "console", "sim1"], REFUSED, "a two-way stream, which this protocol cannot carry"),
        (["--bus", "{bus}", "events", "--since", "7"], USAGE, "each host numbers its own events"),
    ],
    ids=["no host", "unknown host", "two hosts", "no bus", "no broker", "two ways", "a stream", "an id of which host"],
)
def test_what_cannot_be_is_told(shell: Shell, name: str, words: list[str], code: int, said: str) -> None:
    filled = [word.format(bus=shell.environment["VDSM_BUS"], one=f"{name}-one", both=name) for word in words]
    done = shell.run(*filled, env={"VDSM_TOKEN_FILE": ""} if "127.0.0.1:1" in " ".join(filled) else None)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "hint:" in done.stderr


def test_the_environment_names_the_files_of_tls(shell: Shell, rabbitmq: RabbitMQ, name: str) -> None:
    ca = str(rabbitmq.authority.certificate)
    done = shell.run("--bus", rabbitmq.tls_url("engine"), "--host", f"{name}-one", "vm", "list", env={"VDSM_CA": ca})
    assert done.returncode == 0, done.stderr
    trusted = shell.run("--host", f"{name}-one", "vm", "list", env={"VDSM_CA": ca})
    assert trusted.returncode == 0, "an address without TLS takes no offence"
    untrusted = shell.run("--bus", rabbitmq.tls_url("engine"), "host", "list", env={"VDSM_CA": ""})
    assert untrusted.returncode == UNREACHABLE
    assert "VDSM_CA" in untrusted.stderr.split("hint:")[1]


def test_who_shows_a_certificate_by_the_environment(shell: Shell, rabbitmq: RabbitMQ, name: str) -> None:
    shown = rabbitmq.authority.client("engine")
    files = {
        "VDSM_CA": str(rabbitmq.authority.certificate),
        "VDSM_CERT": str(shown.certificate),
        "VDSM_KEY": str(shown.key),
    }
    done = shell.run(
        "--bus", rabbitmq.tls_url("engine"), "--host", f"{name}-one", "vm", "list", env={**files, "VDSM_TOKEN_FILE": ""}
    )
    assert done.returncode == 0, done.stderr
    keyless = shell.run(
        "--bus", rabbitmq.tls_url(), "host", "list", env={**files, "VDSM_KEY": "", "VDSM_TOKEN_FILE": ""}
    )
    assert keyless.returncode == UNREACHABLE
    assert "--key" in keyless.stderr


def test_without_a_bus_there_is_no_list_of_hosts(one: Daemon) -> None:
    done = one.shell("host", "list", ok=False, env={"VDSM_BUS": ""})
    assert done.returncode == USAGE
    assert "--bus" in done.stderr


def test_a_wrong_password_is_told_without_being_shown(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "wrong"
    file.write_text("hush-hush\n")
    done = shell.run("host", "list", env={"VDSM_TOKEN_FILE": f"{file}"})
    assert done.returncode == UNREACHABLE
    assert "hush" not in done.stderr
    assert done.stderr.count("does not accept these credentials") == 1
