# SPDX-License-Identifier: Apache-2.0
"""vdsmd as a process: its command line, signals, doors and service manager. The host it serves is simulated."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.until import BUSY, until
from vdsm import __version__

VDSMD = (sys.executable, "-m", "vdsm.daemon")


class Simulated:
    """A vdsmd that serves a simulated host from a directory of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.file = home / "vdsmd.toml"
        self.socket = home / "run/api.sock"
        self.log = home / "log"
        self._processes: list[subprocess.Popen[bytes]] = []
        self.configure()

    def configure(self, more: str = "") -> None:
        self.file.write_text(
            f'[daemon]\nstate_directory = "{self.home}/state"\nrun_directory = "{self.home}/run"\n{more}'
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*VDSMD, "--config", str(self.file), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30 * BUSY)

    def launch(
        self, *arguments: str, simulate: bool = True, env: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*VDSMD, "--config", str(self.file), *(["--simulate"] if simulate else []), *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **(env or {})},
            )  # fmt: skip
        self._processes.append(process)
        return process

    def start(
        self, *arguments: str, simulate: bool = True, env: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        process = self.launch(*arguments, simulate=simulate, env=env)

        def serves() -> bool:
            assert process.poll() is None, self.said()
            return ") serves " in self.said()

        until("vdsmd serves", serves)
        return process

    def said(self) -> str:
        return self.log.read_text()

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        connection = UnixConnection(self.socket)
        with contextlib.closing(connection):
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"} if text else {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")

    def end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20 * BUSY)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20 * BUSY)
        self.sock.connect(str(self._path))


@pytest.fixture
def vdsmd(tmp_path: Path) -> Iterator[Simulated]:
    made = Simulated(tmp_path)
    yield made
    made.end()


# ---- the command line ------------------------------------------------------------------------------------------------


def test_the_version_costs_next_to_nothing() -> None:
    heavy = ["asyncio", "cryptography", "libvirt", "msgspec", "prometheus_client", "sqlite3", "ssl", "uvicorn"]
    code = (
        "import sys; from vdsm.daemon.__main__ import main\n"
        "try: main(['--version'])\n"
        f"finally: print([name for name in {heavy} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"vdsmd {__version__}\n[]\n"


def test_show_config(vdsmd: Simulated) -> None:
    vdsmd.configure("[rest]\nport = 1234\n")
    done = vdsmd.run("--show-config")
    assert done.returncode == 0
    assert "port = 1234" in done.stdout
    (vdsmd.home / "again.toml").write_text(done.stdout)
    vdsmd.file = vdsmd.home / "again.toml"
    assert vdsmd.run("--show-config").stdout == done.stdout


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("[rest]\nprot = 1", r"\[rest\]: there is no key 'prot', did you mean 'port'"),
        ("[rest", "it is not TOML"),
        ("[rest]\nenabled = false", r"\[rest\] enabled: every door is closed"),
        ("[access]\nusers = { nobody-of-that-name = 'viewer' }", r"\[access\] users: there is no user"),
        ("[rest]\nsocket_group = 'no-such-group'", "there is no group 'no-such-group'"),
        ("[simulate]\nfaults = 'start:nonsense'", r"\[simulate\] faults"),
    ],
)
def test_a_wrong_configuration_is_told_and_nothing_starts(vdsmd: Simulated, config: str, said: str) -> None:
    vdsmd.configure(config)
    done = vdsmd.run("--simulate")
    assert done.returncode == 2
    assert re.search(said, done.stderr)
    assert done.stderr.startswith("vdsmd: ")
    assert "Traceback" not in done.stderr
    assert not vdsmd.socket.exists()


@pytest.mark.parametrize("arguments", [("--simulate", "-4"), ("--simulate", "many"), ("--nonsense",), ("pki",)])
def test_wrong_arguments(vdsmd: Simulated, arguments: tuple[str, ...]) -> None:
    done = vdsmd.run(*arguments)
    assert done.returncode == 2
    assert "usage: vdsmd" in done.stderr


# ---- start and end ---------------------------------------------------------------------------------------------------


