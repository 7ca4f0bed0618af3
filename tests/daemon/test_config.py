# SPDX-License-Identifier: Apache-2.0
"""The configuration: defaults by who runs, strictness with a place and a remedy, and the file that documents it."""

from __future__ import annotations

import itertools
import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdsm.client.address import local_socket
from vdsm.contract.access import Role
from vdsm.daemon.config import Config, ConfigError, Place, load, parse
from vdsm.daemon.show import to_toml

ROOT = Place.of_root()
DEFAULTS = Path(__file__).parents[2] / "packaging" / "vdsmd.toml"


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "vdsmd.toml"
    file.write_text(text)
    return file


def test_root_gets_the_system_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    config = load(written(tmp_path, ""), Place.of_process())
    assert config.daemon.state_directory == "/var/lib/vdsm"
    assert config.rest.socket == "/run/vdsm/api.sock"
    assert config.libvirt.uri == "qemu:///system"
    assert config.rest.key == "/var/lib/vdsm/pki/host.key"
    assert config.vm.directories == ["/var/lib/vdsm/images", "/var/lib/libvirt/images", "/srv"]
    assert Place.of_process().config == Path("/etc/vdsm/vdsmd.toml")


def test_others_get_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", f"{tmp_path}/run")
    (tmp_path / "run").mkdir()
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    place = Place.of_process()
    config = load(None, place)
    assert place.config == tmp_path / ".config/vdsm/vdsmd.toml"
    assert config.daemon.state_directory == f"{tmp_path}/.local/state/vdsm"
    assert config.rest.socket == f"{tmp_path}/run/vdsm/api.sock" == local_socket()
    assert config.libvirt.uri == "qemu:///session"
    assert f"{tmp_path}/.local/share/vdsm" in config.vm.directories
    monkeypatch.delenv("XDG_RUNTIME_DIR")  # as without a login manager
    assert load(None, Place.of_process()).rest.socket == f"{tmp_path}/.cache/vdsm/api.sock" == local_socket()


def test_what_is_set_counts_and_other_paths_follow(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        [daemon]
        state_directory = "/data/vdsm"
        run_directory = "/data/run"
        [rest]
        listen = "::"
        ca = "/elsewhere/ca.pem"
        [access]
        users = { alice = "operator" }
        """,
    )
    config = load(file, ROOT)
    assert config.rest.certificate == "/data/vdsm/pki/host.pem"
    assert config.rest.ca == "/elsewhere/ca.pem"
    assert config.rest.socket == "/data/run/api.sock"
    assert config.access.users == {"alice": Role.OPERATOR}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[rest]\nport = 99999", "[rest] port: Expected `int` <= 65535"),
        ("[rest]\nport = '1'", "[rest] port: Expected `int`, got `str`"),
        ("[rest]\nprot = 1", "[rest]: there is no key 'prot', did you mean 'port'?"),
        ("[rset]\nport = 1", "there is no table 'rset', did you mean 'rest'?"),
        ("port = 1", "there is no table 'port'"),
        ("rest = 1", "[rest]: Expected `object`, got `int`"),
        ("[vm]\ndirectories = ['images']", "[vm] directories[0]: expected an absolute path"),
        ("[access.users]\nbob = 'boss'", "[access] users[...]: Invalid enum value 'boss'"),
        ("[daemon]\nowner = 'a b'", "[daemon] owner: Expected `str` matching"),
        ("[rest\n", "it is not TOML: Expected ']' at the end of a table declaration (at line 1, column 6)"),
        ("[log]\nlevel = 'LOUD'", "[log] level: Invalid enum value 'LOUD'"),
        ("[events]\nkeep = 0", "[events] keep: Expected `int` >= 1"),
    ],
)
def test_a_wrong_file_is_told_by_place(tmp_path: Path, text: str, said: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(file, ROOT)
    assert str(caught.value).startswith(f"{file}: {said}")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load(tmp_path / "none.toml", ROOT)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, ROOT)
    (tmp_path / "binary").write_bytes(b"[rest]\n# \xff")
    with pytest.raises(ConfigError, match=r"not UTF-8 \(byte 9\)"):
        load(tmp_path / "binary", ROOT)


@given(st.binary(max_size=60) | st.text(alphabet="[]rest.pot=1\"'{}\n#\\", max_size=40).map(str.encode))
def test_no_file_is_a_crash(text: bytes) -> None:
    try:
        said = f"file: {parse(text, 'file')}"
    except ConfigError as error:
        said = str(error)
    assert said.startswith("file: ")


def test_what_is_shown_reads_back_the_same(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        '[access]\nusers = { "a\\"b" = "viewer", "üñí" = "admin" }\n[vm]\ndirectories = ["/a b", "/c"]\n'
        '[rest]\nlisten = "::1"\n[daemon]\ndrain_seconds = 2',
    )
    config = load(file, ROOT)
    assert load(written(tmp_path, to_toml(config)), ROOT) == config


def test_every_key_is_explained() -> None:
    lines = to_toml(Config()).splitlines()
    for before, line in itertools.pairwise(lines):
        if line.startswith("[") or " = " in line.partition("#")[0]:
            assert before.startswith("# "), f"nothing explains {line}"


def test_the_packaged_file_is_the_defaults() -> None:
    text = DEFAULTS.read_text()
    assert text == to_toml(load(Path(os.devnull), ROOT), commented=True), "run scripts/generate"
    assert parse(text.encode(), "packaged") == Config()
    uncommented = "\n".join(line.removeprefix("#") if not line.startswith("# ") else "" for line in text.splitlines())
    assert set(tomllib.loads(uncommented)) == set(Config.__struct_fields__)
    assert load(Path(os.devnull), ROOT) == parse(uncommented.encode(), "uncommented")
