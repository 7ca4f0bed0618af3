# SPDX-License-Identifier: Apache-2.0
"""What the engine's readers take, and what they break on, in the answers it asks for again and again.

A double is a text or a number with a dot, an integer has no fraction, a text is no number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Reader = Callable[[Any], Any]


def double(value: Any) -> float:
    assert isinstance(value, float) or (isinstance(value, str) and re.fullmatch(r"-?[0-9]+\.[0-9]+", value)), value
    return float(value)


def integer(value: Any) -> int:
    assert (isinstance(value, int) and not isinstance(value, bool)) or isinstance(value, str), value
    return int(value)


def number(value: Any) -> int:
    """A JSON number, where readers cast without asking."""
    assert isinstance(value, int), value
    assert not isinstance(value, bool)
    return value


def boolean(value: Any) -> bool:
    assert isinstance(value, bool) or str(value).lower() in ("true", "false"), value
    return str(value).lower() == "true"


def true_false(value: Any) -> bool:
    """JSON's own."""
    assert isinstance(value, bool), value
    return value


def text(value: Any) -> str:
    assert isinstance(value, str), value
    return value


def digits(value: Any) -> int:
    """A number as text."""
    return int(text(value))


def array(value: Any) -> list[Any]:
    assert isinstance(value, list), value
    return value


def texts(value: Any) -> list[str]:
    return [text(item) for item in array(value)]


def numbers(value: Any) -> list[int]:
    return [number(item) for item in array(value)]


def members(value: Any) -> Mapping[str, Any]:
    assert isinstance(value, dict), value
    return value


def csv(value: Any) -> list[str]:
    return text(value).split(",")


def each_of(fields: Mapping[str, Reader], found: Any) -> None:
    for field, reader in fields.items():
        assert field in found, field
        reader(found[field])


def no_nulls(value: Any) -> bool:
    match value:
        case dict():
            return all(no_nulls(item) for item in value.values())
        case list():
            return all(no_nulls(item) for item in value)
        case _:
            return value is not None


# ---- getCapabilities -------------------------------------------------------------------------------------------------

CAPABILITIES: dict[str, Reader] = {
    "clusterLevels": texts, "supportedENGINEs": texts, "HBAInventory": members, "packages2": members,
    "emulatedMachines": texts, "cpuFlags": csv, "cpuModel": text, "onlineCpus": csv, "cpuThreads": integer,
    "cpuCores": integer, "cpuSockets": integer, "cpuSpeed": double, "cpuTopology": array, "vdsmToCpusAffinity": array,
    "memSize": integer, "reservedMem": integer, "guestOverhead": integer, "kvmEnabled": boolean, "kernelArgs": text,
    "version_name": text, "software_version": text, "build_name": text, "operatingSystem": members,
    "ISCSIInitiatorName": text, "rngSources": texts, "hooks": members, "bootTime": integer, "kdumpStatus": number,
    "hostdevPassthrough": boolean, "selinux": members, "hostedEngineDeployed": boolean, "vncEncrypted": boolean,
    "ovnConfigured": boolean, "fipsEnabled": boolean, "tscScaling": boolean, "backupEnabled": boolean,
    "coldBackupEnabled": boolean, "clearBitmapsEnabled": boolean, "cd_change_pdiv": boolean, "kernelFeatures": members,
    "openstack_binding_host_ids": members, "supported_block_size": members, "domain_versions": numbers,
    "additionalFeatures": texts, "tscFrequency": text, "boot_uuid": text, "nameservers": texts, "numaNodes": members,
    "numaNodeDistance": members, "autoNumaBalancing": integer, "netConfigDirty": boolean, "nics": members,
    "vlans": members, "bondings": members, "bridges": members, "networks": members,
}  # fmt: skip
PACKAGES = ("vdsm", "kernel", "libvirt", "qemu-kvm")


def fit_for_a_cluster(caps: Any) -> None:
    """What the engine looks at before it takes a host for operational."""
    assert boolean(caps["kvmEnabled"])
    assert {"pc-q35-4.1", "pc-i440fx-2.12"} & set(caps["emulatedMachines"])
    assert {"random", "urandom"} & set(caps["rngSources"])
    flags = csv(caps["cpuFlags"])
    assert {"vmx", "svm"} & set(flags)
    assert any(flag.startswith("model_") for flag in flags)
    assert {"4.4", "4.5"} & set(caps["supportedENGINEs"])
    assert "4.7" in caps["clusterLevels"]
    assert 5 in caps["domain_versions"]