def test_it_serves_and_leaves_nothing_behind(vdsmd: Simulated) -> None:
    process = vdsmd.start("4")
    status, machines = vdsmd.ask("GET", "/api/v1/vms")
    assert (status, len(machines)) == (200, 4)
    assert vdsmd.ask("GET", "/health") == (200, {"status": "ok"})
    assert (vdsmd.home / "run/vdsmd.pid").read_text() == f"{process.pid}\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20 * BUSY) == 0
    assert [file.name for file in (vdsmd.home / "run").iterdir()] == []
    assert "Traceback" not in vdsmd.said()
    assert vdsmd.said().splitlines()[-1].endswith("stopped")


def test_a_second_daemon_is_refused(vdsmd: Simulated) -> None:
    first = vdsmd.start()
    done = vdsmd.run("--simulate")
    assert done.returncode == 1
    assert f"another vdsmd (process {first.pid}) runs in {vdsmd.home}/run" in done.stderr
    assert vdsmd.ask("GET", "/health")[0] == 200


def test_kill_minus_nine_does_not_hinder_the_next(vdsmd: Simulated) -> None:
    first = vdsmd.start()
    first.kill()
    first.wait()
    vdsmd.log.unlink()
    vdsmd.start()
    assert vdsmd.ask("GET", "/health")[0] == 200


def test_a_place_that_cannot_be_used_is_told(vdsmd: Simulated) -> None:
    (vdsmd.home / "run").write_text("")
    done = vdsmd.run("--simulate")
    assert done.returncode == 1
    assert "[daemon] run_directory" in done.stderr
    assert "Traceback" not in done.stderr
    (vdsmd.home / "run").unlink()
    vdsmd.socket.parent.mkdir()
    vdsmd.socket.write_text("precious")
    done = vdsmd.run("--simulate")
    assert done.returncode == 1
    assert "no socket is in the place of the socket" in done.stderr
    assert "Traceback" not in done.stderr
    assert vdsmd.socket.read_text() == "precious"


def begin(vdsmd: Simulated, name: str) -> tuple[threading.Thread, list[tuple[int, Any]]]:
    """Create a machine in another thread; returns when its task runs."""
    answers: list[tuple[int, Any]] = []

    def create() -> None:
        try:
            answers.append(vdsmd.ask("POST", "/api/v1/vms", {"vmParams": {"name": name, "memory": 64}}))
        except (OSError, http.client.HTTPException) as error:
            answers.append((0, error))

    thread = threading.Thread(target=create)
    thread.start()
    until("the task runs", lambda: vdsmd.ask("GET", "/api/v1/tasks")[1])
    return thread, answers


def test_sigterm_lets_what_runs_finish_and_tells_who_listens(vdsmd: Simulated) -> None:
    vdsmd.configure('[simulate]\nfaults = "start:delay=1.0"\n')
    process = vdsmd.start("0")
    events = UnixConnection(vdsmd.socket)
    with contextlib.closing(events):
        events.request("GET", "/api/v1/events")
        stream = events.getresponse()
        thread, answers = begin(vdsmd, "late")
        process.send_signal(signal.SIGTERM)
        told = stream.read().decode()  # to its end: the daemon closes it
    thread.join()
    assert process.wait(20 * BUSY) == 0
    status, made = answers[0]
    assert status in (200, 201), made
    assert made["vmName"] == "late"
    assert "Host_stopping" in told


def test_what_does_not_finish_in_time_is_cut_short(vdsmd: Simulated) -> None:
    vdsmd.configure('drain_seconds = 0.3\n[simulate]\nfaults = "start:hang"\n')
    process = vdsmd.start("0")
    thread, answers = begin(vdsmd, "never")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10 * BUSY) == 0
    thread.join()
    status, problem = answers[0]
    assert (status, problem.get("type")) == (503, "urn:vdsm:problem:recovery-in-progress")
    assert "Traceback" not in vdsmd.said()


def test_the_second_signal_ends_it_at_once(vdsmd: Simulated) -> None:
    vdsmd.configure('drain_seconds = 300\n[simulate]\nfaults = "start:hang"\n')
    process = vdsmd.start("0")
    thread, _ = begin(vdsmd, "never")
    process.send_signal(signal.SIGTERM)
    until("it drains", lambda: "stopping" in vdsmd.said())
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(5 * BUSY) == -signal.SIGINT
    thread.join()


