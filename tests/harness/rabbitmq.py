# SPDX-License-Identifier: Apache-2.0
"""A RabbitMQ of the tests' own: node name, ports, directories, cookie, port mapper. It touches no other."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from harness.certificates import Authority
from harness.until import until

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = Path("/usr/lib/rabbitmq/lib")
USERS = ("host-a", "host-b", "engine", "viewer", "stranger")
"""Each with its own name for a password, and known by a certificate of that name."""

_CONFIGURATION = """
listeners.tcp.1 = 127.0.0.1:{port}
listeners.ssl.1 = 127.0.0.1:{tls_port}
ssl_options.cacertfile = {ca}
ssl_options.certfile = {certificate}
ssl_options.keyfile = {key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
ssl_cert_login_from = common_name
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = EXTERNAL
auth_mechanisms.3 = ANONYMOUS
amqp1_0.default_user = stranger
loopback_users = none
load_definitions = {definitions}
log.console = false
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
"""


class RabbitMQ:
    """Ports and data last over `kill` and `start`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.authority = Authority(home / "tls")
        self._node = f"vdsmtest-{secrets.token_hex(4)}@localhost"
        self.port, self.tls_port, self._dist_port, self._epmd_port = _free_ports(4)
        self._epmd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        for name in ("home", "data", "log"):
            (home / name).mkdir()
        (home / "enabled_plugins").write_text("[rabbitmq_amqp1_0,rabbitmq_auth_mechanism_ssl].\n")
        self._write_definitions()
        host = self.authority.host("localhost")
        (home / "rabbitmq.conf").write_text(
            _CONFIGURATION.format(
                port=self.port,
                tls_port=self.tls_port,
                ca=self.authority.certificate,
                certificate=host.certificate,
                key=host.key,
                definitions=home / "definitions.json",
            )
        )

    def url(self, user: str = "") -> str:
        """Of `user`, or of nobody in particular."""
        return f"amqp://{f'{user}:{user}@' if user else ''}127.0.0.1:{self.port}"

    def tls_url(self, user: str = "", password: str = "") -> str:
        return f"amqps://{user}{password and ':'}{password}{'@' if user else ''}localhost:{self.tls_port}"

    def launch(self) -> None:
        """Begin to start; it takes seconds."""
        if self._epmd is None:
            command = ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"]
            self._epmd = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        with (self.home / "log/out").open("ab") as out:
            self._server = subprocess.Popen(
                [_program("rabbitmq-server")],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def start(self) -> None:
        self.launch()
        self.wait()

    def wait(self) -> None:
        """Until it takes connections."""
        until("RabbitMQ listens", lambda: self._listens() or self._ended_early(), seconds=60, every=0.1)

    def kill(self) -> None:
        """As a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)
        if self._epmd:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None

    def control(self, *words: str) -> str:
        """What `rabbitmqctl` says; it takes seconds."""
        command = [_program("rabbitmqctl"), "--quiet", *words]
        done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"rabbitmqctl {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def _write_definitions(self) -> None:
        definitions = json.loads((ROOT / "packaging/rabbitmq/definitions.json").read_text())
        everything = {"vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
        definitions["users"] = [{"name": user, "password": user, "tags": ""} for user in USERS]
        definitions["permissions"] = [{"user": user, **everything} for user in USERS]
        (self.home / "definitions.json").write_text(json.dumps(definitions))

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": f"{self.home}/home",  # where the cookie is made
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": f"{self.home}/data",
            "RABBITMQ_LOG_BASE": f"{self.home}/log",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{self.home}/enabled_plugins",
            "RABBITMQ_CONFIG_FILE": f"{self.home}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{self.home}/advanced.config",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_PID_FILE": f"{self.home}/pid",
            # One scheduler that sleeps when idle: it shares the machine with the tests.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.tls_port), timeout=1):
            return True
        return False

    def _ended_early(self) -> bool:
        assert self._server is not None
        status = self._server.poll()
        assert status is None, f"RabbitMQ ended with {status}: {(self.home / 'log/out').read_text()[-2000:]}"
        return False

    def _signal(self, number: int) -> None:
        assert self._server is not None
        os.killpg(self._server.pid, number)

    def _end(self, number: int) -> None:
        if self._server is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._signal(number)
        try:
            self._server.wait(60)
            # That was the script; the broker itself is a child of its, and ends a moment later.
            until("RabbitMQ is gone", lambda: not self._listens(), seconds=20)
        finally:
            with contextlib.suppress(ProcessLookupError):
                self._signal(signal.SIGKILL)
            self._server = None


@contextlib.contextmanager
def running(home: Path) -> Iterator[RabbitMQ]:
    broker = RabbitMQ(home)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def _program(name: str) -> str:
    """Debian's own scripts in /usr/sbin insist on the user and the places of Debian's service."""
    found = sorted(PROGRAMS.glob(f"rabbitmq_server-*/sbin/{name}"))
    assert found, "RabbitMQ is not installed; scripts/test installs it, or: apt-get install rabbitmq-server"
    return str(found[-1])


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
