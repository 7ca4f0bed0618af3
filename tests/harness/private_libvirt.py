# SPDX-License-Identifier: Apache-2.0
"""A libvirtd that belongs to one test, which may kill it: in a mount namespace with directories of its own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .until import until

# $1...: directories to hide under empty ones. All that libvirtd and virtlogd write to is hidden in any case.
_NAMESPACE = """
set -e
settings=$(mktemp -d)
cp /etc/libvirt/*.conf "$settings"
for directory in /run /var/lib/libvirt /var/cache/libvirt /var/log/libvirt /etc/libvirt "$@"; do
    mkdir -p "$directory"
    mount -t tmpfs -o mode=755 tmpfs "$directory"
done
mkdir /run/lock # where libvirtd notes who has a console
cp "$settings"/* /etc/libvirt
rm -r "$settings"
# Without /dev/kvm: where it is there but not usable, libvirtd asks every QEMU anew at each start, for ten seconds.
devices=/run/dev
mkdir $devices
mount -t tmpfs -o mode=755 tmpfs $devices
cp -a /dev/{null,zero,full,random,urandom,tty,ptmx,fd} $devices
mkdir $devices/{pts,shm}
mount --bind /dev/pts $devices/pts
mount --move $devices /dev
echo 'namespaces = []' >>/etc/libvirt/qemu.conf # of its own for each QEMU: it cannot move these mounts
echo ready
exec sleep infinity
"""


class Namespace:
    """Mounts of its own, without any libvirtd yet, and with empty directories in place of `hide`. Needs root."""

    def __init__(self, *hide: str) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "bash", "-c", _NAMESPACE, "namespace", *hide],
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n", "no mount namespace: is this root?"

    @property
    def inside(self) -> tuple[str, ...]:
        """What to put before a command line."""
        return ("nsenter", "--mount", "--target", str(self._holder.pid), "--")

    def run(self, *command: str) -> str:
        """What a command inside says; empty if it fails."""
        done = subprocess.run(
            [*self.inside, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    def close(self, prefix: str) -> None:
        """End it; machines whose names begin with `prefix` are cut off too."""
        for pid in machines(prefix):
            if self._is_inside(pid):  # another test run may have machines of such names as well
                _end(pid)
        self._holder.kill()
        self._holder.wait()
        if self._holder.stdout is not None:
            self._holder.stdout.close()

    def _is_inside(self, pid: int) -> bool:
        try:
            return os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink(f"/proc/{self._holder.pid}/ns/mnt")
        except OSError:  # it has just ended
            return False


class PrivateLibvirt(Namespace):
    """Only processes begun with `inside` see it, as qemu:///system."""

    def __init__(self) -> None:
        super().__init__()
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.start()

    @property
    def uri(self) -> str:
        """To reach it from outside."""
        return f"qemu+unix:///system?socket=/proc/{self._holder.pid}/root/run/libvirt/libvirt-sock"

    def start(self) -> None:
        for name in ("virtlogd", "libvirtd"):
            if name not in self._daemons:
                self._daemons[name] = subprocess.Popen(
                    [*self.inside, name], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
        until("libvirtd answers", lambda: self.run("virsh", "-c", "qemu:///system", "version"))

    def kill(self) -> None:
        """kill -9 libvirtd; machines run on."""
        process = self._daemons.pop("libvirtd")
        process.kill()
        process.wait()

    def close(self, prefix: str) -> None:
        for process in self._daemons.values():
            process.terminate()
        for process in self._daemons.values():
            process.wait(60)
        super().close(prefix)


def machines(prefix: str) -> Sequence[int]:
    """QEMU processes of machines whose names begin with `prefix`."""
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and f"guest={prefix}".encode() in _read(entry / "cmdline")
    ]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # the process has ended
        return b""


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
