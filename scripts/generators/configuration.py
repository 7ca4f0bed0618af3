# SPDX-License-Identifier: Apache-2.0
"""packaging/vdsmd.toml: every key of the daemon's configuration with its meaning and its default."""

from __future__ import annotations

import os
from pathlib import Path

from vdsm.daemon.config import Place, load
from vdsm.daemon.show import to_toml


def files() -> dict[str, str]:
    return {"packaging/vdsmd.toml": to_toml(load(Path(os.devnull), Place.of_root()), commented=True)}