def test_sighup_takes_up_the_log_settings(vdsmd: Simulated) -> None:
    process = vdsmd.start()
    vdsmd.configure('[log]\nlevel = "DEBUG"\nformat = "json"\n')
    process.send_signal(signal.SIGHUP)
    until("the level is new", lambda: "the log's level is DEBUG" in vdsmd.said())
    assert json.loads(vdsmd.said().splitlines()[-1])["logger"] == "vdsm.daemon.serve"
    vdsmd.configure("[log]\nlevel = 1\n")
    process.send_signal(signal.SIGHUP)
    until("the fault is told", lambda: "the configuration stays as it was" in vdsmd.said())
    assert vdsmd.ask("GET", "/health")[0] == 200


# ---- in the background -----------------------------------------------------------------------------------------------


def test_background_returns_when_it_is_ready(vdsmd: Simulated) -> None:
    done = vdsmd.run("--simulate", "--background")
    assert done.returncode == 0, done.stderr
    pid = int((vdsmd.home / "run/vdsmd.pid").read_text())
    try:
        assert f"process {pid}, log {vdsmd.home}/state/vdsmd.log" in done.stdout
        assert vdsmd.ask("GET", "/health") == (200, {"status": "ok"})
        assert os.getsid(pid) == pid, "it left the terminal"
        assert ") serves " in (vdsmd.home / "state/vdsmd.log").read_text()
    finally:
        os.kill(pid, signal.SIGTERM)
        until("it is gone", lambda: not (vdsmd.home / "run/vdsmd.pid").exists())


def test_background_tells_why_it_could_not_start(vdsmd: Simulated) -> None:
    vdsmd.socket.parent.mkdir()
    vdsmd.socket.write_text("")
    log = vdsmd.home / "other.log"
    log.write_text("an older line\n")
    done = vdsmd.run("--simulate", "--background", "--log-file", str(log))
    assert done.returncode == 1
    assert "no socket is in the place of the socket" in done.stderr
    assert "an older line" not in done.stderr
    assert "an older line" in log.read_text()


# ---- certificates ----------------------------------------------------------------------------------------------------


def https(vdsmd: Simulated, port: int, client: str = "", headers: dict[str, str] | None = None) -> tuple[int, str]:
    """The status of a read over TLS, and the fingerprint of who answered."""
    pki = vdsmd.home / "state/pki"
    context = ssl.create_default_context(cafile=str(pki / "ca.pem"))
    if client:
        context.load_cert_chain(pki / f"clients/{client}.pem", pki / f"clients/{client}.key")
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=20 * BUSY)
    with contextlib.closing(connection):
        connection.request("GET", "/api/v1/vms", headers=headers or {})
        assert isinstance(connection.sock, ssl.SSLSocket)
        certificate = connection.sock.getpeercert(binary_form=True)
        status = connection.getresponse().status
        return status, str(hash(certificate))


def port_of(vdsmd: Simulated) -> int:
    found = re.findall(r"https://127\.0\.0\.1:(\d+)", vdsmd.said())
    return int(found[-1])


def test_tls_from_pki_to_renewal_without_a_restart(vdsmd: Simulated) -> None:
    vdsmd.configure('[rest]\nlisten = "127.0.0.1"\nport = 0\n[access]\ncertificates = { alice = "viewer" }\n')
    refused = vdsmd.run("--simulate")
    assert refused.returncode == 1
    assert "`vdsmd pki init` makes it" in refused.stderr
    for arguments in (("init", "host.example.org"), ("client", "alice"), ("client", "bob")):
        done = vdsmd.run("pki", *arguments)
        assert done.returncode == 0, done.stderr
    assert '[access] certificates = { "bob" = "operator" }' in done.stdout
    process = vdsmd.start("2")
    port = port_of(vdsmd)
    status, before = https(vdsmd, port, "alice")
    assert status == 200
    assert https(vdsmd, port, "bob")[0] == 401, "a certificate that nobody gave a role"
    assert https(vdsmd, port)[0] == 401
    status, token = vdsmd.ask("POST", "/api/v1/tokens", {"name": "t", "role": "viewer"})
    assert status in (200, 201)
    assert https(vdsmd, port, headers={"Authorization": f"Bearer {token['token']}"})[0] == 200

    assert "nothing is due" in vdsmd.run("pki", "renew").stdout
    assert vdsmd.run("pki", "renew", "--all").returncode == 0
    after = until(
        "the new certificate serves", lambda: fresh if (fresh := https(vdsmd, port, "alice")[1]) != before else ""
    )
    assert after != before
    assert process.poll() is None
    shown = vdsmd.run("pki", "show")
    assert shown.stdout.count("good") == 4
    assert "host.example.org" in shown.stdout


