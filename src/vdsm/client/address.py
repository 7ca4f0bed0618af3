# SPDX-License-Identifier: Apache-2.0
"""Where a daemon is, and with what one shows who one is. Standard library only: the shell's fast path uses it."""

from __future__ import annotations

import os

PORT = 54321
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Address:
    """One daemon's door: a unix socket (`path`), or a host and port over TLS."""

    __slots__ = ("ca", "cert", "host", "key", "path", "port", "tls", "token")

    def __init__(
        self,
        *,
        path: str = "",
        host: str = "localhost",
        port: int = PORT,
        tls: bool = False,
        ca: str = "",
        cert: str = "",
        key: str = "",
        token: str = "",
    ) -> None:
        self.path = path
        self.host = host
        self.port = port
        self.tls = tls
        self.ca = ca
        self.cert = cert
        self.key = key
        self.token = token

    @property
    def authority(self) -> str:
        """As in a URL."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def __str__(self) -> str:
        return self.path or f"{'https' if self.tls else 'http'}://{self.authority}"

    __repr__ = __str__  # the token is not for logs


def local_socket() -> str:
    """Where a daemon of the same user listens."""
    if os.geteuid() == 0:
        return "/run/vdsm/api.sock"
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    if not os.path.isdir(runtime):  # no login manager made it
        runtime = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return f"{runtime}/vdsm/api.sock"


def find(url: str | None = None, *, ca: str = "", cert: str = "", key: str = "", token: str = "") -> Address:
    """The address that `url` or else VDSM_URL names, or else the local socket.

    `url` is a socket's path, also as `unix:PATH`, or `https://HOST[:PORT]`. What is not given comes from VDSM_CA,
    VDSM_CERT, VDSM_KEY and the file named by VDSM_TOKEN_FILE.

    Raises ValueError for a url of another form, OSError for a token file that cannot be read.
    """
    env = os.environ
    url = url or env.get("VDSM_URL") or local_socket()
    if url.startswith(("/", "unix:")):
        return Address(path="/" + url.removeprefix("unix:").lstrip("/"))
    scheme, mark, rest = url.partition("://")
    if not mark or scheme not in ("https", "http"):
        raise ValueError(f"{url!r} is neither a socket's path nor https://HOST[:PORT]")
    host, port = _host_and_port(rest)
    if scheme == "http" and host not in LOOPBACK:
        raise ValueError(f"{url!r}: only this machine may be spoken to without TLS; use https")
    if not token and (file := env.get("VDSM_TOKEN_FILE")):
        token = read_token(file)
    return Address(
        host=host,
        port=port,
        tls=scheme == "https",
        ca=ca or env.get("VDSM_CA", ""),
        cert=cert or env.get("VDSM_CERT", ""),
        key=key or env.get("VDSM_KEY", ""),
        token=token,
    )


def read_token(file: str) -> str:
    """The bearer token a file holds. Raises OSError, ValueError if there is none in it."""
    with open(file, encoding="utf-8") as lines:
        token = lines.readline().strip()
    if not token:
        raise ValueError(f"{file} holds no token in its first line")
    return token


def _host_and_port(text: str) -> tuple[str, int]:
    text = text.rstrip("/")
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not host or "/" in host or "@" in host or not (port.isdecimal() or not port):
        raise ValueError(f"{text!r} is not HOST[:PORT]")
    return host, int(port or PORT)
