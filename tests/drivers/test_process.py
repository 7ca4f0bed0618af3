# SPDX-License-Identifier: Apache-2.0
"""Outside programs: nothing of ours leaks into them, and nothing of theirs outlives the call."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.until import BUSY, until
from vdsm.contract.errors import DeadlineExceeded
from vdsm.core.ports.deadline import within
from vdsm.drivers.process import Limits, Programs

LIMITS = Limits(cpu_s=5, memory_bytes=1 << 28, output_bytes=1000)


@pytest.fixture
def programs() -> Programs:
    return Programs("test")


def sh(text: str, *words: str) -> list[str]:
    return ["sh", "-c", text, "sh", *words]


async def test_what_it_says_and_how_it_ends(programs: Programs) -> None:
    done = await programs.run(sh("echo out; echo err >&2; exit 3"), most=5, limits=LIMITS)
    assert (done.status, done.out, done.err) == (3, b"out\n", b"err\n")
    programs.close()


async def test_words_stay_words(programs: Programs) -> None:
    words = ["a b", "$(id)", "-x", "*", "\n", "ü"]
    done = await programs.run(sh('for w; do printf "%s|" "$w"; done', *words), most=5, limits=LIMITS)
    assert done.out.decode() == "".join(f"{word}|" for word in words)
    programs.close()


async def test_nothing_of_ours_is_seen(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VDSM_SECRET", "hush")
    handle = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(handle, True)
    done = await programs.run(sh("env; ls -l /proc/self/fd; pwd; cat"), most=5, limits=LIMITS)
    os.close(handle)
    said = done.out.decode()
    assert "hush" not in said
    assert "LC_ALL=C.UTF-8" in said
    assert f" {handle} -> /dev/null" not in said
    assert said.endswith("\n/\n")
    programs.close()


async def test_a_program_that_is_not_there(programs: Programs) -> None:
    done = await programs.run(["no-such-program"], most=5, limits=LIMITS)
    assert done.status == 127
    assert b"no-such-program" in done.err
    programs.close()


async def test_too_long_kills_it_with_its_children(programs: Programs, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="sh"):
        await programs.run(
            sh('sleep 60 & echo $! > "$1"; trap "" TERM; wait', f"{tmp_path}/pid"), most=0.5, limits=LIMITS
        )
    assert time.monotonic() - began < 2 * BUSY
    pid = int((tmp_path / "pid").read_text())
    until("the child is gone", lambda: not runs(pid))
    programs.close()


async def test_a_child_left_behind_does_not_hold_it(programs: Programs, tmp_path: Path) -> None:
    done = await programs.run(sh('sleep 60 >/dev/null 2>&1 & echo $! > "$1"', f"{tmp_path}/pid"), most=5, limits=LIMITS)
    assert done.status == 0
    pid = int((tmp_path / "pid").read_text())
    until("the child is gone", lambda: not runs(pid))
    programs.close()


async def test_what_it_says_is_heard_as_it_comes(programs: Programs) -> None:
    heard: list[bytes] = []
    done = await programs.run(sh("echo a; sleep 0.2; echo b"), most=5, limits=LIMITS, heard=heard.append)
    assert (heard, done.out) == ([b"a\n", b"b\n"], b"a\nb\n")
    programs.close()


async def test_a_caller_that_is_cancelled_kills_it_first(programs: Programs, tmp_path: Path) -> None:
    text = 'sleep 60 & echo $! > "$1"; trap "" TERM; echo ready; wait'
    ready = asyncio.Event()
    running = asyncio.create_task(
        programs.run(sh(text, f"{tmp_path}/pid"), most=60, limits=LIMITS, heard=lambda _: ready.set())
    )
    await ready.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    pid = int((tmp_path / "pid").read_text())
    until("the child is gone", lambda: not runs(pid))
    programs.close()


async def test_a_caller_cancelled_while_it_waits_starts_nothing(tmp_path: Path) -> None:
    one = Programs("test", at_once=1)
    first = asyncio.create_task(one.run(["sleep", "0.5"], most=5, limits=LIMITS))
    second = asyncio.create_task(one.run(["touch", f"{tmp_path}/made"], most=5, limits=LIMITS))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert (await first).status == 0
    assert (await one.run(["true"], most=5, limits=LIMITS)).status == 0
    assert not (tmp_path / "made").exists()
    one.close()


def runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


async def test_the_callers_deadline_counts(programs: Programs) -> None:
    with within(0.2), pytest.raises(DeadlineExceeded):
        await programs.run(["sleep", "60"], most=30, limits=LIMITS)
    programs.close()


async def test_limits_of_processor_memory_and_words(programs: Programs) -> None:
    tight = Limits(cpu_s=1, memory_bytes=1 << 26, output_bytes=1000)
    spins = await programs.run(sh("while :; do :; done"), most=10 * BUSY, limits=tight)
    assert spins.status in (-signal.SIGXCPU, -signal.SIGKILL)
    eats = await programs.run(["head", "-c", "100000000", "/dev/zero"], most=10, limits=tight)
    assert (eats.status, len(eats.out)) == (0, 1000)
    hungry = await programs.run(["dd", "if=/dev/zero", "of=/dev/null", "bs=512M", "count=1"], most=10, limits=tight)
    assert hungry.status == 1
    assert b"memory" in hungry.err
    programs.close()


PARENT = """
import asyncio
from vdsm.drivers.process import Limits, Programs
limits = Limits(cpu_s=5, memory_bytes=1 << 28)
asyncio.run(Programs("test").run(["sh", "-c", "echo $$ > {0}; exec sleep 60"], most=60, limits=limits))
"""


def test_a_program_ends_with_the_daemon_however_that_ends(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    daemon = subprocess.Popen([sys.executable, "-c", PARENT.format(pid)])
    try:
        child = until("the program runs", lambda: pid.exists() and pid.read_text().strip())
    finally:
        daemon.kill()
        daemon.wait()
    until("the program is gone", lambda: not _lives(int(child)))


def _lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
