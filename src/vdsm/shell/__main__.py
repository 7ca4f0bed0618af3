# SPDX-License-Identifier: Apache-2.0
"""`vdsmsh`, and `python -m vdsm.shell`."""

from __future__ import annotations

import sys

from .run import main as run


def main() -> int:
    """The exit code of the command on this process's command line."""
    return run(sys.argv[1:])


if __name__ == "__main__":
    raise SystemExit(main())
