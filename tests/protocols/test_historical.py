# SPDX-License-Identifier: Apache-2.0
"""The historical names: positions to words, and answers to members."""

from __future__ import annotations

from typing import Any

import pytest

from vdsm.protocols import historical
from vdsm.protocols.dialect import XMLRPC, DialectError, table

VM, SD, SP, IMG, VOL = (f"{n}f0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11" for n in range(1, 6))


@pytest.mark.parametrize(
    ("name", "params", "method", "arguments"),
    [
        ("ping", [], "Host.ping", {}),
        ("destroy", [VM], "VM.destroy", {"vmID": VM}),
        ("shutdown", [VM], "VM.shutdown", {"vmID": VM}),
        ("shutdown", [VM, "30", "bye", False, "120"], "VM.shutdown",
         {"vmID": VM, "delay": "30", "message": "bye", "reboot": False, "timeout": "120"}),
        ("list", [], "Host.getVMList", {}),
        ("list", [False, [VM]], "Host.getVMList", {"vmList": [VM]}),
        ("list", ["True", [VM]], "Host.getVMFullList", {"vmList": [VM]}),
        ("getHostJobs", ["storage"], "Host.getJobs", {"job_type": "storage"}),
        # Storage verbs have an order of their own each; what did nothing is dropped.
        ("deleteImage", [SD, SP, IMG, True], "Image.delete",
         {"storagedomainID": SD, "storagepoolID": SP, "imageID": IMG, "postZero": True}),
        ("cloneImageStructure", [SP, SD, IMG, VM], "Image.cloneStructure",
         {"storagepoolID": SP, "storagedomainID": SD, "imageID": IMG, "dstSdUUID": VM}),
        ("getStorageDomainInfo", [SD, {"a": "b"}], "StorageDomain.getInfo", {"storagedomainID": SD}),
        ("connectStorageServer", [1, SP, [{}]], "StoragePool.connectStorageServer",
         {"domainType": 1, "storagepoolID": SP, "connectionParams": [{}]}),
        ("getStorageDomainsList", [SP, 1, 6, "srv:/a"], "Host.getStorageDomains",
         {"storagepoolID": SP, "domainClass": 1, "storageType": 6, "remotePath": "srv:/a"}),
        ("getConnectedStoragePoolsList", [], "Host.getConnectedStoragePools", {}),
        ("repoStats", [{}], "Host.getStorageRepoStats", {}),
        ("startMonitoringDomain", [SD, 2], "Host.startMonitoringDomain", {"sdUUID": SD, "hostID": 2}),
        ("stopMonitoringDomain", [SD], "Host.stopMonitoringDomain", {"sdUUID": SD}),
        ("discoverSendTargets", [{"connection": "192.0.2.5", "port": "3260", "user": "u"}],
         "ISCSIConnection.discoverSendTargets", {"host": "192.0.2.5", "port": "3260", "user": "u"}),
        ("copyImage", [SD, SP, VM, IMG, VOL, SD, SP, "d"], "Volume.copy",
         {"storagedomainID": SD, "storagepoolID": SP, "imageID": IMG, "volumeID": VOL, "dstImgUUID": SD,
          "dstVolUUID": SP, "desc": "d"}),
    ],
)  # fmt: skip
def test_meanings(name: str, params: list[Any], method: str, arguments: dict[str, Any]) -> None:
    assert historical.meaning(name, params) == (method, arguments)


@pytest.mark.parametrize(
    ("name", "params"),
    [("ping", [1]), ("destroy", []), ("destroy", [VM, 1, 2]), ("discoverSendTargets", ["x"]), ("setVmTicket", [VM])],
)
def test_too_few_too_many_or_no_struct(name: str, params: list[Any]) -> None:
    with pytest.raises(DialectError):
        historical.meaning(name, params)


def test_ids_within_a_struct_are_lifted_out_of_it() -> None:
    method, arguments = historical.meaning("hotplugDisk", [{"vmId": VM, "drive": {"path": "/images/a"}}])
    assert XMLRPC.arguments(method, arguments) == {"vmID": VM, "params": {"disk": {"path": "/images/a"}}}


@pytest.mark.parametrize(
    ("method", "result", "members"),
    [
        ("Host.ping", None, {}),
        ("VM.create", {"vmId": VM}, {"vmList": {"vmId": VM}}),
        ("Host.getAllVmStats", [], {"statsList": []}),
        ("Host.getCapabilities", {"a": 1}, {"info": {"a": 1}}),
        ("Volume.create", VM, {"uuid": VM}),
        (
            "Host.fenceNode",
            {"power": "on", "operationStatus": "skipped"},
            {"power": "on", "operationStatus": "skipped"},
        ),
        ("StoragePool.getInfo", {"info": {}, "dominfo": {}}, {"info": {}, "dominfo": {}}),
        ("Host.fenceNode", "on", {"result": "on"}),
        ("VM.brandNew", [1], {"result": [1]}),
    ],
)
def test_answers_stand_where_readers_look(method: str, result: Any, members: dict[str, Any]) -> None:
    assert historical.answer(method, result) == {"status": {"code": 0, "message": "Done"}, **members}


def test_every_name_of_a_verb_says_all_that_verb_needs_in_words_of_its_own() -> None:
    """Or lifts it out of a struct: no published call is lost by a missing argument."""
    for name, method in historical.names():
        if not method:
            continue
        row, verb = table().names[name], table().verbs[method]
        words = [word for word in row.args if word]
        assert len(set(words)) == len(words), name
        assert set(words) - set(row.spread) - set(row.instead) <= set(verb.params), name
        assert set(verb.lift) <= set(verb.params), name
