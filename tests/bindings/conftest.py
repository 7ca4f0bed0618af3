# SPDX-License-Identifier: Apache-2.0
"""Servers for tests of the REST door."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.rest_server import OWN_ROLES, Server
from vdsm.bindings.identity import Roles
from vdsm.bindings.options import RestOptions

Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Makes servers with the options given, and closes them."""
    servers: list[Server] = []

    def make(roles: Roles = OWN_ROLES, **options: Any) -> Server:
        servers.append(Server(tmp_path / str(len(servers)), RestOptions(**{"grace": 2.0, **options}), roles))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve()
