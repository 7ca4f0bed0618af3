# SPDX-License-Identifier: Apache-2.0
"""`vdsmd pki`: the certificates of this host and its clients, from the command line."""

from __future__ import annotations

import argparse
import datetime as dt
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the cryptography library is large, and the command line is read without it
    from .config import Config
    from .pki import Certificate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="init|host|client|renew|show")
    init = verbs.add_parser("init", help="make the authority and the host's certificate, if they are not there")
    init.add_argument("names", nargs="*", metavar="NAME", help="a name or address clients use for this host")
    host = verbs.add_parser("host", help="make the host's certificate anew")
    host.add_argument("names", nargs="*", metavar="NAME", help="a name or address clients use for this host")
    client = verbs.add_parser("client", help="make a client's certificate")
    client.add_argument("name", metavar="NAME", help="what [access] certificates knows the client by")
    renew = verbs.add_parser("renew", help="make those anew that expire soon or have expired")
    renew.add_argument("--all", action="store_true", help="whether they expire soon or not")
    verbs.add_parser("show", help="list them")


def run(arguments: argparse.Namespace, config: Config) -> None:
    """Raises PkiError."""
    from .pki import Authority

    authority = Authority(config.pki)
    match arguments.verb:
        case "init":
            _tell(authority.init(arguments.names), "everything is there already")
            if not config.rest.listen:
                print('Let the daemon listen: set [rest] listen = "::" in its configuration and restart it.')
        case "host":
            _tell([authority.host(arguments.names)])
        case "client":
            made = authority.client(arguments.name)
            _tell([made])
            print(f"Give the client {config.pki / 'ca.pem'}, {made.file} and {made.file.with_suffix('.key')}.")
            if arguments.name not in config.access.certificates:
                print(f'Say what it may do: [access] certificates = {{ "{arguments.name}" = "operator" }}')
        case "renew":
            _tell(authority.renew(everything=arguments.all), "nothing is due")
        case "show":
            _show(authority.show())


def _tell(made: list[Certificate], otherwise: str = "") -> None:
    for certificate in made:
        print(f"{certificate.file}: {certificate.kind} {certificate.name}, until {_day(certificate.expires)}")
    if not made:
        print(otherwise)


def _show(found: list[Certificate]) -> None:
    if not found:
        from .pki import PkiError

        raise PkiError("there are no certificates yet: `vdsmd pki init` makes them")
    now = dt.datetime.now(dt.UTC)
    for c in found:
        state = "EXPIRED" if c.expires < now else "renew" if c.due(now) else "good"
        print(f"{c.kind:7} {state:8} until {_day(c.expires)}  {c.name}")
        print(f"        {c.file}  {', '.join(c.names)}".rstrip())
        print(f"        SHA-256 {c.fingerprint}")


def _day(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%d")
