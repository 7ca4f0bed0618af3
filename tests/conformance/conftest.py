# SPDX-License-Identifier: Apache-2.0
"""The table of verbs and doors: filled while the tests run, printed at the end."""

from __future__ import annotations

import pytest

from harness.reports import VERDICTS
from harness.verdicts import Verdicts


@pytest.fixture
def verdicts(request: pytest.FixtureRequest) -> Verdicts:
    return request.config.stash.setdefault(VERDICTS, Verdicts())


@pytest.fixture
def door_name(request: pytest.FixtureRequest) -> str:
    """The id of the test's only parameter."""
    return str(request.node.callspec.id)
