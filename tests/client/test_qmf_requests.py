# SPDX-License-Identifier: Apache-2.0
"""What a console has asked and waits for, without a bus."""

from __future__ import annotations

import asyncio

import pytest

from vdsm.client.qmf.requests import Requests


@pytest.mark.parametrize("turns", range(8))
async def test_a_cancellation_that_meets_news_is_not_lost(turns: int) -> None:
    """However many turns of the event loop lie between them; with the asyncio.wait_for of Python 3.11 some lost it."""
    requests = Requests()
    asking = asyncio.create_task(requests.ask("a", lambda number: True, None, str))
    await asyncio.sleep(0.01)
    requests.nudge()
    for _ in range(turns):
        await asyncio.sleep(0)
    asking.cancel()
    done, _ = await asyncio.wait({asking}, timeout=1)
    assert asking in done
    assert asking.cancelled()
    assert len(requests) == 0
