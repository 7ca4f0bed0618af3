# SPDX-License-Identifier: Apache-2.0
"""The gateway's settings: the daemon's own file, as far as it is about doors and the bus, and the command line."""

from __future__ import annotations

import argparse
from urllib.parse import urlsplit

import msgspec

from vdsm.daemon.config import Config, ConfigError, Place, Plain, Rest, parse, with_places

FORMS = "ADDRESS[:PORT] or https://ADDRESS[:PORT] for TLS, unix:PATH, or http://ADDRESS:PORT without TLS"


def settings(options: argparse.Namespace) -> Config:
    """What is set, with the usual places where nothing was said. Raises ConfigError."""
    text, name = b"", "the command line"
    if options.config is not None:
        name = f"{options.config}"
        try:
            text = options.config.read_bytes()
        except OSError as error:
            raise ConfigError(f"{name}: it cannot be read: {error.strerror}") from None
    given = parse(text, name)
    config = with_places(given, Place.of_process())
    # Many gateways may run beside a daemon: they have a socket only where somebody says so.
    rest, plain = msgspec.structs.replace(config.rest, socket=given.rest.socket), config.plain
    for where in options.listen:
        rest, plain = _listening(rest, plain, where)
    if options.role:
        plain = msgspec.structs.replace(plain, role=options.role)
    if not (rest.socket or rest.listen or plain.listen):
        raise ConfigError(f"nobody could reach it: say where to listen, --listen {FORMS}")
    bus = {"address": options.bus, "password_file": options.password_file}
    changed = {key: value for key, value in bus.items() if value}
    return msgspec.structs.replace(config, rest=rest, plain=plain, bus=msgspec.structs.replace(config.bus, **changed))


def _listening(rest: Rest, plain: Plain, where: str) -> tuple[Rest, Plain]:
    """With one more place to listen at. Raises ConfigError."""
    if where.startswith(("/", "unix:")):
        return msgspec.structs.replace(rest, socket=where.removeprefix("unix:")), plain
    scheme, mark, place = where.rpartition("://")
    try:
        parts = urlsplit(f"//{place}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or (mark and scheme not in ("http", "https")) or (scheme == "http" and port is None):
        raise ConfigError(f"--listen: {where!r} is not {FORMS}")
    if scheme == "http":
        return rest, msgspec.structs.replace(plain, listen=host, port=port)
    return msgspec.structs.replace(rest, listen=host, port=rest.port if port is None else port), plain