def package(caps: Any, name: str) -> None:
    """It is read as `name-version-release`."""
    found = caps["packages2"][name]
    assert re.search(r"-[0-9.]+\.[A-Za-z]", f"-{found['release']}"), found
    assert re.fullmatch(r"[0-9][0-9.]*", found["version"])


def structs_of_capabilities(caps: Any) -> None:
    texts([hba["InitiatorName"] for hba in caps["HBAInventory"]["iSCSI"]])
    array(caps["HBAInventory"]["FC"])
    assert digits(caps["selinux"]["mode"]) in (-1, 0, 1)
    each_of(dict.fromkeys(("name", "version", "release", "pretty_name"), text), caps["operatingSystem"])
    for cpu in caps["cpuTopology"]:
        each_of(dict.fromkeys(("numa_cell_id", "socket_id", "core_id", "cpu_id"), number), cpu)
    for node in caps["numaNodes"].values():
        assert integer(node["totalMemory"]) > 0
        assert numbers(node["cpus"])
    for distances in caps["numaNodeDistance"].values():
        assert len(numbers(distances)) <= len(caps["numaNodes"])
    for sizes in caps["supported_block_size"].values():
        numbers(sizes)
    numbers(caps["vdsmToCpusAffinity"])
    members(caps.get("connector_info", {}))


# ---- networks --------------------------------------------------------------------------------------------------------

COMMON: dict[str, Reader] = {
    "addr": text, "netmask": text, "gateway": text, "ipv6addrs": texts, "ipv6gateway": text,
    "ipv4defaultroute": boolean, "mtu": integer, "dhcpv4": true_false, "dhcpv6": true_false,
    "ipv6autoconf": true_false, "speed": number,
}  # fmt: skip
INTERFACES: dict[str, dict[str, Reader]] = {
    "nics": {"hwaddr": text},
    "vlans": {"iface": text, "vlanid": number},
    "bondings": {"hwaddr": text, "slaves": texts, "opts": members, "active_slave": text},
    "bridges": {"ports": texts, "stp": text, "opts": members},
    "networks": {"iface": text, "bridged": boolean, "switch": text, "ports": texts},
}


def interfaces(caps: Any, kind: str) -> None:
    for entry in caps[kind].values():
        each_of(COMMON | INTERFACES[kind], entry)


def between_interfaces(caps: Any) -> None:
    known = caps["nics"].keys() | caps["bondings"].keys()
    assert all(vlan["iface"] in known for vlan in caps["vlans"].values())
    assert all(network["switch"] in ("legacy", "ovs") for network in caps["networks"].values())
    assert all(network["iface"] in caps["bridges"] for network in caps["networks"].values() if network["bridged"])
    assert all(bridge["stp"] in ("on", "off") for bridge in caps["bridges"].values())
    enslaved = {nic for bond in caps["bondings"].values() for nic in bond["slaves"]}
    assert {name for name, nic in caps["nics"].items() if "permhwaddr" in nic} == enslaved
    for bond in caps["bondings"].values():
        texts(list(bond["opts"].values()))
    for entry in (*caps["nics"].values(), *caps["bondings"].values()):
        digits(entry.get("ad_aggregator_id", "0"))


def read_capabilities(caps: Any) -> None:
    """All of the above."""
    each_of(CAPABILITIES, caps)
    fit_for_a_cluster(caps)
    for name in PACKAGES:
        package(caps, name)
    structs_of_capabilities(caps)
    for kind in INTERFACES:
        interfaces(caps, kind)
    between_interfaces(caps)
    assert no_nulls(caps)


# ---- getStats --------------------------------------------------------------------------------------------------------

STATISTICS: dict[str, Reader] = {
    "cpuSys": double, "cpuUser": double, "cpuIdle": double, "cpuLoad": double, "memFree": integer, "memShared": integer,
    "swapFree": integer, "swapTotal": integer, "ksmCpu": integer, "ksmPages": integer, "ksmState": boolean,
    "thpState": text, "anonHugePages": integer, "hugepages": members, "netConfigDirty": boolean, "vmCount": integer,
    "vmActive": integer, "vmMigrating": integer, "incomingVmMigrations": integer, "outgoingVmMigrations": integer,
    "network": members, "storageDomains": members, "diskStats": members, "haStats": members,
    "numaNodeMemFree": members, "cpuStatistics": members, "v2vJobs": members, "multipathHealth": members,
    "dateTime": text, "bootTime": integer, "haScore": integer,
}  # fmt: skip
DOMAIN: dict[str, Reader] = {
    "code": number, "lastCheck": text, "delay": text, "valid": boolean, "actual": boolean, "acquired": boolean,
    "version": integer,
}  # fmt: skip


