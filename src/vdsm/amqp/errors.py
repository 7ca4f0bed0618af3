# SPDX-License-Identifier: Apache-2.0
"""What goes wrong on the way to a broker."""

from __future__ import annotations


class BusDown(Exception):
    """The broker cannot be used now; the text says why and what to do."""
