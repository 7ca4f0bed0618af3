# SPDX-License-Identifier: Apache-2.0
"""The table of verbs and doors: filled while the tests run, printed at the end."""

from __future__ import annotations

import pytest

from harness.verdicts import Verdicts

_VERDICTS = pytest.StashKey[Verdicts]()


@pytest.fixture
def verdicts(request: pytest.FixtureRequest) -> Verdicts:
    return request.config.stash.setdefault(_VERDICTS, Verdicts())


@pytest.fixture
def door_name(request: pytest.FixtureRequest) -> str:
    """The id of the test's only parameter."""
    return str(request.node.callspec.id)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = config.stash.get(_VERDICTS, None)
    if found is None or not found.doors():
        return
    terminalreporter.section("conformance")
    if any("conformance" in argument for argument in config.args):
        for line in found.lines():
            terminalreporter.write_line(line)
    else:  # among all tests a line will do
        terminalreporter.write_line(found.summary())
