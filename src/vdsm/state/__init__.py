# SPDX-License-Identifier: Apache-2.0
"""What survives a restart: the ports of `vdsm.core.ports.store`, kept in one SQLite file."""

from .audit import Broken
from .database import Database
from .store import Retention, Store

__all__ = ["Broken", "Database", "Retention", "Store"]
