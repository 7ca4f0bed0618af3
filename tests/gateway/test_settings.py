# SPDX-License-Identifier: Apache-2.0
"""The gateway's command line and file."""

from __future__ import annotations

from pathlib import Path

import pytest

from vdsm.daemon.config import Config, ConfigError
from vdsm.gateway.__main__ import main, parser
from vdsm.gateway.settings import settings

BUS = ("--bus", "amqp://broker", "--host", "web")


def read(*arguments: str) -> Config:
    return settings(parser().parse_args([*BUS, *arguments]))


@pytest.mark.parametrize(
    ("where", "listen", "port"),
    [
        ("0.0.0.0", "0.0.0.0", 54321),
        ("192.0.2.7:5000", "192.0.2.7", 5000),
        ("https://[::1]:0", "::1", 0),
        ("[::]", "::", 54321),
    ],
)
def test_tls(where: str, listen: str, port: int) -> None:
    found = read("--listen", where)
    assert (found.rest.listen, found.rest.port, found.rest.socket, found.plain.listen) == (listen, port, "", "")


@pytest.mark.parametrize("where", ["/run/a.sock", "unix:/run/a.sock"])
def test_a_socket(where: str) -> None:
    assert read("--listen", where).rest.socket == "/run/a.sock"


def test_several_places_and_a_plain_one() -> None:
    found = read("--listen", "http://127.0.0.1:0", "--role", "viewer", "--listen", "/run/a.sock")
    assert (found.plain.listen, found.plain.port, found.plain.role) == ("127.0.0.1", 0, "viewer")
    assert found.rest.socket == "/run/a.sock"


def test_the_file_is_as_the_daemons_and_the_command_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(
        '[rest]\nlisten = "127.0.0.1"\n[bus]\naddress = "amqp://other"\n[access]\ncertificates = { engine = "admin" }\n'
    )
    found = read("--config", f"{file}", "--listen", "[::1]")
    assert (found.rest.listen, found.bus.address) == ("::1", "amqp://broker")
    assert found.access.certificates == {"engine": "admin"}
    file.write_text('[rest]\nlissen = "127.0.0.1"\n')
    with pytest.raises(ConfigError, match="did you mean 'listen'"):
        read("--config", f"{file}")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--listen", ""),
        ("--listen", "ftp://a"),
        ("--listen", "http://127.0.0.1"),
        ("--listen", "a:b"),
        ("--listen", "a:99999"),
        ("--config", "/nonexistent"),
    ],
)
def test_what_cannot_be_is_told(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*BUS, *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("vdsm-gateway: ")
    assert said.count("\n") == 1


def test_a_gateway_needs_a_bus(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--host", "web", "--listen", "/run/a.sock"]) == 2
    assert "--bus" in capsys.readouterr().err
