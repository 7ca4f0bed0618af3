# SPDX-License-Identifier: Apache-2.0
"""What a codec says of input it cannot take."""

from __future__ import annotations


class DialectError(ValueError):
    """Arguments that cannot be put into the contract's form; `path` is the JSON path of what is wrong."""

    def __init__(self, reason: str, path: str = "$") -> None:
        super().__init__(reason)
        self.path = path
