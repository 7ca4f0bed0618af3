# SPDX-License-Identifier: Apache-2.0
"""The ovirt-imageio process: its configuration, start and end, and its control socket. All of it may block."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from vdsm.contract.errors_storage import ImageDaemonError
from vdsm.drivers.files import clean

_START_S = 20.0
_ANSWER_S = 5.0
_END_S = 1.0  # to end when asked; it keeps nothing that would be lost
_POLL_S = 0.02
_ANSWER_MAX = 1 << 20
_PEER = struct.Struct("3i")  # process, user, group
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """Where clients come in. Without certificates on the loopback address only: tickets would be read on the way."""

    host: str = "::"
    port: int = 54322
    key_file: str = ""
    cert_file: str = ""
    ca_file: str = ""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    status: int
    body: bytes


class Daemon:
    """One ovirt-imageio, whose configuration, socket and log are in `directory`."""

    def __init__(self, directory: Path, door: Door) -> None:
        self._directory = directory
        self._socket = directory / "control.sock"
        self._configuration = configuration(directory, door)
        self._process: subprocess.Popen[bytes] | None = None

    def ensure(self) -> None:
        """Let it run: one that an earlier vdsmd left is kept, unless its configuration was another."""
        file = self._directory / "conf.d/50-vdsm.conf"
        if self.pid():
            if _read(file) == self._configuration:
                return
            self.stop()
        self._reap()
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.chmod(0o700)
        file.write_text(self._configuration)
        self._socket.unlink(missing_ok=True)
        self._start()

    def stop(self) -> None:
        """Its clients can go on where they were when there is a ticket again."""
        if pid := self.pid():
            _end(pid, self._process)
        self._reap()
        self._socket.unlink(missing_ok=True)

    def ask(self, method: str, path: str, body: object | None, seconds: float) -> Answer:
        """One request to the control socket. Raises ImageDaemonError, TimeoutError."""
        connection = _Connection(str(self._socket), seconds)
        try:
            data = None if body is None else msgspec.json.encode(body)
            connection.request(method, path, body=data, headers={"Content-Type": "application/json"})
            answer = connection.getresponse()
            return Answer(status=answer.status, body=answer.read(_ANSWER_MAX))
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise ImageDaemonError(reason=clean(str(error)) or type(error).__name__) from None
        finally:
            connection.close()

    def _start(self) -> None:
        program = Path(sys.executable).with_name("ovirt-imageio")  # of the same environment
        with (self._directory / "stderr").open("wb") as errors:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, str(program), "--conf-dir", str(self._directory)],
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                    cwd="/",
                    env=_ENVIRONMENT,
                    start_new_session=True,
                )
            except OSError as error:
                raise ImageDaemonError(reason=f"{program}: {error.strerror}") from None
        until = time.monotonic() + _START_S
        while not self.pid():
            if self._process.poll() is not None or time.monotonic() > until:
                self._reap()
                raise ImageDaemonError(reason=f"it did not start: {self._last_words()}")
            time.sleep(_POLL_S)

    def _reap(self) -> None:
        """Leave nothing of the one that was started here."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pid(self) -> int:
        """The process at the other end of the control socket; 0: none."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as door:
            door.settimeout(_ANSWER_S)
            door.connect(str(self._socket))
            pid, _, _ = _PEER.unpack(door.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
            return int(pid)
        return 0

    def _last_words(self) -> str:
        for name in ("stderr", "daemon.log"):
            if lines := _read(self._directory / name).strip().splitlines():
                return clean(lines[-1])
        return "it said nothing"


class _Connection(http.client.HTTPConnection):
    """Over a socket of this host."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def configuration(directory: Path, door: Door) -> str:
    """Raises ValueError for a door that anybody could listen at."""
    if not door.cert_file and not ipaddress.ip_address(door.host).is_loopback:
        raise ValueError(f"without a certificate images are not served on {door.host}")
    tls = f"key_file = {door.key_file}\ncert_file = {door.cert_file}\nca_file = {door.ca_file}\n"
    return (
        "# Written by vdsm at each start.\n"
        f"[daemon]\npoll_interval = 0.1\nsystemd_enable = false\ndrop_privileges = false\nrun_dir = {directory}\n"
        f"[tls]\nenable = {'true' if door.cert_file else 'false'}\n{tls if door.cert_file else ''}"
        f"[remote]\nhost = {door.host}\nport = {door.port}\n"
        "[local]\nenable = false\n"
        f"[control]\ntransport = unix\nsocket = {directory}/control.sock\n"
        f"[profile]\nfilename = {directory}/profile\n"
        "[logger_root]\nlevel = INFO\nhandlers = logfile\n"
        f'[handler_logfile]\nargs = ("{directory}/daemon.log",)\n'
    )


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def _end(pid: int, process: subprocess.Popen[bytes] | None) -> None:
    """Ask it to end, and wait for that; then make it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        until = time.monotonic() + _END_S
        while time.monotonic() < until:
            if process is not None and process.pid == pid:
                process.poll()
            if not _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].lstrip().startswith(tuple("DRSTt")):
                return
            time.sleep(_POLL_S)
