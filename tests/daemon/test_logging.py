# SPDX-License-Identifier: Apache-2.0
"""The log: one record is one line, with its flow id, and no text in it can pretend to be another line."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdsm.contract.types import Secret
from vdsm.core import flow
from vdsm.daemon.logging import JsonLines, Lines, configure, set_level


@pytest.fixture(autouse=True)
def quiet_after() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, ours = root.handlers[:], root.level, logging.getLogger("vdsm").level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("vdsm").setLevel(ours)


def record(message: str, *arguments: object, name: str = "vdsm.core.local") -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, "file.py", 1, message, arguments, None)


def test_a_line_has_time_level_logger_and_flow() -> None:
    mark = flow.current.set("f-1")
    try:
        line = Lines().format(record("hello %s", "you"))
        shown = json.loads(JsonLines().format(record("hello %s", "you")))
    finally:
        flow.current.reset(mark)
    time, _, rest = line.partition(" ")
    assert rest == "WARNING core.local: hello you [f-1]"
    assert time.endswith("Z")
    assert (shown["level"], shown["logger"], shown["message"], shown["flowId"]) == (
        "WARNING", "vdsm.core.local", "hello you", "f-1",
    )  # fmt: skip


@given(st.text())
def test_no_text_begins_a_line_or_colours_a_terminal(text: str) -> None:
    for formatter in (Lines(), Lines(journald=True), JsonLines()):
        line = formatter.format(record("guest said %s", text))
        assert len(line.splitlines()) == 1
        assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in line)


def test_a_secret_is_never_shown() -> None:
    for formatter in (Lines(), JsonLines()):
        assert "hunter2" not in formatter.format(record("password %s %r", Secret("hunter2"), Secret("hunter2")))


def test_an_exception_is_indented_or_one_member() -> None:
    try:
        raise ValueError("what\nnow")
    except ValueError as error:
        broken = record("it broke")
        broken.exc_info = (ValueError, error, error.__traceback__)
    first, *others = Lines().format(broken).splitlines()
    assert first.endswith("it broke")
    assert all(line.startswith("    ") for line in others)
    assert any("ValueError: what" in line for line in others)
    assert "ValueError: what" in json.loads(JsonLines().format(broken))["exception"]
    assert all(line.startswith("<4>") for line in Lines(journald=True).format(broken).splitlines())


def test_configure_again_replaces(quiet_after: None) -> None:
    first, second = io.StringIO(), io.StringIO()
    configure("INFO", "text", first)
    configure("INFO", "json", second)
    logging.getLogger("vdsm.x").info("once")
    assert first.getvalue() == ""
    assert json.loads(second.getvalue())["message"] == "once"


def test_levels() -> None:
    out = io.StringIO()
    configure("INFO", "text", out)
    logging.getLogger("vdsm.x").debug("hidden")
    logging.getLogger("library").info("hidden")
    logging.getLogger("library").warning("library-warning")
    assert "hidden" not in out.getvalue()
    assert "library-warning" in out.getvalue()
    set_level("DEBUG")
    logging.getLogger("library").debug("library-debug")
    logging.getLogger("vdsm.x").debug("ours")
    assert "library-debug" in out.getvalue()
    assert "ours" in out.getvalue()
    set_level("ERROR")
    logging.getLogger("vdsm.x").warning("too mild")
    logging.getLogger("library").warning("too mild")
    assert "too mild" not in out.getvalue()
