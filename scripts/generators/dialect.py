# SPDX-License-Identifier: Apache-2.0
"""src/vdsm/protocols/dialect.json: how the published wires say what the contract says.

From the published shapes (`published_shapes.json`, `published_xmlrpc.json`), with the corrections below: where the
published schema is silent or wrong, what its servers send and its readers need. Only what differs from the contract's
true types is written: a text where the contract has a number, an old name, a member of a status struct.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SHAPES = json.loads((HERE / "published_shapes.json").read_text())
XMLRPC = json.loads((HERE / "published_xmlrpc.json").read_text())
TYPES: dict[str, Any] = SHAPES["types"]

AS_IT_IS = {"int", "uint", "long", "ulong", "boolean", "UUID", "dict", "object", "enum"}

# Fields whose published form the schema does not tell, or not right: what servers send and readers parse.
FORMS: dict[str, dict[str, str]] = {
    "VdsmCapabilities": {"cpuFlags": "csv", "onlineCpus": "csv", "netConfigDirty": "Bool", "bootTime": "text"},
    "HostStats": {"netConfigDirty": "Bool", "imagesLastCheck": "text", "imagesDelay": "text"},
    "NetInfoNic": {"ad_aggregator_id": "text"},
    "NetInfoBond": {"ad_aggregator_id": "text"},
    "NetInfoBridgedNetwork": {"stp": "on-off"},
    # The engine counts what a guest has in KiB, the contract in MiB.
    "GuestMemoryStats": {"mem_free": "kib", "mem_unused": "kib", "mem_total": "kib", "mem_available": "kib"},
    # The schema says uint; the engine casts to Double, so a bare 33 breaks it.
    "HostJobInfo": {"progress": "float"},
    # Byte sizes and times are text in published answers; a number of XML-RPC has only 32 bits besides.
    "StorageDomainStats": dict.fromkeys(("disktotal", "diskfree", "mdasize", "mdafree"), "text"),
    "StorageDomainFileStats": {"size": "text", "ctime": "text"},
    "VolumeInfoResponse": dict.fromkeys(("capacity", "truesize", "apparentsize", "ctime", "mtime"), "text"),
    "VolumeSizeInfo": {"truesize": "text", "apparentsize": "text"},
    # Readers take a text alone.
    "StorageDomainInfo": {"version": "text"},
    # A machine that is Down is ordered against events by its statusTime like any other.
    "ExitedVmStats": {"statusTime": "text", "timeOffset": "text"},
}

# What published servers say where they know nothing, for readers that take the field for granted.
FILL: dict[str, dict[str, Any]] = {
    "ExitedVmStats": {"exitCode": 0, "exitReason": 0, "exitMessage": "", "timeOffset": "0", "vmJobs": {}},
    "RunningVmStats": {
        "session": "Unknown", "username": "Unknown", "guestIPs": "", "guestFQDN": "", "guestCPUCount": -1,
        "appsList": [], "vmType": "kvm", "vmJobs": {},
    },
    "StorageDomainStats": {"alerts": []},
}  # fmt: skip

# Fields of the contract's type that the published one does not have in that case.
DROP: dict[str, list[str]] = {
    "ConnectStorageServerStatus": ["reason"],
    "RunningVmStats": ["exitCode", "exitReason", "exitMessage"],
    "ExitedVmStats": [
        "elapsedTime", "cpuUser", "cpuSys", "cpuUsage", "vcpuCount", "memUsage", "disks", "network", "displayInfo",
        "monitorResponse", "acpiEnable", "clientIp", "kvmEnable", "sampled", "pauseCode",
    ],
}  # fmt: skip

# Fields that readers look for under another name.
ALSO: dict[str, dict[str, str]] = {"VolumeInfoResponse": {"allocType": "type"}}

# Which of several types an answer is; of other unions every member's forms apply.
CASES: dict[str, dict[str, Any]] = {
    "VmStats": {"by": "status", "cases": {"Down": "ExitedVmStats"}, "type": "RunningVmStats"},
}

# Enumerations that published callers say in numbers or old words.
WORDS: dict[str, dict[str, str]] = {
    "VolumeFormat": {"4": "COW", "5": "RAW"},
    "VolumeAllocation": {"1": "PREALLOCATED", "2": "SPARSE"},
    "VolumeRole": {"6": "SHARED", "7": "INTERNAL", "8": "LEAF"},
    "ImageMoveOperation": {"1": "COPY", "2": "MOVE"},
    "DiskContentType": {"1": "DATA", "2": "DATA"},
    "StorageDomainType": {
        "1": "NFS", "2": "FCP", "3": "ISCSI", "4": "LOCALFS", "5": "CIFS", "6": "POSIXFS", "7": "GLUSTERFS",
        "SHAREDFS": "POSIXFS",
    },
    "Qcow2Compat": {"0.1": "0.10", "1.1": "1.1"},  # a number, says the schema
    "StorageDomainImageClass": {"1": "Data", "2": "Iso", "3": "Backup"},
    "StorageDomainStatus": {
        "active": "Active", "attached": "Attached", "unattached": "Unattached", "unknown": "Unknown"
    },
}  # fmt: skip

# Unions of structs in whose place servers take the text itself.
MEMBER = {"StorageDomainCreateArguments": "remotePath"}

# Arguments with rules of their own in the dialect.
RULES = {
    "DriveSpec": "drive", "DriveSpecVolume": "volume", "VmParameters": "machine", "HotplugDiskParams": "plug",
}  # fmt: skip
# Of one verb, where it takes less than the published type says.
OWN_RULES = {("VM.diskSizeExtend", "driveSpecs"): "volume"}

# Verbs whose work goes on after the published answer, beside those that answer with the id of a task.
AT_ONCE = {
    "VM.create": "VM.getInfo",
    **dict.fromkeys(
        [
            "VM.shutdown", "VM.hibernate", "VM.migrate", "VM.snapshot", "VM.merge", "VM.seal", "Host.convertExternalVm",
            "Host.convertExternalVmFromOva",
        ],
        "nothing",
    ),
    **dict.fromkeys((m for m in SHAPES["verbs"] if m.startswith("SDM.")), "nothing"),
}  # fmt: skip
NO_TASK = {"LVMVolumeGroup.create"}  # its `uuid` is the volume group's

# Ids that the published caller puts into a struct, perhaps also beside it: argument -> (struct, member).
LIFT = {
    "VM.create": {"vmID": ["vmParams", "vmId"]},
    **{
        f"Lease.{verb}": {"sd_id": ["lease", "sd_id"], "lease_id": ["lease", "lease_id"]}
        for verb in ("create", "delete", "info", "status", "fence")
    },
    **{
        method: {"vmID": ["params", "vmId"]}
        for method in (
            "VM.migrate", "VM.migrationCreate", "VM.hotplugDisk", "VM.hotunplugDisk", "VM.hotplugNic",
            "VM.hotunplugNic", "VM.hotplugMemory", "VM.updateVmPolicy",
        )
    },
}  # fmt: skip

# ---- the events ------------------------------------------------------------------------------------------------------

EVENTS: dict[str, dict[str, Any]] = {
    "VM_status": {
        "topic": "|virt|VM_status|",
        "nested": True,
        "unless": "foreign",  # readers would take it for theirs, and miss it in the statistics
        "fields": {
            "status": "status", "hash": "hash", "timeOffset": "timeOffset", "exitCode": "exitCode",
            "exitReason": "exitReason", "exitMessage": "exitMessage", "pauseCode": "pauseCode", "vmName": "vmName",
        },
        "forms": {"timeOffset": "text"},
    },
    "Task_status": {
        "topic": "|jobs|status|",
        "nested": False,
        "fields": {
            "taskId": "id", "verb": "description", "state": "status", "progress": "progress", "jobType": "job_type",
            "code": "error.code", "message": "error.message",
        },
        "forms": {"progress": "float"},
        "words": {
            "status": {
                "done": "done", "failed": "failed", "broken": "failed", "aborted": "aborted", "reverted": "aborted"
            },
        },
    },
}  # fmt: skip

# ---- machines in the old form ----------------------------------------------------------------------------------------

MACHINE: dict[str, Any] = {
    # Old field -> the contract's.
    "names": {
        "vmName": "name", "memSize": "memory", "smp": "vcpus", "emulatedMachine": "machineType", "kernel": "kernel",
        "initrd": "initrd", "kernelArgs": "cmdline", "cdrom": "cdrom", "launchPaused": "launchPaused",
    },
    # What a host decides for itself, has always, or need not know.
    "ignored": [
        "vmType", "kvmEnable", "acpiEnable", "hypervEnable", "transparentHugePages", "nice", "cpuShares", "custom",
        "maxVCpus", "memGuaranteedSize", "maxMemSize", "maxMemSlots", "smpCoresPerSocket", "smpThreadsPerCore",
        "numaTune", "guestNumaNodes", "tabletEnable", "soundDevice", "smartcardEnable", "pitReinjection", "tdf",
        "spiceSecureChannels", "spiceSslCipherSuite", "spiceMonitors", "keyboardLayout", "displayNetwork", "displayIp",
        "displayPort", "displaySecurePort", "copyPasteEnable", "fileTransferEnable", "bootMenuEnable",
        "agentChannelName", "numOfIoThreads", "clientIp", "pauseCode", "status", "pid", "elapsedTimeOffset",
    ],
    # Fields that are taken only while they ask for nothing.
    "only": {"timeOffset": ["0", 0], "floppy": [""], "migrationDest": [""]},
    "boot": {"c": "hd", "d": "cdrom", "n": "network"},
    "nic_models": {"pv": "virtio", "virtio": "virtio", "e1000": "e1000", "e1000e": "e1000e", "rtl8139": "rtl8139"},
    "disk_formats": {"cow": "qcow2", "qcow2": "qcow2", "raw": "raw"},
    "disk_buses": {"virtio": "virtio", "scsi": "scsi", "virtio-scsi": "scsi", "sata": "sata", "ide": "sata"},
    "displays": ["vnc"],
    "cpu_modes": {"hostPassthrough": "host-passthrough", "hostModel": "host-model"},
    # Devices every machine here has, or whose absence no guest minds.
    "ignored_devices": [
        "video", "sound", "controller", "balloon", "channel", "console", "smartcard", "rng", "watchdog"
    ],
}  # fmt: skip

# ---- XML-RPC ---------------------------------------------------------------------------------------------------------

ALIASES = {
    "vmId": "vmID", "taskId": "taskID", "sdUUID": "storagedomainID", "spUUID": "storagepoolID", "imgUUID": "imageID",
    "volUUID": "volumeID", "vgUUID": "lvmvolumegroupID", "msdUUID": "masterSdUUID", "domType": "domainType",
    "conList": "connectionParams", "poolName": "name", "masterDom": "masterSdUUID", "domList": "domainList",
    "domDict": "domainDict", "domainsMap": "domainDict", "scsiFencing": "enableScsiFencing", "guids": "guidList",
}  # fmt: skip
OWN_ALIASES = {
    "snapshot": {"snapMemVolHandle": "snapMemory"},
    "desktopLogin": {"user": "username"},
    "hibernate": {"hiberVolHandle": "hibernationVolHandle"},
    "createStorageDomain": {
        "storageType": "domainType", "domainName": "name", "typeSpecificArg": "typeArgs", "domClass": "domainClass",
        "domVersion": "version",
    },
    "deleteVolume": {"volumes": "volumeList"},
    "moveImage": {"srcDomUUID": "storagedomainID", "dstDomUUID": "dstSdUUID", "op": "operation"},
    "copyImage": {"srcImgUUID": "imageID", "srcVolUUID": "volumeID", "description": "desc"},
    "getDiskAlignment": {"driveSpecs": "disk"},
    "reconcileVolumeChain": {"leafUUID": "leafVolID"},
}  # fmt: skip
# Arguments servers took and did nothing with.
IDLE = {"options", "vmUUID", "poolType", "lockPolicy", "recoveryMode"}
# A struct whose members are the arguments, with their other names.
SPREAD = {"discoverSendTargets": {"con": {"connection": "host"}}}
# A flag that asks for another verb instead.
INSTEAD = {"list": {"fullStatus": "Host.getVMFullList"}}
# Members of the JSON bridge that are no members of the struct: spread over it ("*"), or named otherwise there.
MEMBERS = {
    "Host.getCapabilities": "info",
    "VM.getInfo": "vmList",
    "VM.cont": "vmList",
    "VM.pause": "vmList",
    **dict.fromkeys(
        ["Host.fenceNode", "Host.getStorageRepoStats", "Image.prepare", "StoragePool.getInfo", "VM.migrationCreate",
         "Volume.getSize"],
        "*",
    ),
}  # fmt: skip


def files() -> dict[str, str]:
    types = {name: reduced for name in sorted(TYPES) if (reduced := _type(name)) is not None}
    table = {
        "types": types,
        "verbs": {method: _verb(method, verb) for method, verb in sorted(SHAPES["verbs"].items())},
        "events": EVENTS,
        "machine": MACHINE,
        "names": {name: _name(name, row) for name, row in sorted(XMLRPC["names"].items())},
    }
    return {"src/vdsm/protocols/dialect.json": _text(table)}


def _text(table: dict[str, dict[str, Any]]) -> str:
    """One line for each entry."""
    sections = []
    for title, entries in table.items():
        lines = [f"  {json.dumps(name)}: {json.dumps(entry, ensure_ascii=False)}" for name, entry in entries.items()]
        sections.append(f" {json.dumps(title)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(sections) + "\n}\n"


def _verb(method: str, verb: dict[str, Any]) -> dict[str, Any]:
    params = {name.rstrip("?"): kind for name, kind in verb["params"].items()}
    member = XMLRPC["members"].get(method, "")
    entry: dict[str, Any] = {"params": list(params)}
    if takes := {name: form for name, kind in params.items() if (form := _rule(method, name, kind))}:
        entry["takes"] = takes
    if method in LIFT:
        entry["lift"] = LIFT[method]
    if verb["returns"] and (gives := _form(verb["returns"])):
        entry["gives"] = gives
    if member == "status":
        entry["status"] = True
    if early := AT_ONCE.get(method, "task-id" if member == "uuid" and method not in NO_TASK else ""):
        entry["early"] = early
    if member := MEMBERS.get(method, member if member != "status" else ""):
        entry["member"] = member
    return entry


def _rule(method: str, name: str, kind: Any) -> Any:
    return OWN_RULES.get((method, name)) or RULES.get(str(kind)) or _form(kind)


def _form(kind: Any, above: tuple[str, ...] = ()) -> Any:
    """How a value of this published type differs from the contract's; None if it does not."""
    match kind:
        case "string":
            return "text"
        case "float":
            return "float"
        case str() if kind.startswith("["):
            inner = _form(kind[1:-1], above)
            return [inner] if inner else None
        case list():
            inner = _form(kind[0], above)
            return [inner] if inner else None
        case dict():
            return _shape(kind, "", above)
        case _ if kind in WORDS:
            return kind
        case _ if kind in AS_IT_IS or kind in above or TYPES.get(kind, "enum") == "enum":  # some are named, never told
            return None
        case _:
            return _form(TYPES[kind], above) if isinstance(TYPES[kind], str) else kind if _type(kind, above) else None


