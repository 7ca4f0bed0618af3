# SPDX-License-Identifier: Apache-2.0
"""`vdsm-gateway`, and `python -m vdsm.gateway`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vdsm import __version__

OK, FAILED, WRONG = 0, 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Serve a host of the bus. The exit status: 2 for wrong arguments or a wrong configuration."""
    options = parser().parse_args(arguments)
    import asyncio

    from vdsm.daemon import logging
    from vdsm.daemon.bus_address import bus_address
    from vdsm.daemon.config import ConfigError
    from vdsm.daemon.process import StartError

    from .serve import Gateway
    from .settings import settings

    try:
        config = settings(options)
        address = bus_address(config.bus)
        if address is None:
            raise ConfigError("no bus: name it with --bus, or in the file with [bus] address")
        logging.configure(config.log.level, config.log.format)
        asyncio.run(Gateway(config, address, options.host).run())
    except ConfigError as error:
        return _say(error, WRONG)
    except StartError as error:
        return _say(error, FAILED)
    return OK


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vdsm-gateway", description="Serve a host that is reached over a message bus as its own daemon would."
    )
    parser.add_argument("--version", action="version", version=f"vdsm-gateway {__version__}")
    parser.add_argument("--bus", metavar="ADDRESS", help="amqps://USER@BROKER[:PORT], or amqp://... without TLS")
    parser.add_argument("--password-file", metavar="FILE", help="the password of that user")
    parser.add_argument("--host", metavar="NAME", required=True, help="the host on the bus: its name or its id")
    parser.add_argument(
        "--listen", metavar="WHERE", action="append", default=[],
        help="ADDRESS[:PORT] for TLS, unix:PATH, or http://ADDRESS:PORT without TLS; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--role", choices=("viewer", "operator", "admin"), help="of everybody who comes without TLS over http://"
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="as vdsmd's: certificates, access, limits, the wires, the bus"
    )
    return parser


def _say(error: Exception, status: int) -> int:
    print(f"vdsm-gateway: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
