# SPDX-License-Identifier: Apache-2.0
"""A whole host in memory for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from harness.memory_host import MemoryHost


@pytest.fixture
async def host() -> AsyncIterator[MemoryHost]:
    made = MemoryHost(None)
    await made.open()
    yield made
    await made.close()