def _type(name: str, above: tuple[str, ...] = ()) -> Any:
    if name in WORDS:
        return {"words": WORDS[name]}
    if name in MEMBER:
        return {"member": MEMBER[name]}
    kind = TYPES[name]
    return _shape(kind, name, (*above, name)) if isinstance(kind, dict) else None


def _shape(kind: dict[str, Any], name: str, above: tuple[str, ...]) -> dict[str, Any] | None:
    if name in CASES:
        return CASES[name]
    if "*" in kind:
        inner = _form(kind["*"], above)
        # A published map is sometimes a list here: then the key is the rows' id.
        return {"each": inner} if inner else {"each": None} if name.startswith("Task") else None
    if "|" in kind:
        return _merged(kind["|"], above)
    fields = {field.rstrip("?"): form for field, inner in kind.items() if (form := _form(inner, above))}
    fields |= FORMS.get(name, {})
    shape: dict[str, Any] = {}
    if fields:
        shape["fields"] = fields
    for title, extra in (("fill", FILL), ("drop", DROP), ("also", ALSO)):
        if name in extra:
            shape[title] = extra[name]
    return shape or None


def _merged(members: list[Any], above: tuple[str, ...]) -> dict[str, Any] | None:
    """Of a union: the forms its members agree on."""
    found: dict[str, Any] = {}
    for member in members:
        kind = TYPES.get(member)
        if not isinstance(kind, dict) or member in above:
            continue
        for field, inner in kind.items():
            name = field.rstrip("?")
            form = FORMS.get(member, {}).get(name) or _form(inner, above)
            found[name] = form if found.get(name, form) == form else None
    fields = {name: form for name, form in found.items() if form}
    return {"fields": fields} if fields else None


