# SPDX-License-Identifier: Apache-2.0
"""`vdsmd`: the command line. What it does not need it does not import, so `--version` answers at once."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vdsm import __version__

from .pki_command import add_arguments

if TYPE_CHECKING:
    from .config import Config

OK, FAILED, WRONG = 0, 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Run the daemon, or what else was asked for. The exit status: 2 for wrong arguments or a wrong configuration."""
    options = _parser().parse_args(arguments)
    from .config import ConfigError, Place, load
    from .process import StartError

    try:
        config = load(options.config, Place.of_process())
        if options.command == "pki":
            return _pki(options, config)
        if options.show_config:
            from .show import to_toml

            print(to_toml(config), end="")
            return OK
        return _serve(options, config)
    except ConfigError as error:
        return _say(error, WRONG)
    except StartError as error:
        return _say(error, FAILED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vdsmd", description="The virtualization host daemon.")
    parser.add_argument("--version", action="version", version=f"vdsmd {__version__}")
    parser.add_argument("--config", type=Path, metavar="FILE", help="instead of the usual configuration file")
    parser.add_argument("--show-config", action="store_true", help="print the configuration in force, explained")
    parser.add_argument(
        "--simulate", nargs="?", type=_machines, const=-1, metavar="N", help="serve a pretended host with N machines"
    )
    parser.add_argument("--background", action="store_true", help="return when the daemon is ready and runs on")
    parser.add_argument("--log-file", type=Path, metavar="FILE", help="of --background; else vdsmd.log with the state")
    commands = parser.add_subparsers(dest="command", metavar="pki")
    add_arguments(commands.add_parser("pki", help="make, renew and show certificates"))
    return parser


def _machines(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 100_000:
        raise ValueError(text)
    return number


def _pki(options: argparse.Namespace, config: Config) -> int:
    from .pki import PkiError
    from .pki_command import run

    try:
        run(options, config)
    except PkiError as error:
        return _say(error, FAILED)
    return OK


def _serve(options: argparse.Namespace, config: Config) -> int:
    from .process import Background, pid_file

    background = Background((options.log_file or Path(config.daemon.state_directory) / "vdsmd.log").absolute())
    if options.background and (status := background.leave()) is not None:
        return status
    import asyncio

    from . import logging
    from .serve import Server

    logging.configure(config.log.level, config.log.format)
    with pid_file(Path(config.daemon.run_directory)):
        server = Server(config, options.config, machines=options.simulate)
        asyncio.run(server.run(background.ready))
    return OK


def _say(error: Exception, status: int) -> int:
    print(f"vdsmd: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
