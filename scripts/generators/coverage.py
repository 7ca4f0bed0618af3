# SPDX-License-Identifier: Apache-2.0
"""docs/coverage.md: every verb of the published API, and whether this daemon has it.

`published.json` holds the facts: names, parameters (a trailing ? is optional) and the release each verb came with.
A verb counts as working because it is in the contract, and `tests/conformance` fails for one that no scenario runs.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from vdsm.contract import VERBS

PUBLISHED = json.loads(Path(__file__).with_name("published.json").read_text())

REFUSED = {
    "VM.getDiskAlignment": "a host does not look into guests' disks; published as deprecated since 4.2",
    "StoragePool.refresh": "the published servers never implemented it; StoragePool.connect reads a pool anew",
}
LATER = {
    "Host": "with the part of the host it is about",
    "VM": "with backups, migration or more of device hotplug",
    "StorageDomain": "with block storage",
    "Image": "with copies of volumes",
    "SDM": "with block storage",
    "ManagedVolume": "with block storage",
    "LVMVolumeGroup": "with block storage",
    "ISCSIConnection": "with block storage",
}


def files() -> dict[str, str]:
    states = [(row, *_state(row["method"])) for row in PUBLISHED]
    counts = Counter(state for _, state, _ in states)
    lines = [
        "# Coverage of the published API",
        "",
        "Generated from the contract by `scripts/generate`; `scripts/check` fails when it is stale. A verb listed as",
        "working is run by `tests/conformance` over every protocol; `scripts/test tests/conformance` prints the table",
        "of verbs and protocols, and whether each gives what the daemon itself does.",
        "",
        f"{len(PUBLISHED)} published verbs: " + ", ".join(f"{n} {state}" for state, n in counts.most_common()) + ".",
        "",
        "| verb | since | state | |",
        "|---|---|---|---|",
        *(f"| {row['method']} | {row['since']} | {state} | {note} |" for row, state, note in states),
        "",
        "## New in vdsm",
        "",
        "Verbs that the published API lacks:",
        "",
        "| verb | what it does |",
        "|---|---|",
        *(f"| {v.method} | {v.summary} |" for v in VERBS.values() if v.method not in {r["method"] for r in PUBLISHED}),
        "",
    ]
    return {"docs/coverage.md": "\n".join(lines)}


def _state(method: str) -> tuple[str, str]:
    if method in REFUSED:
        return "refused", REFUSED[method]
    if method in VERBS:
        return "works", ""
    return "not yet", LATER[method.partition(".")[0]]
