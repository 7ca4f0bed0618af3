# SPDX-License-Identifier: Apache-2.0
"""Domain XML as the published manager writes it: our own words, in the shape and order of its documents."""

from __future__ import annotations

DISK = "6e0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11"
IMAGE = "7e0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11"
ALIAS = "ua-8e0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11"
MAC = "56:6f:00:00:00:01"
UEFI = (
    '<loader secure="{secure}" readonly="yes" type="pflash">/usr/share/OVMF/OVMF_CODE.secboot.fd</loader>'
    '<nvram template="/usr/share/OVMF/OVMF_VARS.fd">/var/lib/libvirt/qemu/nvram/{vm_id}.fd</nvram>'
)


def document(
    name: str,
    vm_id: str,
    disk: str,
    *,
    bridge: str = ";vdsmdummy;",
    paused: str = "false",
    firmware: str = "",
    secure: str = "no",
    boot: str = "",
    mib: int = 128,
    devices: str = "",
    metadata: str = "",
) -> str:
    """`firmware`: "uefi" or nothing. `boot` goes into <os>."""
    kib = mib * 1024
    uefi = UEFI.format(secure=secure, vm_id=vm_id) if firmware == "uefi" else ""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<domain type="kvm" xmlns:ovirt-tune="http://ovirt.org/vm/tune/1.0" xmlns:ovirt-vm="http://ovirt.org/vm/1.0">
<name>{name}</name><uuid>{vm_id}</uuid><memory>{kib}</memory><currentMemory>{kib}</currentMemory>
<iothreads>1</iothreads><maxMemory slots="16">524288</maxMemory><vcpu current="1">16</vcpu>
<sysinfo type="smbios"><system><entry name="manufacturer">oVirt</entry><entry name="product">OS-NAME:</entry>
<entry name="version">OS-VERSION:</entry><entry name="sku">8.4.0</entry><entry name="family">oVirt</entry>
<entry name="serial">HOST-SERIAL:</entry><entry name="uuid">{vm_id}</entry></system></sysinfo>
<clock offset="variable" adjustment="7"><timer name="rtc" tickpolicy="catchup"/><timer name="pit" tickpolicy="delay"/>
<timer name="hpet" present="no"/></clock>
<features><acpi/>{"<smm state='on'/>" if uefi else ""}</features>
<cpu match="exact"><model>qemu64</model><topology cores="1" threads="1" sockets="16"/>
<numa><cell id="0" cpus="0-15" memory="{kib}"/></numa></cpu><cputune/>
<devices>
<emulator>/usr/libexec/qemu-kvm</emulator>
<input type="tablet" bus="usb"/>
<channel type="unix"><target type="virtio" name="ovirt-guest-agent.0"/>
<source mode="bind" path="/var/lib/libvirt/qemu/channels/{vm_id}.ovirt-guest-agent.0"/></channel>
<channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/>
<source mode="bind" path="/var/lib/libvirt/qemu/channels/{vm_id}.org.qemu.guest_agent.0"/></channel>
<controller type="pci" model="pcie-root-port" index="1"/>
<controller type="scsi" model="virtio-scsi" index="0"><driver iothread="1"/><alias name="{ALIAS[:-1]}2"/></controller>
<memballoon model="virtio"><stats period="5"/><alias name="{ALIAS[:-1]}3"/></memballoon>
<graphics type="vnc" port="-1" autoport="yes" passwd="*****" passwdValidTo="1970-01-01T00:00:01" keymap="en-us">
<listen type="network" network="vdsm-ovirtmgmt"/></graphics>
<rng model="virtio"><backend model="random">/dev/urandom</backend><alias name="{ALIAS[:-1]}4"/></rng>
<video><model type="vga" vram="16384" heads="1"/><alias name="{ALIAS[:-1]}5"/></video>
<console type="unix"><source path="/var/run/ovirt-vmconsole-console/{vm_id}.sock" mode="bind"/>
<target type="serial" port="0"/><alias name="{ALIAS[:-1]}6"/></console>
<interface type="bridge"><model type="virtio"/><link state="up"/><source bridge="{bridge}"/><mac address="{MAC}"/>
<mtu size="1500"/><filterref filter="vdsm-no-mac-spoofing"/><bandwidth/><alias name="{ALIAS[:-1]}7"/></interface>
<disk type="file" device="cdrom" snapshot="no"><driver name="qemu" type="raw" error_policy="report"/>
<source file="" startupPolicy="optional"><seclabel model="dac" type="none" relabel="no"/></source>
<target dev="sdc" bus="sata"/><readonly/><alias name="{ALIAS[:-1]}8"/></disk>
<disk snapshot="no" type="file" device="disk"><target dev="vda" bus="virtio"/>
<source file="{disk}"><seclabel model="dac" type="none" relabel="no"/></source>
<driver name="qemu" iothread="1" io="threads" type="raw" error_policy="stop" cache="none"/>
<alias name="{ALIAS}"/><boot order="1"/><serial>{DISK}</serial></disk>{devices}
</devices>
<pm><suspend-to-disk enabled="no"/><suspend-to-mem enabled="no"/></pm>
<os><type arch="x86_64" machine="pc-q35-4.1">hvm</type><smbios mode="sysinfo"/><bios useserial="yes"/>{uefi}{boot}</os>
<metadata><ovirt-tune:qos/><ovirt-vm:vm>
<ovirt-vm:minGuaranteedMemoryMb type="int">128</ovirt-vm:minGuaranteedMemoryMb>
<ovirt-vm:clusterVersion>4.7</ovirt-vm:clusterVersion><ovirt-vm:custom/>
<ovirt-vm:device mac_address="{MAC}"><ovirt-vm:custom/></ovirt-vm:device>
<ovirt-vm:device devtype="disk" name="vda"><ovirt-vm:poolID>{IMAGE[:-1]}1</ovirt-vm:poolID>
<ovirt-vm:volumeID>{IMAGE[:-1]}2</ovirt-vm:volumeID><ovirt-vm:imageID>{IMAGE}</ovirt-vm:imageID>
<ovirt-vm:domainID>{IMAGE[:-1]}3</ovirt-vm:domainID></ovirt-vm:device>
<ovirt-vm:launchPaused>{paused}</ovirt-vm:launchPaused><ovirt-vm:resumeBehavior>auto_resume</ovirt-vm:resumeBehavior>
<ovirt-vm:ballooningEnabled>true</ovirt-vm:ballooningEnabled><ovirt-vm:cpuPolicy>none</ovirt-vm:cpuPolicy>{metadata}
</ovirt-vm:vm></metadata>
</domain>"""
