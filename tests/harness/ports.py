# SPDX-License-Identifier: Apache-2.0
"""Ports for the servers of a test."""

from __future__ import annotations

import socket


def free_port() -> int:
    """One that nobody listens at now, on the loopback address."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port: int = door.getsockname()[1]
        return port