def test_pki_says_what_is_wrong(vdsmd: Simulated) -> None:
    for arguments, said in (
        (("show",), "`vdsmd pki init`"),
        (("client", "alice"), "`vdsmd pki init`"),
        (("init", "no name"), "not a host name or address"),
        (("client", "../x"), "no name for a client"),
    ):
        done = vdsmd.run("pki", *arguments)
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr


# ---- systemd ---------------------------------------------------------------------------------------------------------


def test_the_service_manager_is_told(vdsmd: Simulated) -> None:
    address = f"{vdsmd.home}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(20 * BUSY)
        process = vdsmd.start(env={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"})
        heard = [manager.recv(1000).decode() for _ in range(3)]
        assert heard[0].startswith("READY=1\nSTATUS=serving")
        assert heard[1:] == ["WATCHDOG=1"] * 2
        process.send_signal(signal.SIGTERM)
        while "STOPPING=1" not in (heard := [manager.recv(1000).decode()])[0]:
            assert heard == ["WATCHDOG=1"]
        assert process.wait(20 * BUSY) == 0


def test_a_socket_that_systemd_opened_is_served(vdsmd: Simulated) -> None:
    passed = vdsmd.home / "passed.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(passed))
        listening.listen()
        fd = listening.fileno()
        as_systemd_does = (
            f"import os, sys; {fd} == 3 or os.dup2({fd}, 3); os.environ |= "
            "{'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid())}; os.execv(sys.argv[1], sys.argv[1:])"
        )
        arguments = [*VDSMD, "--config", str(vdsmd.file), "--simulate"]
        with vdsmd.log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", as_systemd_does, *arguments],
                pass_fds=[fd], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            until("vdsmd serves", lambda: ") serves " in vdsmd.said() or process.poll() is not None)
            vdsmd.socket = passed
            assert vdsmd.ask("GET", "/health") == (200, {"status": "ok"})
            assert not (vdsmd.home / "run/api.sock").exists()
        finally:
            process.terminate()
            assert process.wait(20 * BUSY) == 0


# ---- the real drivers, where the world fails them --------------------------------------------------------------------


def test_without_libvirt_it_serves_and_says_so(vdsmd: Simulated) -> None:
    vdsmd.configure(f'[libvirt]\nuri = "qemu:///system?socket={vdsmd.home}/nobody"\n')
    process = vdsmd.start(simulate=False)
    assert "libvirt has not answered yet" in vdsmd.said()
    status, problem = vdsmd.ask("POST", "/api/v1/vms", {"vmParams": {"name": "a", "memory": 64}})
    assert (status, problem["type"]) == (503, "urn:vdsm:problem:hypervisor-unavailable")
    assert vdsmd.ask("GET", "/api/v1/host/ping2")[0] == 204
    process.send_signal(signal.SIGTERM)
    assert process.wait(20 * BUSY) == 0
    assert "Traceback" not in vdsmd.said()


def test_a_state_that_cannot_be_kept_is_told(vdsmd: Simulated) -> None:
    (vdsmd.home / "state").mkdir()
    (vdsmd.home / "state/db").write_text("")
    done = vdsmd.run()
    assert done.returncode == 1
    assert f"{vdsmd.home}/state/db" in done.stderr
    assert "[daemon] state_directory" in done.stderr
    assert "Traceback" not in done.stderr
    assert not vdsmd.socket.exists()


def test_the_journal_says_whether_the_last_end_was_clean(vdsmd: Simulated) -> None:
    vdsmd.configure(f'[libvirt]\nuri = "qemu:///system?socket={vdsmd.home}/nobody"\n')
    process = vdsmd.start(simulate=False)
    process.kill()
    process.wait()
    vdsmd.log.unlink()
    process = vdsmd.start(simulate=False)
    _, page = vdsmd.ask("GET", "/api/v1/events/history?types=Host_started")
    first, second = page["events"]
    assert (first["data"]["clean"], second["data"]["clean"]) == (True, False)
    assert first["id"] < second["id"]
