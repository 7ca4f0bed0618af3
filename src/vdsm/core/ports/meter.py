# SPDX-License-Identifier: Apache-2.0
"""Where the bridge says how each call went."""

from __future__ import annotations

from typing import Protocol


class Meter(Protocol):
    def observe(self, method: str, verdict: str, seconds: float) -> None:
        """One call of the verb `method` ended with `verdict` (ok, accepted, or a problem's slug) after `seconds`."""
