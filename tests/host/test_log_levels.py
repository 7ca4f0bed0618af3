# SPDX-License-Identifier: Apache-2.0
"""What the daemon logs."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator

import pytest

from vdsm.contract.errors import NoSuchLogger
from vdsm.contract.host import LogLevel
from vdsm.core.host.log_levels import set_log_level


@pytest.fixture
def name() -> Iterator[str]:
    before = {None: logging.root.level} | {
        n: one.level for n, one in logging.root.manager.loggerDict.items() if isinstance(one, logging.Logger)
    }
    made = f"vdsm.test{secrets.token_hex(4)}"
    logging.getLogger(f"{made}.part")
    yield made
    for one, level in before.items():
        logging.getLogger(one).setLevel(level)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (LogLevel.DEBUG, 10), (LogLevel.INFO, 20), (LogLevel.WARNING, 30), (LogLevel.WARN, 30), (LogLevel.ERROR, 40),
        (LogLevel.CRITICAL, 50), (LogLevel.CRIT, 50),
    ],
)  # fmt: skip
def test_every_level(name: str, level: LogLevel, expected: int) -> None:
    set_log_level(level, f"{name}.part")
    assert logging.getLogger(f"{name}.part").level == expected


def test_a_part_whose_logger_has_only_children(name: str) -> None:
    set_log_level(LogLevel.DEBUG, name)
    assert logging.getLogger(f"{name}.part").isEnabledFor(logging.DEBUG)


def test_everything(name: str) -> None:
    part = logging.getLogger(f"{name}.part")
    set_log_level(LogLevel.ERROR, part.name)
    set_log_level(LogLevel.DEBUG, "")
    assert part.isEnabledFor(logging.DEBUG)
    assert logging.root.level == logging.DEBUG


@pytest.mark.parametrize("odd", ["no.such.logger", "vdsm.", "\x00", "root"])
def test_an_unknown_name_is_refused_and_not_remembered(name: str, odd: str) -> None:
    with pytest.raises(NoSuchLogger):
        set_log_level(LogLevel.DEBUG, odd)
    assert odd not in logging.root.manager.loggerDict
