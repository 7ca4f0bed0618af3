# SPDX-License-Identifier: Apache-2.0
"""What every test shares."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from harness.daemon import Daemon, remove_domains
from harness.rabbitmq import RabbitMQ, running

ROOT = Path(__file__).parent.parent
pytest_plugins = ["harness.reports"]

# A busy machine makes an example slow; that is no fault of the code under test.
settings.register_profile("vdsm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", max_examples=5_000, deadline=None)  # scripts/test --hypothesis-profile=long ...
settings.load_profile("vdsm")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def uri() -> str:
    """The libvirt that belongs to whoever runs the tests."""
    return "qemu:///system" if os.geteuid() == 0 else "qemu:///session"


@pytest.fixture
def prefix() -> str:
    """What the names of one test's machines begin with."""
    return f"vdsmtest-{secrets.token_hex(4)}"


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory like tmp_path whose files QEMU may read: under qemu:///system it runs as another user."""
    path = Path(tempfile.mkdtemp(prefix="vdsmtest-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def guest() -> Path:
    """A directory with vmlinuz and initrd.gz of a small Linux: scripts/guest makes it, once."""
    made = subprocess.run([ROOT / "scripts/guest"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert made.returncode == 0, f"scripts/guest: {made.stdout}{made.stderr}"
    cache = os.environ.get("XDG_CACHE_HOME") or f"{Path.home()}/.cache"
    return Path("/var/cache" if os.geteuid() == 0 else cache) / "vdsm/guest"


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A broker for every test that leaves it as it was."""
    with running(tmp_path_factory.mktemp("rabbitmq")) as broker:
        yield broker


@pytest.fixture
def daemon(open_path: Path, prefix: str, uri: str) -> Iterator[Daemon]:
    """A vdsmd on real libvirt, not started yet."""
    made = Daemon(open_path, prefix, uri=uri)
    yield made
    made.end()
    remove_domains(uri, prefix)