def structs_of_statistics(caps: Any, stats: Any) -> None:
    assert stats["thpState"] in ("always", "madvise", "never")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d GMT", stats["dateTime"])
    assert caps["nics"].keys() | caps["bondings"].keys() | caps["vlans"].keys() <= stats["network"].keys()
    for nic in stats["network"].values():
        each_of(dict.fromkeys(("rx", "tx", "rxDropped", "txDropped", "speed"), integer), nic)
        double(nic["sampleTime"])
        assert nic["state"] in ("up", "down")
    for pool in stats["hugepages"].values():
        each_of(dict.fromkeys(("vm.free_hugepages", "nr_hugepages"), integer), pool)
    for cpu in stats["cpuStatistics"].values():
        number(cpu["nodeIndex"])
        each_of(dict.fromkeys(("cpuUser", "cpuSys", "cpuIdle"), double), cpu)
    for path in stats["diskStats"].values():
        integer(path["free"])
    for node in stats["numaNodeMemFree"].values():
        each_of(dict.fromkeys(("memFree", "memPercent"), integer), node)
    for domain in stats["storageDomains"].values():
        each_of(DOMAIN, domain)


def read_statistics(caps: Any, stats: Any) -> None:
    """All of the above."""
    each_of(STATISTICS, stats)
    structs_of_statistics(caps, stats)
    assert no_nulls(stats)


# ---- machines --------------------------------------------------------------------------------------------------------

STATES = {
    "WaitForLaunch", "Powering up", "Up", "Paused", "Powering down", "RebootInProgress", "Saving State",
    "Restoring state", "Migration Source", "Migration Destination", "Down", "NotResponding",
}  # fmt: skip
PAUSE_CODES = {"NOERR", "EIO", "ENOSPC", "EPERM", "EOTHER", "POSTCOPY", "NONE"}
EXIT_REASONS = range(15)
LATENCIES = ("readLatency", "writeLatency", "flushLatency")
RUNNING: dict[str, Reader] = {
    "vmId": text, "vmName": text, "status": text, "statusTime": digits, "hash": text, "elapsedTime": text,
    "cpuUser": double, "cpuSys": double, "memUsage": integer, "memoryStats": members, "monitorResponse": integer,
    "timeOffset": text, "pauseCode": text, "clientIp": text, "acpiEnable": boolean, "session": text,
    "displayInfo": array, "disks": members, "network": members, "balloonInfo": members, "vmJobs": members,
    "appsList": array, "username": text, "guestFQDN": text, "guestCPUCount": integer,
}  # fmt: skip


def structs_of_machine(row: Any) -> None:
    assert row["status"] in STATES - {"Down"}
    assert row["pauseCode"] in PAUSE_CODES
    assert row["vmJobs"] == {}
    for disk in row["disks"].values():
        sizes = ("truesize", "apparentsize", "readOps", "writeOps", "readBytes", "writtenBytes")
        each_of(dict.fromkeys((*sizes, *LATENCIES), digits), disk)
        for field in ("readRate", "writeRate"):
            double(text(disk[field]))
        text(disk.get("imageID", ""))
    for nic in row["network"].values():
        each_of(dict.fromkeys(("rx", "tx", "rxDropped", "txDropped"), digits), nic)
        each_of({"sampleTime": double, "name": text, "macAddr": text, "speed": integer, "state": text}, nic)
    for display in row["displayInfo"]:
        each_of(dict.fromkeys(("type", "port", "tlsPort", "ipAddress"), text), display)
    balloon = ("balloon_cur", "balloon_max", "balloon_target", "balloon_min")
    each_of(dict.fromkeys(balloon, digits), row["balloonInfo"])
    each_of(dict.fromkeys(("mem_free", "mem_unused"), digits), row["memoryStats"])
    assert not {"exitCode", "exitReason", "exitMessage"} & row.keys()


def read_machine(row: Any) -> None:
    """All of the above, of one that runs and was sampled."""
    each_of(RUNNING, row)
    structs_of_machine(row)
    assert no_nulls(row)
