# SPDX-License-Identifier: Apache-2.0
"""Write the generated files, or with --check say which are stale."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import client, configuration, coverage, dialect, reference

GENERATORS = (client, configuration, coverage, dialect, reference)
ROOT = Path(__file__).parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a file is stale")
    parser.add_argument("--root", type=Path, default=ROOT, help="write below this directory instead")
    args = parser.parse_args()
    stale = 0
    for generator in GENERATORS:
        for name, text in generator.files().items():
            path = args.root / name
            if path.exists() and path.read_text(encoding="utf-8") == text:
                continue
            stale += 1
            print(f"{name}: {'stale' if args.check else 'written'}")
            if not args.check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    if stale and args.check:
        print("run scripts/generate", file=sys.stderr)
    return 1 if stale and args.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
