# SPDX-License-Identifier: Apache-2.0
"""Where the bus is, and with what one logs in there, as the configuration says."""

from __future__ import annotations

import stat
from pathlib import Path
from urllib.parse import urlsplit

from vdsm.amqp.address import BusAddress

from .config import Bus, ConfigError
from .process import StartError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def bus_address(bus: Bus) -> BusAddress | None:
    """None without a bus. Raises ConfigError, StartError."""
    if not bus.address:
        return None
    password = _password(bus)
    try:
        if urlsplit(bus.address).password:
            raise ValueError("a password in it could be seen; put it into a file, and name that in password_file")
        return BusAddress.parse(
            _with_profile(bus), ca=bus.ca, certificate=bus.certificate, key=bus.key, password=password
        )
    except ValueError as error:
        raise ConfigError(f"[bus] address: {error}") from None


def _with_profile(bus: Bus) -> str:
    if not bus.profile:
        return bus.address
    if "profile=" in bus.address:
        raise ValueError("it names a profile, as [bus] profile does; keep one of the two")
    return f"{bus.address}?profile={bus.profile}"


def _password(bus: Bus) -> str:
    """Raises StartError, also for a file that others may read."""
    if not bus.password_file:
        return ""
    file = Path(bus.password_file)
    try:
        if file.stat().st_mode & _OTHERS:
            raise StartError(f"[bus] password_file: others may read {file}; `chmod 600 {file}` keeps them out")
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise StartError(f"[bus] password_file: {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StartError(f"[bus] password_file: {file} is not UTF-8 text") from None
