# SPDX-License-Identifier: Apache-2.0
"""HTTP servers elsewhere, as a client of theirs."""

from .remotes import HttpRemotes

__all__ = ["HttpRemotes"]
