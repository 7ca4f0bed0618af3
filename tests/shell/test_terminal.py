# SPDX-License-Identifier: Apache-2.0
"""vdsmsh on a real terminal: colours, bars, the console, the prompt; and the terminal is afterwards as it was."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.daemon import Daemon
from harness.until import BUSY, until

VDSMSH = str(Path(sys.executable).parent / "vdsmsh")
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")
CURSOR_QUERY, CURSOR = b"\x1b[6n", b"\x1b[1;1R"


class Terminal:
    """A pseudo-terminal with vdsmsh on it."""

    def __init__(self, words: list[str], env: Mapping[str, str], columns: int = 100) -> None:
        self.raw = b""
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
            ours = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
            os.execve(VDSMSH, ["vdsmsh", *words], {**ours, "TERM": "xterm-256color", **env})
        self.status: int | None = None

    @property
    def text(self) -> str:
        """What it shows, without what colours it and moves the cursor."""
        return CONTROL.sub("", self.raw.decode("utf-8", "replace"))

    def type(self, text: str) -> None:
        os.write(self.end, text.encode())

    def shows(self, text: str, seconds: float = 15) -> None:
        """Wait for a text."""
        end = time.monotonic() + seconds * BUSY
        while text not in self.text:
            assert time.monotonic() < end, f"not shown: {text!r}; shown: {self.text!r}"
            assert self._read(0.1), f"ended without {text!r}: {self.text!r}"

    def completes(self, typed: str, rest: str) -> None:
        """Wait for both, at once or with the screen drawn anew in between."""
        shown = re.compile(re.escape(typed) + r"[\s\x08]*" + re.escape(rest))
        until(f"{typed!r} is completed", lambda: self._read(0.02) and shown.search(self.text))

    def clear(self) -> None:
        self.raw = b""

    def wait(self, seconds: float = 15) -> int:
        """Its exit code."""
        end = time.monotonic() + seconds * BUSY
        while self._read(0.1):
            assert time.monotonic() < end, f"it goes on: {self.text!r}"
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def close(self) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.end)

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self.end)

    def is_raw(self) -> None:
        """Wait until keys go to the program as they are typed: the prompt or the console is there."""
        until("it is raw", lambda: self._read(0.02) and not self.modes()[3] & termios.ICANON)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self.end], [], [], seconds)
        if not ready:
            return True
        try:
            data = os.read(self.end, 65536)
        except OSError:  # EIO: nobody has the other end open any more
            return False
        if CURSOR_QUERY in data:  # a real terminal answers that
            os.write(self.end, CURSOR)
        self.raw += data
        return bool(data)


Open = Callable[..., Terminal]


@pytest.fixture
def terminal(sim: Daemon, homes: Mapping[str, str]) -> Iterator[Open]:
    made: list[Terminal] = []

    def open_one(*words: str, columns: int = 100, **env: str) -> Terminal:
        made.append(Terminal(list(words), {"VDSM_URL": str(sim.socket), **env}, columns))
        return made[-1]

    yield open_one
    for one in made:
        one.close()


@pytest.fixture
def machine(sim: Daemon) -> Iterator[str]:
    name = f"m-{uuid.uuid4().hex[:8]}"
    sim.shell("vm", "create", "--name", name, "--memory", "64")
    yield name
    sim.shell("vm", "destroy", name, ok=False)


def test_colours_and_width(terminal: Open) -> None:
    wide = terminal("vm", "list")
    assert wide.wait() == 0
    assert b"\x1b[1mID" in wide.raw
    narrow = terminal("vm", "list", columns=60)
    narrow.wait()
    assert max(len(line) for line in narrow.text.splitlines()) <= 60
    assert b"\x1b" not in _raw(terminal("vm", "list", NO_COLOR="1"))
    assert b"\x1b" not in _raw(terminal("vm", "list", TERM="dumb"))


def _raw(one: Terminal) -> bytes:
    one.wait()
    return one.raw


def test_a_task_has_a_bar_and_then_its_result(terminal: Open, machine: str) -> None:
    watched = terminal("vm", "shutdown", machine, "--delay", "1.5")
    watched.shows("%  wait 1.5 s")
    watched.shows("✓ wait 1.5 s")
    watched.shows(f"vm shutdown {machine}: done")
    assert watched.wait() == 0


def test_leaving_a_task_does_not_stop_it(terminal: Open, machine: str, sim: Daemon) -> None:
    watched = terminal("vm", "shutdown", machine, "--delay", "60")
    watched.shows("wait 60 s")
    watched.type("\x03")
    watched.shows("goes on; watch it: `vdsmsh task watch")
    assert watched.wait() == 130
    task = re.search(r"task ([0-9a-f-]{36}) goes on", watched.text)
    assert task is not None
    assert sim.json("task", "show", task[1])["state"] == "running"
    again = terminal("task", "watch", task[1][:8])
    again.shows("wait 60 s")
    sim.shell("task", "stop", task[1])
    again.shows("aborted")
    assert again.wait() == 4


def test_a_watched_task_that_fails(terminal: Open, machine: str, sim: Daemon) -> None:
    watched = terminal("vm", "shutdown", machine, "--delay", "60")
    watched.shows("wait 60 s")
    running = [t["id"] for t in sim.json("task", "list") if t["state"] == "running"]
    sim.shell("task", "stop", running[0])
    watched.shows("error: ")
    assert watched.wait() == 4


def test_the_console_and_its_escape(terminal: Open) -> None:
    console = terminal("vm", "console", "sim1", "--force")
    before = console.modes()
    console.shows("Ctrl-] leaves")
    console.is_raw()
    console.type("\r")
    console.shows("login:")
    console.type("\x03abc")  # Ctrl-C is for the guest
    console.shows("abc")
    console.type("x\x1dlost")
    console.shows("the machine runs on")
    assert console.wait() == 0
    assert console.modes()[:4] == before[:4]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_console_that_is_killed_leaves_the_terminal_as_it_was(terminal: Open, number: int) -> None:
    console = terminal("vm", "console", "sim1", "--force")
    before = console.modes()
    console.shows("Ctrl-] leaves")
    console.is_raw()
    os.kill(console.pid, number)
    assert console.wait() == 128 + number
    assert console.modes()[:4] == before[:4]


def test_the_console_of_a_machine_that_stops(terminal: Open, machine: str, sim: Daemon) -> None:
    console = terminal("vm", "console", machine)
    console.shows("Ctrl-] leaves")
    sim.shell("vm", "destroy", machine)
    console.shows("The console has ended.")
    console.wait()


def test_a_picture_is_not_for_a_terminal(terminal: Open) -> None:
    refused = terminal("vm", "screenshot", "sim1")
    refused.shows("-o screen.png")
    assert refused.wait() == 2


def test_a_password_is_asked_for_and_not_shown(terminal: Open, machine: str) -> None:
    asked = terminal("vm", "set-ticket", machine, "--ttl", "60")
    asked.shows("password:")
    until("it does not echo", lambda: not asked.modes()[3] & termios.ECHO)
    asked.type("hidden1\n")
    asked.shows("done")
    assert asked.wait() == 0
    assert "hidden1" not in asked.text


def test_the_prompt(terminal: Open, homes: Mapping[str, str], machine: str) -> None:
    prompt = terminal()
    prompt.shows("vdsm>")
    prompt.type("vm lis\t")
    prompt.completes("vm lis", "t")
    prompt.type("\r")
    prompt.shows(machine)
    prompt.clear()
    prompt.type(f"vm pause {machine[:-1]}\t\r")
    prompt.shows("is Paused")
    prompt.clear()
    prompt.type("vm puase x\r")
    prompt.shows("Did you mean `vm pause`?")
    prompt.type("vm set-ticket x --password hunter2\r")
    prompt.shows("takes no secret")
    prompt.is_raw()
    prompt.type("half a line")
    prompt.shows("half a line")
    prompt.type("\x03")  # Ctrl-C drops it
    prompt.type("help vm\r")
    prompt.shows("vm create")
    prompt.is_raw()
    prompt.type("\x04")
    assert prompt.wait() == 0
    history = (Path(homes["XDG_STATE_HOME"]) / "vdsm/history").read_text()
    assert "+vm list" in history
    assert "hunter2" not in history
    assert "half a line" not in history


def test_events_above_the_prompt(terminal: Open, machine: str, sim: Daemon) -> None:
    prompt = terminal()
    prompt.shows("vdsm>")
    prompt.type("watch on\r")
    prompt.shows("events are shown")
    prompt.clear()
    # It follows from the moment it has asked where the journal ends: so change things until one is seen.
    seen = until("an event", lambda: _change_and_look(sim, prompt, machine))
    assert seen
    prompt.clear()
    prompt.type("watch off\r")
    prompt.shows("events are not shown")
    prompt.type("exit\r")
    assert prompt.wait() == 0
    assert "Traceback" not in prompt.text


def _change_and_look(sim: Daemon, prompt: Terminal, machine: str) -> bool:
    sim.shell("vm", "pause", machine, ok=False)
    sim.shell("vm", "cont", machine, ok=False)
    prompt._read(0.5)
    return "VM_status" in prompt.text and machine in prompt.text
