# SPDX-License-Identifier: Apache-2.0
"""Where a broker is, and with what one shows who one is."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qsl, unquote, urlsplit

PORTS = {"amqp": 5672, "amqps": 5671}
PROFILES = ("qpidd", "rabbitmq3", "rabbitmq4", "artemis", "activemq")
FORM = "amqp[s]://[USER[:PASSWORD]@]HOST[:PORT][/VIRTUAL_HOST][?profile=PROFILE]"


class Mechanism(StrEnum):
    """How one authenticates (SASL)."""

    ANONYMOUS = "ANONYMOUS"
    PLAIN = "PLAIN"
    EXTERNAL = "EXTERNAL"


@dataclass(frozen=True, slots=True)
class BusAddress:
    """One broker. `profile` empty: known by what the broker says it is.

    A user with a password is shown by PLAIN, a certificate without a password by EXTERNAL (`user` then is the name that
    the broker reads from the certificate), nobody by ANONYMOUS.
    """

    host: str
    port: int
    tls: bool = False
    user: str = ""
    password: str = field(default="", repr=False)
    virtual_host: str = ""
    profile: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""

    @classmethod
    def parse(cls, url: str, *, password: str = "", ca: str = "", certificate: str = "", key: str = "") -> BusAddress:
        """From a URL; the files of TLS, and a password that must not stand in a URL, come beside it.

        Raises ValueError with what is wrong, which never repeats the password.
        """
        parts = urlsplit(url)
        if parts.scheme not in PORTS:
            raise ValueError(f"the bus has the scheme {parts.scheme!r}; its form is {FORM}")
        try:
            host, port = parts.hostname, parts.port
        except ValueError as error:  # a port that is no number would quote what stands there, be it a password
            raise ValueError(f"the port of the bus is not a number from 1 to 65535; the form is {FORM}") from error
        if not host or port == 0 or parts.fragment or parts.path.count("/") > 1:
            raise ValueError(f"the bus has no host, or more than its form has: {FORM}")
        tls = parts.scheme == "amqps"
        if not tls and (ca or certificate or key):
            raise ValueError("certificates need amqps://")
        if bool(certificate) != bool(key):
            raise ValueError("a certificate needs its key, and a key its certificate")
        user, secret = unquote(parts.username or ""), password or unquote(parts.password or "")
        if secret and not user:
            raise ValueError("the bus has a password and no user")
        if user and not secret and not certificate:
            raise ValueError("the bus has a user and neither a password nor a certificate")
        return cls(
            host=host,
            port=port or PORTS[parts.scheme],
            tls=tls,
            user=user,
            password=secret,
            virtual_host=unquote(parts.path[1:]),
            profile=_profile(parts.query),
            ca=ca,
            certificate=certificate,
            key=key,
        )

    @property
    def mechanism(self) -> Mechanism:
        if self.password:
            return Mechanism.PLAIN
        return Mechanism.EXTERNAL if self.certificate else Mechanism.ANONYMOUS

    def __str__(self) -> str:
        """As a URL that may be shown: without the password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        virtual = f"/{self.virtual_host}" if self.virtual_host else ""
        return f"amqp{'s' if self.tls else ''}://{user}{host}:{self.port}{virtual}"


def _profile(query: str) -> str:
    try:
        options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError as error:
        raise ValueError(f"the bus has options that are not NAME=VALUE; the form is {FORM}") from error
    profile = options.pop("profile", "")
    if options:
        raise ValueError(f"the bus has the unknown option {min(options)!r}; the form is {FORM}")
    if profile and profile not in PROFILES:
        raise ValueError(f"the profile {profile!r} is unknown; known are {', '.join(PROFILES)}")
    return profile
