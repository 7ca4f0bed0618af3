# SPDX-License-Identifier: Apache-2.0
"""The `ImageServers` port: a qemu-nbd for each export, on a socket of its own. They outlive the daemon."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from vdsm.contract.errors import InvalidParams
from vdsm.contract.errors_storage import ImageOperationFailed
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.ports.transfers import Export
from vdsm.drivers.files import clean, read_int
from vdsm.drivers.pool import Pool
from vdsm.drivers.process import Limits, Programs

from .stated import read_stated
from .tool import QemuImg, takes_direct

_START_S = 30.0
_END_S = 10.0  # to flush and end when asked, before it is made to
_LOOK_S = 30.0
_LIMITS = Limits(cpu_s=30 * 86400, memory_bytes=8 << 30)  # it may serve for days
_CLIENTS = 8  # as many connections as ovirt-imageio makes for one ticket
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class QemuServers:
    """Sockets and process ids are in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tool = QemuImg()
        self._pool = Pool("nbd", workers=4)
        self._programs = Programs("qemu-nbd")

    async def start(self, server_id: str, export: Export) -> str:
        socket = self._file(server_id, ".sock")
        if server_id not in await self.running():
            await read_stated(self._tool, export.image)
            direct = await self._tool.look(
                export.image.lane, export.image.path, lambda: takes_direct(export.image.path)
            )
            await self._pool.run("preparing a socket", lambda: _prepare(socket), most=_LOOK_S)
            words = [
                "qemu-nbd",
                "--fork",
                "--persistent",
                f"--pid-file={self._file(server_id, '.pid')}",
                f"--socket={socket}",
                f"--shared={_CLIENTS}",
                *_options(export, direct=direct),
                *_image(export),
            ]
            done = await self._programs.run(words, most=_START_S, limits=_LIMITS)
            if done.status:
                lines = done.err.decode(errors="replace").strip().splitlines() or [f"status {done.status}"]
                reason = clean(lines[0].removeprefix("qemu-nbd: "), 512)
                raise ImageOperationFailed(what="serve", file=export.image.path, reason=reason)
        return self.url(server_id)

    def url(self, server_id: str) -> str:
        return f"nbd:unix:{self._file(server_id, '.sock')}"

    async def stop(self, server_id: str) -> None:
        pid_file, socket = self._file(server_id, ".pid"), self._file(server_id, ".sock")
        await self._pool.run("ending an NBD server", lambda: _end(pid_file, socket), most=_LOOK_S, key=server_id)

    async def running(self) -> Sequence[str]:
        return await self._pool.run("looking for NBD servers", lambda: _running(self._directory), most=_LOOK_S)

    async def close(self) -> None:
        self._tool.close()
        self._pool.close()
        self._programs.close()

    def _file(self, server_id: str, ending: str) -> Path:
        if not _ID.fullmatch(server_id):
            raise InvalidParams(reason=f"{server_id!r} is no id of a server")
        return self._directory / f"{server_id}{ending}"


def _options(export: Export, *, direct: bool) -> list[str]:
    words = ["--cache=none" if direct else "--cache=writeback"]
    if export.read_only:
        words.append("--read-only")
    if export.discard:
        words.append("--discard=unmap")
    if export.detect_zeroes:
        words.append("--detect-zeroes=unmap" if export.discard else "--detect-zeroes=on")
    if export.bitmap:
        words.append(f"--bitmap={export.bitmap}")
    return words


def _image(export: Export) -> list[str]:
    image = export.image
    if export.with_backing or image.format is DiskFormat.RAW:
        return ["-f", image.format, "--", image.path]
    alone = {"driver": image.format, "file": {"driver": "file", "filename": image.path}, "backing": None}
    return ["--", f"json:{msgspec.json.encode(alone).decode()}"]


def _prepare(socket: Path) -> None:
    socket.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    socket.unlink(missing_ok=True)


def _running(directory: Path) -> list[str]:
    found = sorted(directory.glob("*.pid"))
    return [file.stem for file in found if _pid(file, file.with_suffix(".sock"))]


def _pid(pid_file: Path, socket: Path) -> int:
    """Of the server; 0 when it is gone. Ids are used again, so it must be told by its words."""
    pid = read_int(pid_file) or 0
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return 0
    return pid if f"--socket={socket}".encode() in words else 0


def _end(pid_file: Path, socket: Path) -> None:
    until = time.monotonic() + _END_S
    if pid := _pid(pid_file, socket):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    while pid and _pid(pid_file, socket) == pid:
        if time.monotonic() > until:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    for file in (pid_file, socket):
        file.unlink(missing_ok=True)
