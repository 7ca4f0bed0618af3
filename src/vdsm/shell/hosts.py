# SPDX-License-Identifier: Apache-2.0
"""`vdsmsh --bus ADDRESS host list`: every host of a bus at a glance."""

from __future__ import annotations

import sys

from vdsm.contract.codec import to_plain

from . import units
from .bus import open_door
from .faults import OK
from .options import COMMON
from .parse import Parser, add_common
from .show import document
from .table import Cell, table
from .text import GREEN, RED, YELLOW, clean, look_of, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdsm.client.qmf.glance import Glance

    from .session import Session

SECONDS = 3.0  # for a host to answer; --timeout gives it more
COLORS = {"up": GREEN, "silent": RED}
NOTHING = "-"


def run(session: Session, words: Sequence[str]) -> int:
    """Show them; returns the exit code. Raises Fault."""
    parser = Parser("vdsmsh host list")
    add_common(parser, COMMON)
    given = parser.read(words)
    chosen = {**session.common, **given}
    door = open_door(chosen)
    try:
        found = door.glance(chosen.get("timeout") or SECONDS)
    finally:
        door.close()
    if session.output(given) != "table":
        print(document(to_plain(found), session.output(given)))
        return OK
    if not found:
        say("(no host is heard on this bus)")
        return OK
    look = look_of(sys.stdout)
    print(table(["NAME", "STATE", "VMS", "LOAD", "AGE", "ID"], [_row(host) for host in found], look))
    for host in found:
        if host.problem:
            say(f"{clean(host.name)}: {clean(host.problem)}")
    return OK


def _row(host: Glance) -> list[Cell]:
    machines = NOTHING if host.vm_count is None else f"{host.vm_active} of {host.vm_count}"
    return [
        Cell(clean(host.name)),
        Cell(clean(host.state), color=COLORS.get(host.state, YELLOW)),
        Cell(machines, right=True),
        Cell(NOTHING if host.cpu_load is None else f"{host.cpu_load:.2f}", right=True),
        Cell(units.duration(host.age), right=True),
        Cell(clean(host.id)),
    ]
