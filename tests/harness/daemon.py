# SPDX-License-Identifier: Apache-2.0
"""A vdsmd of one test's own: its directories, its mark in the machines it makes, its process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import libvirt

from vdsm.client import Host, Unreachable, connect
from vdsm.contract.errors import RecoveryInProgress

from .until import BUSY, until

VDSMD = ("-m", "vdsm.daemon")


class Daemon:
    """Start and end it as often as wanted; its state stays in `home`. Every machine it makes is named `prefix`..."""

    def __init__(self, home: Path, prefix: str, *, uri: str, config: str = "") -> None:
        self.home = home
        self.prefix = prefix
        self.uri = uri
        self.images = home / "images"
        self.images.mkdir(parents=True, exist_ok=True)
        self.storage = home / "storage"
        self.socket = home / "run/api.sock"
        self.log = home / "vdsmd.log"
        self.file = home / "vdsmd.toml"
        self.configure(config)
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, more: str = "", *, storage: str = "") -> None:
        """Write the configuration; `more` is TOML that follows the tables every test needs, `storage` goes into its
        table."""
        self.file.write_text(
            f'[libvirt]\nuri = "{self.uri}"\n[vm]\ndirectories = ["{self.images}"]\n'
            f'[storage]\ndirectories = ["{self.storage}"]\nrepository = "{self.home}/data-center"\n'
            f"{storage}\n"
            f'[daemon]\nowner = "{self.prefix}"\n'
            f'state_directory = "{self.home}/state"\nrun_directory = "{self.home}/run"\n' + more
        )

    def launch(
        self, *arguments: str, program: Sequence[str] = VDSMD, inside: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """Begin without waiting for anything. `inside` goes before the command line."""
        assert self._process is None or self._process.poll() is not None, "it runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*inside, sys.executable, *program, "--config", str(self.file), *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        return self._process

    def start(self, *arguments: str, program: Sequence[str] = VDSMD, inside: Sequence[str] = ()) -> None:
        """Begin and wait until it answers."""
        process = self.launch(*arguments, program=program, inside=inside)

        def answers() -> bool:
            assert process.poll() is None, f"vdsmd ended with {process.returncode}:\n{self.said()}"
            return self.answers()

        until("vdsmd answers", answers)

    def answers(self) -> bool:
        try:
            with self.connect() as host:
                host.host.ping2()
        except (Unreachable, RecoveryInProgress):
            return False
        return True

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was never started"
        return self._process

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def terminate(self, seconds: float = 20.0) -> int:
        """SIGTERM; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds * BUSY)

    def end(self) -> None:
        """Whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            try:
                self.terminate()
            except subprocess.TimeoutExpired:
                self.kill()

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    def connect(self) -> Host:
        return connect(f"unix:{self.socket}")

    def shell(
        self, *arguments: str, stdin: bytes = b"", ok: bool = True, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run vdsmsh on it; with `ok` it must succeed."""
        done = subprocess.run(
            [str(Path(sys.executable).parent / "vdsmsh"), *arguments],
            input=stdin.decode(), capture_output=True, text=True, timeout=120 * BUSY,
            env={**os.environ, "VDSM_URL": f"unix:{self.socket}", **(env or {})},
        )  # fmt: skip
        assert not ok or done.returncode == 0, f"vdsmsh {' '.join(arguments)}: {done.returncode}\n{done.stderr}"
        return done

    def json(self, *arguments: str) -> Any:
        """What vdsmsh answers as JSON."""
        return json.loads(self.shell("--output", "json", *arguments).stdout)

    def name(self, what: str) -> str:
        """A name for a machine that is this test's own."""
        return f"{self.prefix}-{what}"

    def domains(self) -> dict[str, libvirt.virDomain]:
        """libvirt's own word on which machines with our prefix there are."""
        return domains(self.uri, self.prefix)


def domains(uri: str, prefix: str) -> dict[str, libvirt.virDomain]:
    connection = libvirt.open(uri)
    return {d.name(): d for d in connection.listAllDomains() if d.name().startswith(prefix)}


def remove_domains(uri: str, prefix: str) -> None:
    """Every machine with the prefix, running or not. Together, as each takes libvirt a second or two."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(_remove, domains(uri, prefix).values()))


def _remove(domain: libvirt.virDomain) -> None:
    persistent = domain.isPersistent()
    if domain.isActive():
        domain.destroy()
    if persistent:
        domain.undefineFlags(
            libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
            | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        )
