# SPDX-License-Identifier: Apache-2.0
"""`vdsmsh` alone: a prompt with history and completion, and events above it when wanted."""

from __future__ import annotations

import json
import os
import shlex
import sys
import threading
from collections.abc import Iterable, Sequence

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory
from prompt_toolkit.patch_stdout import patch_stdout

import vdsm

from . import completion, faults, show
from .faults import OK, Fault
from .options import options
from .parse import take_common
from .run import guarded
from .session import Session
from .text import look_of, say
from .views import event_line, gap_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .door import Feed
    from .index import Index

WORDS = {"watch": "events above the prompt: watch on, watch off", "exit": "leave; so does Ctrl-D"}


def interact(session: Session) -> int:
    """Commands until the person leaves. Returns the exit code."""
    history = Careful(history_file(), secret_words(session.index))
    prompts: PromptSession[str] = PromptSession(
        history=history, completer=Words(session), complete_in_thread=True, complete_while_typing=False
    )
    watcher = Watcher(session)
    say(f"vdsmsh {vdsm.__version__}, {session.door({}).name}. Tab completes; `help`, `watch on`, `exit`.")
    try:
        while True:
            try:
                with patch_stdout(raw=True):
                    line = prompts.prompt("vdsm> ")
                if line.strip() in ("exit", "quit"):
                    return OK
                run_line(session, watcher, line)
            except KeyboardInterrupt:
                continue  # the line is dropped, as in every shell
            except EOFError:
                return OK
    finally:
        watcher.off()


def run_lines(session: Session, lines: Iterable[str]) -> int:
    """Commands from a file or a pipe; returns the exit code of the last that failed."""
    code = OK
    watcher = Watcher(session)
    for line in lines:
        if line.strip() in ("exit", "quit"):
            break
        code = run_line(session, watcher, line) or code
    watcher.off()
    return code


def run_line(session: Session, watcher: Watcher, line: str) -> int:
    """One command; returns its exit code."""
    try:
        words = shlex.split(line, comments=True)
        if words[:1] == ["vdsmsh"]:
            words = words[1:]
        common, words = take_common(words)
    except ValueError as error:
        say(f"error: {error}")
        return faults.USAGE
    except Fault as fault:
        show.fault(fault, session.output({}))
        return fault.code
    if words[:1] == ["watch"]:
        return watcher.turn(words[1:])
    if not words:
        return OK
    before = session.common
    session.common = {**before, **common}
    try:
        return guarded(session, words)
    finally:
        session.common = before


class Watcher:
    """Prints events as they happen, from a thread of its own."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._feed: Feed | None = None

    def turn(self, words: Sequence[str]) -> int:
        """`watch on`, `watch off`, or the other of the two; returns the exit code."""
        if list(words) not in ([], ["on"], ["off"]):
            say("error: say `watch on` or `watch off`")
            return faults.USAGE
        on = self._feed is None if not words else words[0] == "on"
        self.off()
        if on:
            self._feed = self._session.door({}).follow(None, [], self._cut)
            threading.Thread(target=self._print, args=(self._feed,), daemon=True, name="events").start()
        say("events are shown" if on else "events are not shown")
        return OK

    def off(self) -> None:
        if self._feed is not None:
            self._feed.close()
            self._feed = None

    def _print(self, feed: Feed) -> None:
        look = look_of(sys.stdout)
        try:
            for message in feed:
                line = gap_line if message.event == "gap" else event_line
                # In one piece: the prompt's thread prints as well.
                sys.stdout.write(line(json.loads(message.data), look) + "\n")
                sys.stdout.flush()
        except Fault as fault:
            show.fault(fault, "table")

    def _cut(self, reason: str) -> None:
        sys.stdout.write(f"-- {reason}\n")
        sys.stdout.flush()


class Words(Completer):
    """What may come next, as for bash and zsh."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        line = document.text_before_cursor
        words, current = completion.split(line)
        found = completion.complete(self._session, words, current)
        if not words:
            found = [*found, *((w, text) for w, text in WORDS.items() if w.startswith(current))]
        if words == ["watch"]:
            found = [(w, "") for w in ("on", "off") if w.startswith(current)]
        for word, text in found:
            shown = word if word.endswith("=") else shlex.quote(word)
            yield Completion(shown, start_position=-len(current), display=word, display_meta=text)


class Careful(FileHistory):
    """A history without the lines that hold a secret, or begin with a blank."""

    def __init__(self, file: str, secrets: frozenset[str]) -> None:
        super().__init__(file)
        self._secrets = secrets

    def append_string(self, string: str) -> None:
        if not self.is_secret(string):
            super().append_string(string)

    def is_secret(self, line: str) -> bool:
        words = line.replace("=", " ").replace(":", " ").split()
        return line[:1].isspace() or not self._secrets.isdisjoint(words)


def secret_words(index: Index) -> frozenset[str]:
    """Options and parameters that carry secrets."""
    found: set[str] = set()
    for verb in index["verbs"].values():
        for option in options(index, verb):
            if option.secret:
                found |= {*option.flags, option.where[-1]}
    return frozenset(found)


def history_file() -> str:
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    directory = os.path.join(base, "vdsm")
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        os.close(os.open(os.path.join(directory, "history"), os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
    except OSError:
        return os.devnull  # a home that cannot be written only costs the history
    return os.path.join(directory, "history")