def _name(name: str, row: dict[str, Any]) -> dict[str, Any]:
    method = row["target"]
    if method not in SHAPES["verbs"]:
        return {}
    known = [re.sub(r"\?$", "", p) for p in SHAPES["verbs"][method]["params"]]
    args = [_argument(name, arg.rstrip("?"), known) for arg in row["args"]]
    entry: dict[str, Any] = {"method": method, "args": args}
    required = [arg for arg in row["args"] if not arg.endswith("?")]
    if len(required) < len(args):
        entry["needs"] = len(required)
    if name in SPREAD:
        entry["spread"] = SPREAD[name]
    if name in INSTEAD:
        entry["instead"] = INSTEAD[name]
    return entry


def _argument(name: str, arg: str, known: list[str]) -> str:
    """The contract's word for an old argument; empty for one that did nothing."""
    if arg in SPREAD.get(name, {}) or arg in known:
        return arg
    for word in (OWN_ALIASES.get(name, {}).get(arg), ALIASES.get(arg)):
        if word in known:
            return str(word)
    plain = {p.lower().replace("_", ""): p for p in known}
    if (word := plain.get(arg.lower().replace("_", ""))) is not None:
        return word
    if arg in IDLE:
        return ""
    raise ValueError(f"XML-RPC {name}: what is its argument {arg}?")
