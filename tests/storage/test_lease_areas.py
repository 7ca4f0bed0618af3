# SPDX-License-Identifier: Apache-2.0
"""sanlock's records, which anybody who may write to the storage may have written. `tests/drivers` reads real ones."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdsm.core.ports.files import FileKind
from vdsm.core.ports.leases import Lease, Lockspace
from vdsm.core.storage.format import lease_areas
from vdsm.core.storage.format.lines import Malformed
from vdsm.drivers.simulated.leases import SimulatedLeases
from vdsm.drivers.simulated.tree import Node, Tree


@pytest.fixture
async def tree() -> Tree:
    """With a lease at the beginning of /lease, and a lockspace with one host id in /ids."""
    made = Tree()
    for name in ("/lease", "/ids"):
        made.add(name, Node(kind=FileKind.FILE, mode=0o660))
    leases = SimulatedLeases(tree=made)
    await leases.format_lockspace(Lockspace(name="space", path="/ids"))
    await leases.join(Lockspace(name="space", path="/ids"), 3)
    await leases.format_lease(Lease(lockspace="space", name="one", path="/lease", offset=0))
    return made


async def test_a_record_is_whole_or_none(tree: Tree) -> None:
    data = bytes(tree.nodes["/lease"].data[:512])
    found = lease_areas.lease(data)
    assert found is not None
    assert (found.lockspace, found.resource, found.version) == ("space", "one", 0)
    for length in range(4, 512, 7):
        with pytest.raises(Malformed, match="cut off"):
            lease_areas.lease(data[:length])
    for place in range(172):
        damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(Malformed):
            lease_areas.lease(damaged)
    with pytest.raises(Malformed, match="something else"):
        lease_areas.host_id(data)
    assert lease_areas.lease(bytes(512)) is lease_areas.lease(b"") is None


async def test_a_lockspace_tells_of_the_ids_that_were_taken(tree: Tree) -> None:
    data = bytes(tree.nodes["/ids"].data)
    assert [row.owner for row in lease_areas.host_ids(data, 512)] == [3]
    assert [row.owner for row in lease_areas.host_ids(data + b"\xff" * 5000, 512)] == [3], "what is none is left out"


def test_where_a_value_lies() -> None:
    """Measured. Where sanlock would write over other leases there is none."""
    assert lease_areas.value_offset(1 << 20, 512) == 1_025_024
    assert lease_areas.value_offset(8 << 20, 4096) == 8_200_192
    for alignment in (1 << 20, 2 << 20, 4 << 20):
        assert lease_areas.value_offset(alignment, 4096) is None


@given(st.binary(max_size=1100))
def test_nothing_breaks_the_reader(data: bytes) -> None:
    for read in (lease_areas.lease, lease_areas.host_id):
        with contextlib.suppress(Malformed):
            found = read(data)
            assert found is None or found.lockspace.isprintable()
    assert lease_areas.host_ids(data, 512) == []
