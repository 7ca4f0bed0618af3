# SPDX-License-Identifier: Apache-2.0
"""Machines that somebody else made on the same libvirt: shown as they are, and never touched."""

from __future__ import annotations

import libvirt
import pytest

from harness.daemon import Daemon
from harness.machines import halting_rom, idle_xml, summary
from harness.until import until
from vdsm.contract import errors
from vdsm.contract.vm_info import VmState
from vdsm.contract.vm_params import VmParams


def test_a_foreign_machine_is_shown_and_left_alone(daemon: Daemon, uri: str) -> None:
    rom = halting_rom(daemon.images)
    connection = libvirt.open(uri)
    kept, passing = daemon.name("theirs"), daemon.name("theirs-too")
    domain = connection.defineXML(idle_xml(kept, rom))
    connection.createXML(idle_xml(passing, rom))
    daemon.start()
    with daemon.connect() as host:
        first, second = summary(host, kept), summary(host, passing)
        assert first is not None
        assert second is not None
        assert (first.foreign, first.status) == (True, VmState.DOWN)
        assert (second.foreign, second.status) == (True, VmState.UP)
        before = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        for attempt in (
            lambda: host.vm.undefine(first.vm_id),
            lambda: host.vm.start(first.vm_id),
            lambda: host.vm.rename(first.vm_id, daemon.name("ours")),
            lambda: host.vm.set_autostart(first.vm_id, True),
            lambda: host.vm.destroy(second.vm_id),
            lambda: host.vm.pause(second.vm_id),
            lambda: host.vm.shutdown(second.vm_id, timeout=0.1, force=True),
            lambda: host.vm.console(second.vm_id),
        ):
            with pytest.raises(errors.ForeignVM):
                attempt()
        assert domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) == before
        assert not domain.autostart()

        assert second.vm_id not in {row.vm_id for row in host.host.get_vm_list()}, "the published list is vdsm's own"
        connection.lookupByName(passing).destroy()
        until("what its owner did is seen", lambda: summary(host, passing) is None)
    daemon.terminate()
    assert {name: d.isActive() for name, d in daemon.domains().items()} == {kept: 0}


def test_another_daemons_machine_is_foreign_too(daemon: Daemon, uri: str) -> None:
    """The mark names its owner: two daemons with one libvirt leave each other's machines alone."""
    rom = halting_rom(daemon.images)
    daemon.start()
    with daemon.connect() as host:
        made = host.vm.create(VmParams(xml=idle_xml(daemon.name("a"), rom)))
    other = Daemon(daemon.home / "other", daemon.prefix + "o", uri=uri)
    try:
        other.start()
        with other.connect() as host:
            row = summary(host, daemon.name("a"))
            assert row is not None
            assert row.foreign
            with pytest.raises(errors.ForeignVM):
                host.vm.destroy(made.vm_id)
    finally:
        other.end()
