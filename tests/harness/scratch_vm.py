# SPDX-License-Identifier: Apache-2.0
"""A throw-away machine of this host's own files under the guest's kernel, for what this host's kernel does not have.

Its root file system is this one, read through virtiofs, with whatever is written there kept in its memory. As root.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .until import BUSY, until

_VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
_FIRST = ("virtio_pci", "virtiofs", "overlay", "virtio_console")  # to reach the root file system
_MEMORY_MIB = 1024
_DONE = "scratch machine: status "
_TESTS = Path(__file__).parents[1]

_INIT = """#!/bin/sh
mount -t proc proc /proc; mount -t devtmpfs dev /dev
while read -r module; do insmod /modules/$module; done < /modules/list
mount -t virtiofs root /lower || poweroff -f
mount -t tmpfs tmpfs /upper; mkdir /upper/new /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/new,workdir=/upper/work overlay /new || poweroff -f
mount --move /dev /new/dev; mount --move /proc /new/proc
cp /stage2 /new/run/stage2
exec switch_root /new /bin/bash /run/stage2
"""
_STAGE2 = """
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 PYTHONPATH={tests}
mkdir -p /dev/shm /dev/pts
mount -t sysfs sys /sys; mount -t tmpfs shm /dev/shm; mount -t devpts pts /dev/pts
mount -t tmpfs run /run; mount -t tmpfs tmp /var/tmp
mkdir -p /run/lock; ip link set lo up; ln -sf /proc/self/fd /dev/fd
cd {tests}; {python} -B -m {module} </dev/null >/dev/hvc0 2>&1
echo "{done}$?" >/dev/hvc0
sync; exec {busybox} poweroff -f
"""


def run(guest: Path, module: str, drivers: Sequence[str], work: Path, seconds: float = 200.0) -> str:
    """Run a Python module of the tests there, with more of the kernel's drivers; what it said.

    AssertionError if it did not end well, with that.
    """
    root = work / "root"
    _pack(root, guest, module, [*_FIRST, *drivers])
    socket, said = work / "virtiofs.sock", work / "said"
    server = subprocess.Popen(
        [_VIRTIOFSD, f"--socket-path={socket}", "-o", "source=/", "-o", "cache=always", "-o", "sandbox=chroot", "-f"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until("virtiofsd listens", socket.exists)
        with said.open("wb") as out:
            subprocess.run(
                _machine(guest, root, socket, work), stdout=out, stderr=out, timeout=seconds * BUSY, check=False
            )
    except subprocess.TimeoutExpired:
        pass  # what it said tells how far it came
    finally:
        server.kill()
        server.wait()
    text = said.read_text(errors="replace")
    console = (work / "console").read_text(errors="replace")[-2000:] if not text else ""
    assert f"{_DONE}0" in text, f"{text[-6000:]}{console}"
    return text


def _pack(root: Path, guest: Path, module: str, drivers: list[str]) -> None:
    """The first file system: busybox, the drivers, and what to do then."""
    for name in ("bin", "proc", "dev", "lower", "upper", "new", "modules"):
        (root / name).mkdir(parents=True)
    shutil.copy(guest / "busybox", root / "bin/busybox")
    for name in ("sh", "mount", "mkdir", "insmod", "switch_root", "poweroff", "cp"):
        (root / "bin" / name).symlink_to("busybox")
    order = _in_order(next((guest / "modules").iterdir()), drivers)
    for path in order:
        shutil.copy(path, root / "modules")
    (root / "modules/list").write_text("".join(f"{path.name}\n" for path in order))
    (root / "init").write_text(_INIT)
    (root / "init").chmod(0o755)
    busybox = guest / "busybox"
    words = {"tests": _TESTS, "python": sys.executable, "module": module, "done": _DONE, "busybox": busybox}
    (root / "stage2").write_text(_STAGE2.format(**words))
    subprocess.run(
        f"cd {root} && find . | {busybox} cpio -o -H newc 2>/dev/null | gzip -1 >{root}.gz", shell=True, check=True
    )


def _in_order(modules: Path, wanted: list[str]) -> list[Path]:
    """With what they depend on, that first."""
    needs = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[Path(path).name.partition(".")[0]] = [path, *rest.split()]
    return list(dict.fromkeys(modules / path for name in wanted for path in reversed(needs[name])))


def _machine(guest: Path, root: Path, socket: Path, work: Path) -> list[str]:
    memory = f"memory-backend-memfd,id=memory,size={_MEMORY_MIB}M,share=on"
    return [
        "qemu-system-x86_64", "-nodefaults", "-no-reboot", "-display", "none", "-machine", "q35",
        "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2",
        "-m", f"{_MEMORY_MIB}", "-object", memory, "-numa", "node,memdev=memory",
        "-kernel", f"{guest}/vmlinuz", "-initrd", f"{root}.gz",
        "-append", "console=ttyS0 panic=-1 mitigations=off no_timer_check tsc=reliable random.trust_cpu=on",
        "-chardev", f"socket,id=root,path={socket}",
        "-device", "vhost-user-fs-pci,chardev=root,tag=root,queue-size=1024",
        "-device", "virtio-serial", "-chardev", "stdio,id=said,signal=off", "-device", "virtconsole,chardev=said",
        "-serial", f"file:{work}/console",
    ]  # fmt: skip
