# SPDX-License-Identifier: Apache-2.0
"""A machine's serial console on this terminal, or on pipes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import threading
import tty

from vdsm.client.transport import Unreachable

from . import faults
from .faults import OK
from .text import clean, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from vdsm.client.stream import Stream

    from .session import Session

ESCAPE = b"\x1d"  # Ctrl-], as virsh and telnet have it
PIECE = 4096
ENDED = b"\0"  # in the pipe that wakes us; the other bytes there are numbers of signals, which begin at 1


def attach(session: Session, method: str, params: dict[str, Any], given: dict[str, Any], subject: str) -> int:
    """Join standard input and output to the stream until it ends, or the escape key. Raises Fault."""
    stream = session.door(given).attach(method, session.index["verbs"][method], params)
    terminal = sys.stdin.isatty()
    with stream:
        if terminal:
            say(f"Connected to {clean(subject)}. Ctrl-] leaves; Enter wakes a silent guest.")
        with _raw_terminal() if terminal else contextlib.nullcontext():
            ended = _join(stream, terminal)
    if terminal:
        say("\r\nThe console has ended." if ended else "\r\nLeft the console; the machine runs on.")
    return OK


def _join(stream: Stream, terminal: bool) -> bool:
    """Move bytes both ways; whether the other side ended it. Raises Fault if the connection broke."""
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    # A signal that comes just before `select` begins to wait would not be looked at before the next key.
    woken_before = signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    broken: list[Unreachable] = []

    def show() -> None:
        try:
            for data in stream:
                _write_all(sys.stdout.fileno(), data)
        except Unreachable as error:
            broken.append(error)
        except OSError:
            pass  # nobody reads our output any more: that ends it
        finally:
            with contextlib.suppress(OSError):
                os.write(wake_write, ENDED)

    reader = threading.Thread(target=show, daemon=True, name="console")
    reader.start()
    try:
        ended = _feed(stream, wake_read, terminal)
    except Unreachable as error:
        broken.append(error)
        ended = True
    finally:
        stream.close()
        reader.join(timeout=5)
        signal.set_wakeup_fd(woken_before)
        os.close(wake_read)
        if not reader.is_alive():  # else it hangs in writing to a stopped terminal, and still has a use for it
            os.close(wake_write)
    if broken and ended:
        raise faults.unreachable(str(broken[0].address), broken[0].reason)
    return ended


def _feed(stream: Stream, wake: int, terminal: bool) -> bool:
    """Send what is typed until the escape key (False) or the end of the stream (True)."""
    source = sys.stdin.fileno()
    watched = [source, wake]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if wake in ready and ENDED in os.read(wake, PIECE):
            return True
        if source not in ready:
            continue
        data = os.read(source, PIECE)
        if not data:
            watched.remove(source)  # a pipe that ended: what the guest still says is shown
            continue
        before, escape, _ = data.partition(ESCAPE) if terminal else (data, b"", b"")
        if before:
            stream.write(before)
        if escape:
            return False


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Every key goes to the guest. However this ends, short of kill -9, the terminal is as before."""
    source = sys.stdin.fileno()
    before = termios.tcgetattr(source)
    handlers = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setraw(source, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(source, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _leave(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _write_all(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]
