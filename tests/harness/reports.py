# SPDX-License-Identifier: Apache-2.0
"""What pytest says beside its own words: the table of verbs and doors at the end, and where a test hung."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from typing import Any

import pytest
import pytest_timeout

from .verdicts import Verdicts

VERDICTS = pytest.StashKey[Verdicts]()
_TIMER = pytest.StashKey[threading.Timer]()
_IN_OUTPUT = "conformance"


def pytest_sessionfinish(session: pytest.Session) -> None:
    found = session.config.stash.get(VERDICTS, None)
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)  # of a worker among several
    if found is not None and output is not None:
        output[_IN_OUTPUT] = found.cells


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    if cells := getattr(node, "workeroutput", {}).get(_IN_OUTPUT):
        node.config.stash.setdefault(VERDICTS, Verdicts()).add(cells)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = config.stash.get(VERDICTS, None)
    if found is None or not found.doors():
        return
    terminalreporter.section("conformance")
    if any("conformance" in argument for argument in config.args):
        for line in found.lines():
            terminalreporter.write_line(line)
    else:  # among all tests a line will do
        terminalreporter.write_line(found.summary())


@pytest.hookimpl
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    """As pytest-timeout's method `thread`, which ends the process: an exception in the middle of an event loop leaves
    its fixtures waiting for it. The stack of its thread is the selector's, whatever it waits for: its tasks tell more.
    """

    def give_up() -> None:
        for task in (each for each in gc.get_objects() if isinstance(each, asyncio.Task) and not each.done()):
            task.print_stack(file=sys.stderr)
        pytest_timeout.timeout_timer(item, settings)

    timer = threading.Timer(settings.timeout, give_up)
    timer.daemon = True
    item.stash[_TIMER] = timer
    timer.start()
    return True


@pytest.hookimpl
def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    if (timer := item.stash.get(_TIMER, None)) is not None:
        timer.cancel()
        timer.join()
    return True
