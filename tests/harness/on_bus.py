# SPDX-License-Identifier: Apache-2.0
"""Daemons that join a bus, a gateway to one of them, and vdsmsh over it."""

from __future__ import annotations

from pathlib import Path

from vdsm.client.qmf.fleet import Fleet, connect_bus

from .rabbitmq import RabbitMQ
from .stomp import Wired
from .until import until

GATEWAY = ("-m", "vdsm.gateway")


def bus_table(home: Path, broker: RabbitMQ, name: str, user: str = "host-a") -> str:
    """The [bus] table of a host called `name`; the broker's users engine and viewer have the roles one would think."""
    return (
        f'[bus]\naddress = "{broker.url().replace("://", f"://{user}@")}"\npassword_file = "{password(home, user)}"\n'
        f'name = "{name}"\nusers = {{ engine = "admin", viewer = "viewer" }}\nheartbeat_seconds = 1\n'
    )


def password(home: Path, user: str) -> Path:
    """A file with the password that the tests' broker has for that user."""
    file = home / f"{user}.password"
    file.write_text(f"{user}\n")
    file.chmod(0o600)
    return file


def connect(broker: RabbitMQ, user: str = "engine") -> Fleet:
    return connect_bus(broker.url(user))


class Gateway(Wired):
    """The doors of the host `name`, as `Wired` has them: a plain port, a TLS port, a unix socket."""

    def __init__(self, home: Path, prefix: str, broker: RabbitMQ, name: str, user: str = "engine") -> None:
        home.mkdir(exist_ok=True)
        super().__init__(home, prefix)
        self.file.write_text(self.file.read_text().replace("[rest]\n", f'[rest]\nsocket = "{self.socket}"\n'))
        address = broker.url().replace("://", f"://{user}@")
        self._arguments = ("--bus", address, "--password-file", f"{password(home, user)}", "--host", name)

    def serve(self, machines: int = 0) -> Gateway:
        """Until the host is reached through it."""
        assert not machines, "the host has them"
        self.begin()
        until("the host answers", self.answers)
        return self

    def begin(self) -> None:
        """Until its doors are open."""
        self.socket.parent.mkdir(exist_ok=True)
        process = self.launch(*self._arguments, program=GATEWAY)
        until("it says where it serves", lambda: "serves" in self.said() or process.poll() is not None)
        assert process.poll() is None, self.said()
