# SPDX-License-Identifier: Apache-2.0
"""Which daemon a url, the environment or neither names."""

from __future__ import annotations

from pathlib import Path

import pytest

from vdsm.client.address import find, local_socket


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VDSM_URL", "VDSM_CA", "VDSM_CERT", "VDSM_KEY", "VDSM_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/run/x.sock", "/run/x.sock"),
        ("unix:/run/x.sock", "/run/x.sock"),
        ("unix:///run/x.sock", "/run/x.sock"),
        ("https://host", "https://host:54321"),
        ("https://host:1/", "https://host:1"),
        ("https://[2001:db8::1]:8", "https://[2001:db8::1]:8"),
        ("https://2001:db8::1", "https://[2001:db8::1]:54321"),
        ("http://localhost:80", "http://localhost:80"),
    ],
)
def test_forms_of_a_url(url: str, shown: str) -> None:
    assert str(find(url)) == shown


@pytest.mark.parametrize(
    "url", ["host", "ftp://host", "https://", "https://a/b", "https://u@h", "https://h:x", "http://192.0.2.1"]
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match=r"http|HOST"):
        find(url)


def test_the_local_socket_is_the_default() -> None:
    assert find().path == local_socket()


def test_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("vdsm_abc\n")
    monkeypatch.setenv("VDSM_URL", "https://far:1")
    monkeypatch.setenv("VDSM_CA", "/ca.pem")
    monkeypatch.setenv("VDSM_TOKEN_FILE", str(token))
    found = find()
    assert (str(found), found.ca, found.token) == ("https://far:1", "/ca.pem", "vdsm_abc")
    assert find(ca="/other").ca == "/other"
    assert find("/run/x").token == "", "a unix socket needs no token"


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(find("https://h", token="secret"))


def test_an_empty_token_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "t").write_text("\n")
    monkeypatch.setenv("VDSM_TOKEN_FILE", str(tmp_path / "t"))
    with pytest.raises(ValueError, match="no token"):
        find("https://h")
