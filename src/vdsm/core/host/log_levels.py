# SPDX-License-Identifier: Apache-2.0
"""What the daemon logs, changed while it runs."""

from __future__ import annotations

import logging

from vdsm.contract.errors import NoSuchLogger
from vdsm.contract.host import LogLevel

_OURS = "vdsm"
_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.WARN: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
    LogLevel.CRITICAL: logging.CRITICAL,
    LogLevel.CRIT: logging.CRITICAL,
}


def set_log_level(level: LogLevel, name: str) -> None:
    """`name` "" is everything: no part of vdsm keeps a level of its own. Raises NoSuchLogger; makes no new logger."""
    known = logging.root.manager.loggerDict
    if not name:
        logging.root.setLevel(_LEVELS[level])
        for one in [n for n in known if n == _OURS or n.startswith(f"{_OURS}.")]:
            logging.getLogger(one).setLevel(logging.NOTSET)
    elif name in known:
        logging.getLogger(name).setLevel(_LEVELS[level])
    else:
        raise NoSuchLogger(logger=name)
