# SPDX-License-Identifier: Apache-2.0
"""The daemon's log: standard logging to standard error, as lines for people or JSON, each with its flow id."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from typing import TextIO

from vdsm.core import flow

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

# syslog's severities; journald reads them at the start of a line of standard error
_SYSLOG = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}


class Lines(logging.Formatter):
    """A line for a person. A guest's or client's text in it can begin no line and colour no terminal."""

    def __init__(self, *, journald: bool = False) -> None:
        super().__init__()
        self._journald = journald

    def format(self, record: logging.LogRecord) -> str:
        name = record.name.removeprefix("vdsm.")
        flow_id = flow.current.get()
        text = f"{record.levelname:7} {name}: {_CONTROL.sub(_escape, record.getMessage())}"
        if flow_id:
            text += f" [{_CONTROL.sub(_escape, flow_id)}]"
        if record.exc_info:
            text += "\n" + "\n".join("    " + line for line in self.formatException(record.exc_info).splitlines())
        if self._journald:  # which keeps the time itself, and takes each line for an entry
            mark = f"<{_SYSLOG.get(record.levelname, 6)}>"
            return "\n".join(mark + line for line in text.splitlines())
        return f"{_time(record)} {text}"


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        shown = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "flowId": flow.current.get(),
        }
        if record.exc_info:
            shown["exception"] = self.formatException(record.exc_info)
        return json.dumps(shown)  # ASCII: nothing in it can break the line


def configure(level: str, form: str, stream: TextIO | None = None) -> None:
    """Send everything at `level` and above to `stream` (standard error) in `form`: text or json. May be repeated."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if form == "json" else Lines(journald=_is_journald(stream)))
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h.formatter, Lines | JsonLines)]:
        root.removeHandler(old)
    root.addHandler(handler)
    set_level(level)


def set_level(level: str) -> None:
    """Our own loggers at `level`; a library's chatter below WARNING only when debugging."""
    logging.getLogger().setLevel("DEBUG" if level == "DEBUG" else max(logging.WARNING, logging.getLevelName(level)))
    logging.getLogger("vdsm").setLevel(level)


def _time(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z"


def _escape(match: re.Match[str]) -> str:
    return "\\n" if match[0] == "\n" else f"\\x{ord(match[0]):02x}"


def _is_journald(stream: TextIO) -> bool:
    """systemd names the device and inode of the pipe that goes to the journal."""
    try:
        there = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"
