# SPDX-License-Identifier: Apache-2.0
"""Raw domain XML: what is taken, what is refused, and that what is taken stays what it was."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.memory_host import MemoryHost
from vdsm.contract import host as host_verbs
from vdsm.contract import vm
from vdsm.contract.errors import Problem, XmlRefused
from vdsm.core.vm import raw, xml

HEAD = "<name>a</name><memory unit='MiB'>64</memory>"


def _domain(body: str, attributes: str = "type='kvm'") -> str:
    return f"<domain {attributes}>{HEAD}{body}</domain>"


def _disk(body: str) -> str:
    return _domain(f"<devices><disk type='file'>{body}</disk></devices>")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "well-formed"),
        ("no xml", "well-formed"),
        ("<domain>", "well-formed"),
        ("<network/>", "<network>"),
        ("<!DOCTYPE d><domain/>", "DOCTYPE"),
        ("<!DOCTYPE d [<!ENTITY a 'b'>]><domain>&a;</domain>", "DOCTYPE"),
        ("<!DOCTYPE d [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><domain>&a;</domain>", "DOCTYPE"),
        (f"<domain>{'<a>' * 200}{'</a>' * 200}</domain>", "nested"),
        ("<domain>\ud800</domain>", "well-formed"),
        (_domain("<seclabel type='none'/>"), "confinement"),
        (_domain("<devices><hostdev mode='subsystem' type='pci'/></devices>"), "host"),
        (_domain("<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'/>"), "namespace"),
        (_domain("<x:anything xmlns:x='urn:x'/>"), "namespace"),
        (_domain("<devices><graphics type='vnc' passwd='secret'/></devices>"), "setTicket"),
        (_domain("<devices><interface type='ethernet'><script path='x'/></interface></devices>"), "run"),
        (_domain("<devices><interface type='hostdev' managed='yes'/></devices>"), "handed out"),
        (_domain("<devices><disk type='nvme'/></devices>"), "handed out"),
        (_disk("<driver type='raw'/><source file='relative'/>"), "absolute"),
        (_disk("<driver type='raw'/><source file='/images/../etc/x'/>"), "climbs"),
        (_disk("<source file='/images/a'/>"), "format"),
        (_disk("<driver type='vmdk'/><source file='/images/a'/>"), "format"),
    ],
)  # fmt: skip
def test_refused(text: str, says: str) -> None:
    with pytest.raises(XmlRefused, match=says):
        raw.check(xml.parse(text))


@pytest.mark.parametrize(
    "body",
    [
        "<devices><disk type='block'><source dev='/dev/sda'/></disk></devices>",
        "<devices><disk type='file'><driver type='qcow2'/><source file='/etc/shadow'/></disk></devices>",
        "<devices><filesystem><source dir='/'/><target dir='x'/></filesystem></devices>",
        "<devices><filesystem><source dir='/etc'/><target dir='x'/></filesystem></devices>",
        "<devices><serial type='unix'><source mode='bind' path='/run/x'/></serial></devices>",
        "<devices><serial type='file'><source path='/root/.ssh/authorized_keys'/></serial></devices>",
        "<devices><serial type='dev'><source path='/dev/mem'/></serial></devices>",
        "<devices><console type='pty'><log file='/etc/cron.d/x'/></console></devices>",
        "<devices><interface type='vhostuser'><source type='unix' path='/tmp/s'/></interface></devices>",
        "<devices><rng><backend model='egd' type='unix'><source path='/tmp/s'/></backend></rng></devices>",
        "<devices><emulator>/tmp/evil</emulator></devices>",
        "<os><kernel>/etc/shadow</kernel></os>",
        "<os><loader>/etc/shadow</loader></os>",
        "<os><nvram template='/etc/shadow'/></os>",
        "<os><nvram>/etc/passwd</nvram></os>",
        "<devices><tpm model='x'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm></devices>",
        "<devices><shmem name='/x'><server path='/tmp/s'/></shmem></devices>",
    ],
)
async def test_host_paths_outside_the_allowed_directories_are_refused(host: MemoryHost, body: str) -> None:
    """The rule is about values, not about elements: one that libvirt adds tomorrow is covered today."""
    with pytest.raises(Problem) as caught:
        await host.call(vm.create, vmParams={"xml": _domain(body)})
    assert 400 <= caught.value.status < 500
    assert not await host.hypervisor.domains()


async def test_what_is_taken_is_kept(host: MemoryHost) -> None:
    body = (
        "<metadata><v:vm xmlns:v='http://ovirt.org/vm/1.0'><v:clusterVersion>4.7</v:clusterVersion></v:vm></metadata>"
        "<os><type arch='x86_64'>hvm</type></os><devices><emulator>/usr/bin/qemu-system-x86_64</emulator>"
        "<disk type='file' device='disk'><driver type='raw'/><source file='/images/a'/><target dev='vda'/>"
        "<alias name='ua-1'/></disk><rng model='virtio'><backend model='random'>/dev/urandom</backend></rng></devices>"
    )
    made = await host.call(vm.create, vmParams={"xml": _domain(body)})
    text = (await host.call(host_verbs.dumpxmls, vmList=[made.vm_id]))[made.vm_id]
    for kept in ("ua-1", "ovirt-vm:clusterVersion", "/images/a", "/dev/urandom"):
        assert kept in text
    assert xml.mark_of(ET.fromstring(text)) == ("test", False)


async def test_a_forged_mark_is_replaced(host: MemoryHost) -> None:
    forged = f"<metadata><m:vm xmlns:m='{xml.NAMESPACE}' owner='somebody' kept='yes'/></metadata>"
    made = await host.call(vm.create, vmParams={"xml": _domain(forged)})
    text = (await host.call(host_verbs.dumpxmls, vmList=[made.vm_id]))[made.vm_id]
    assert xml.mark_of(ET.fromstring(text)) == ("test", False)
    assert "somebody" not in text


@given(st.text(max_size=200))
def test_no_text_is_a_defect(text: str) -> None:
    try:
        raw.check(xml.parse(f"<domain><name>{text}</name></domain>"))
    except XmlRefused:
        return


@given(
    st.recursive(
        st.just(""),
        lambda inner: st.builds(
            lambda tag, value, body: f"<{tag} a='{value}'>{body}</{tag}>",
            st.sampled_from(["devices", "disk", "source", "os", "x"]),
            st.sampled_from(["/etc/x", "/images/x", "plain", "../x"]),
            inner,
        ),
        max_leaves=6,
    )
)
def test_every_absolute_path_is_asked_about(body: str) -> None:
    root = ET.fromstring(f"<domain>{body}</domain>")
    asked = {path for path, _ in raw.paths(root)}
    assert asked == {v for e in root.iter() for v in e.attrib.values() if v.startswith("/")}
