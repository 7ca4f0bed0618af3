# SPDX-License-Identifier: Apache-2.0
"""What keeps the daemon from starting is said in one line, with the place and the remedy; a dead libvirt does not."""

from __future__ import annotations

import pytest

from harness.daemon import Daemon
from vdsm.contract import errors


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[rest\n", ["not TOML", "line"]),
        ("[rest]\nprot = 1\n", ["[rest]", "'prot'", "did you mean 'port'"]),
        ("[rest]\nport = 70000\n", ["[rest] port", "65535"]),
        ('[log]\nlevel = "LOUD"\n', ["[log] level", "LOUD"]),
        ('[extra]\nx = 1\n', ["'extra'"]),
        ('[access]\nusers = { nobody = "king" }\n', ["[access]", "king"]),
    ],
)  # fmt: skip
def test_a_wrong_configuration(daemon: Daemon, text: str, words: list[str]) -> None:
    daemon.configure(text)
    assert daemon.launch().wait(30) == 2
    said = daemon.said()
    for word in [str(daemon.file), *words]:
        assert word in said
    assert "Traceback" not in said
    assert not daemon.socket.exists()


def test_a_place_that_cannot_be_written(daemon: Daemon) -> None:
    daemon.file.write_text('[daemon]\nstate_directory = "/proc/vdsm"\n' + f'run_directory = "{daemon.home}/run"\n')
    assert daemon.launch().wait(30) == 1
    assert "state_directory" in daemon.said()
    assert "Traceback" not in daemon.said()


def test_a_second_daemon_in_the_same_place(daemon: Daemon, prefix: str, uri: str) -> None:
    daemon.start()
    second = Daemon(daemon.home, prefix, uri=uri)
    second.log = daemon.home / "second.log"
    assert second.launch().wait(30) == 1
    assert f"process {daemon.process.pid}" in second.said()
    assert daemon.answers(), "the first one serves on"


def test_without_libvirt_it_serves_and_says_so(daemon: Daemon) -> None:
    daemon.uri = "qemu+unix:///system?socket=/nonexistent/libvirt-sock"
    daemon.configure()
    daemon.start()
    with daemon.connect() as host:
        assert host.host.echo("still here") == "still here"
        with pytest.raises(errors.HypervisorUnavailable) as refused:
            host.vm.list()
        assert refused.value.hint
        assert daemon.shell("vm", "list", ok=False).returncode != 0
    assert daemon.terminate() == 0
