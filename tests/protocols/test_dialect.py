# SPDX-License-Identifier: Apache-2.0
"""What published readers break on, line by line, on real answers of a simulated host."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from harness import readers
from harness.memory_host import MemoryHost
from harness.readers import array, digits, members, number, text
from harness.until import BUSY
from vdsm.contract import VERBS, Kind, task, vm
from vdsm.contract.codec import from_plain, to_json, to_plain
from vdsm.contract.errors import Problem
from vdsm.contract.host import HostJob
from vdsm.contract.host_capabilities import Capabilities
from vdsm.contract.host_stats import HostStats, StorageDomainVitals
from vdsm.contract.task import TaskInfo
from vdsm.contract.vm_info import ExitReason, VmInfo, VmState
from vdsm.contract.vm_stats import VmJob, VmStats
from vdsm.core.vm import status
from vdsm.drivers.simulated.faults import Fault
from vdsm.protocols.dialect import JSONRPC, NOTHING, TASK_ID, XMLRPC, Dialect

ID = "5f0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11"


@pytest.fixture
async def host() -> AsyncIterator[MemoryHost]:
    made = MemoryHost(None)
    await made.open()
    yield made
    await made.close()


async def said(host: MemoryHost, method: str, dialect: Dialect = JSONRPC, **params: object) -> Any:
    """A verb's answer as it stands in the JSON that is sent."""
    plain = to_plain(await host.call(VERBS[method], **params))
    return json.loads(to_json(dialect.result(method, plain)))


# ---- getCapabilities -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", readers.CAPABILITIES)
async def test_a_capability_is_there_as_its_reader_takes_it(host: MemoryHost, field: str) -> None:
    readers.CAPABILITIES[field]((await said(host, "Host.getCapabilities"))[field])


@pytest.mark.parametrize("package", readers.PACKAGES)
async def test_a_package_version_parses(host: MemoryHost, package: str) -> None:
    readers.package(await said(host, "Host.getCapabilities"), package)


async def test_the_host_can_become_operational(host: MemoryHost) -> None:
    readers.fit_for_a_cluster(await said(host, "Host.getCapabilities"))


async def test_structs_within_the_capabilities(host: MemoryHost) -> None:
    readers.structs_of_capabilities(await said(host, "Host.getCapabilities"))


async def test_null_is_nowhere(host: MemoryHost) -> None:
    await host.create("a", nics=[{}], disks=[{"path": "/images/a.raw"}])
    for method in ("Host.getCapabilities", "Host.getStats", "Host.getAllVmStats", "Host.getVMFullList"):
        assert readers.no_nulls(await said(host, method)), method


# ---- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", readers.INTERFACES)
async def test_an_interface_is_as_its_readers_take_it(host: MemoryHost, kind: str) -> None:
    caps = await said(host, "Host.getCapabilities")
    assert caps[kind]
    readers.interfaces(caps, kind)


async def test_rules_between_interfaces(host: MemoryHost) -> None:
    readers.between_interfaces(await said(host, "Host.getCapabilities"))


def test_an_aggregator_is_digits() -> None:
    given = {
        "bondings": {"b": {"ad_aggregator_id": 2}},
        "nics": {"n": {"ad_aggregator_id": 1}, "m": {"ad_aggregator_id": None}},
    }
    made = JSONRPC.result("Host.getCapabilities", given)
    assert made == {"bondings": {"b": {"ad_aggregator_id": "2"}}, "nics": {"n": {"ad_aggregator_id": "1"}, "m": {}}}


# ---- getStats --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", readers.STATISTICS)
async def test_a_statistic_is_there_as_its_reader_takes_it(host: MemoryHost, field: str) -> None:
    readers.STATISTICS[field]((await said(host, "Host.getStats"))[field])


async def test_structs_within_the_statistics(host: MemoryHost) -> None:
    readers.structs_of_statistics(await said(host, "Host.getCapabilities"), await said(host, "Host.getStats"))


async def test_a_whole_cpu_is_said_with_a_dot(host: MemoryHost) -> None:
    """Given as JSON integers these end the reader."""
    stats = await host.call(VERBS["Host.getStats"])
    assert isinstance(stats, HostStats)
    plain = to_plain(stats) | {"cpuStatistics": {"0": {"nodeIndex": 0, "cpuUser": 0, "cpuSys": 1.0, "cpuIdle": 1e-7}}}
    made = JSONRPC.result("Host.getStats", plain)["cpuStatistics"]["0"]
    assert made == {"nodeIndex": 0, "cpuUser": "0", "cpuSys": "1.0", "cpuIdle": "0.000000100"}


def test_a_storage_domain_says_its_ages_as_text() -> None:
    vitals = StorageDomainVitals(code=0, valid=True, actual=True, acquired=True, version=5, last_check=0.5, delay=0.001)
    made = JSONRPC.result("Host.getStats", {"storageDomains": {ID: to_plain(vitals)}, "imagesLastCheck": 2.0})
    assert made == {
        "storageDomains": {
            ID: {
                "code": 0, "valid": True, "actual": True, "acquired": True, "version": 5, "lastCheck": "0.5",
                "delay": "0.001",
            }
        },
        "imagesLastCheck": "2.0",
    }  # fmt: skip


# ---- machines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", readers.RUNNING)
async def test_a_running_machine_is_told_as_its_reader_takes_it(host: MemoryHost, field: str) -> None:
    await host.create("a", nics=[{}], disks=[{"path": "/images/a.raw"}])
    (stats,) = array(await said(host, "Host.getAllVmStats"))
    readers.RUNNING[field](stats[field])


async def test_structs_within_a_machines_statistics(host: MemoryHost) -> None:
    made = await host.create("a", nics=[{}], disks=[{"path": "/images/a.raw"}])
    (stats,) = await said(host, "VM.getStats", vmID=made.vm_id)
    readers.structs_of_machine(stats)
    # Readers count what a guest has in KiB.
    assert 0 < digits(stats["memoryStats"]["mem_unused"]) <= 64 * 1024
    assert digits(stats["memoryStats"]["mem_free"]) > 1024


def test_no_word_is_ours_alone() -> None:
    """An unknown one ends the reader."""
    assert {f"{state}" for state in VmState} <= readers.STATES
    assert set(ExitReason) <= set(readers.EXIT_REASONS)
    assert {"NOERR", *status.IO_PAUSE_CODES.values()} <= readers.PAUSE_CODES


async def test_a_machine_that_is_down_says_how_it_ended(host: MemoryHost) -> None:
    made = await host.create("a", guestAgent=False)
    await host.call(vm.shutdown, vmID=made.vm_id, timeout=20)
    (stats,) = await said(host, "Host.getAllVmStats")
    assert (stats["status"], stats["exitCode"], stats["exitReason"]) == ("Down", 0, 7)
    assert stats["exitMessage"]
    digits(stats["statusTime"])
    assert stats["vmJobs"] == {}
    assert not {"cpuUser", "disks", "network", "pauseCode"} & stats.keys()


async def test_a_machine_that_never_ran_is_down_too(host: MemoryHost) -> None:
    await host.call(vm.define, vmParams={"name": "a", "memory": 64})
    (stats,) = await said(host, "Host.getAllVmStats")
    assert (stats["exitCode"], stats["exitReason"], stats["exitMessage"]) == (0, 0, "")


async def test_every_machine_stays_reported_until_it_is_destroyed(host: MemoryHost) -> None:
    one, two = await host.create("a", guestAgent=False), await host.create("b")
    await host.call(vm.shutdown, vmID=one.vm_id, timeout=20)
    assert {row["vmId"] for row in await said(host, "Host.getAllVmStats")} == {one.vm_id, two.vm_id}
    await host.call(vm.destroy, vmID=one.vm_id)
    assert {row["vmId"] for row in await said(host, "Host.getAllVmStats")} == {two.vm_id}


def test_a_block_job_keeps_its_numbers() -> None:
    job = VmJob(id=ID, job_type="block", block_job_type="commit", cur=2**40, end=2**41, bandwidth=0, img_uuid=ID)
    (stats,) = JSONRPC.result("VM.getStats", [{"status": "Up", "vmJobs": {ID: to_plain(job)}}])
    assert stats["vmJobs"][ID] == {
        "id": ID, "jobType": "block", "blockJobType": "commit", "cur": 2**40, "end": 2**41, "bandwidth": 0,
        "imgUUID": ID,
    }  # fmt: skip


async def test_documents_come_in_an_object_and_statistics_in_a_list(host: MemoryHost) -> None:
    made = await host.create("a")
    documents = await said(host, "Host.dumpxmls", vmList=[made.vm_id])
    assert "<devices>" in members(documents)[made.vm_id]
    array(await said(host, "Host.getAllVmStats"))
    array(await said(host, "VM.getStats", vmID=made.vm_id))


async def test_a_picture_is_told_as_it_is(host: MemoryHost) -> None:
    made = await host.create("a", guestAgent=False)
    picture = await said(host, "VM.screenshot", vmID=made.vm_id)
    assert {name: type(value) for name, value in picture.items()} == {"data": str, "encoding": str, "mime_type": str}


async def test_the_hash_changes_with_the_devices_and_is_text(host: MemoryHost) -> None:
    made = await host.create("a")

    async def seen() -> str:
        (stats,) = await said(host, "Host.getAllVmStats")
        return text(stats["hash"])

    before = await seen()
    await host.call(vm.pause, vmID=made.vm_id)
    assert await seen() == before
    await host.call(vm.change_cd, vmID=made.vm_id, driveSpec="/images/b.iso")
    assert await seen() != before


# ---- answers of other verbs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["Host.ping", "Host.ping2"])
async def test_a_verb_without_an_answer_says_true(host: MemoryHost, method: str) -> None:
    assert await said(host, method) is True
    assert await said(host, method, XMLRPC) is None


def test_only_where_it_is_published_the_status_is_the_answer() -> None:
    assert JSONRPC.result("Host.setupNetworks", None) == {"code": 0, "message": "Done"}
    assert XMLRPC.result("Host.setupNetworks", None) is None
    assert JSONRPC.result("VM.destroy", None) is True


def test_a_jobs_progress_has_a_dot() -> None:
    job = HostJob(id=ID, job_type="virt", status="running", description="", progress=33.0)
    whole = to_plain(job) | {"progress": 33}
    for plain in (to_plain(job), whole):
        made = JSONRPC.result("Host.getJobs", {ID: plain})[ID]["progress"]
        assert isinstance(made, float)
        assert to_json(made) == b"33.0"
    none = to_plain(HostJob(id=ID, job_type="virt", status="pending", description=""))
    assert "progress" not in JSONRPC.result("Host.getJobs", {ID: none})[ID]


def test_a_task_is_its_bare_id() -> None:
    assert JSONRPC.result("Volume.create", ID) == ID
    assert JSONRPC.result("VM.diskSizeExtend", 2**40) == f"{2**40}"


async def test_tasks_are_told_by_id(host: MemoryHost) -> None:
    await host.create("a")
    (row,) = await host.call(task.list_)
    details = await said(host, "Host.getAllTasks")
    assert details == {row.id: details[row.id]}
    assert details[row.id]["verb"] == "VM.create"
    status = (await said(host, "Host.getAllTasksStatuses"))[row.id]
    assert {"code": 0, "taskID": row.id, "taskState": "finished", "taskResult": "success"}.items() <= status.items()
    assert (await said(host, "Host.getAllTasksInfo"))[row.id] == to_plain(TaskInfo(id=row.id, verb="VM.create"))


async def test_the_answer_of_create_is_a_machine_that_waits_for_launch(host: MemoryHost) -> None:
    plain = to_plain(await host.create("a")) | {"status": "WaitForLaunch"}
    made = JSONRPC.result("VM.create", plain)
    assert (made["status"], made["vmId"], made["memSize"], made["statusTime"]) == (
        "WaitForLaunch", plain["vmId"], 64, plain["statusTime"],
    )  # fmt: skip
    assert readers.no_nulls(made)


def test_how_long_work_is_answered() -> None:
    assert JSONRPC.early("VM.create") == "VM.getInfo"
    assert JSONRPC.early("VM.shutdown") == JSONRPC.early("SDM.copy_data") == NOTHING
    assert JSONRPC.early("Volume.create") == JSONRPC.early("StoragePool.spmStart") == TASK_ID
    assert JSONRPC.early("LVMVolumeGroup.create") == ""
    assert JSONRPC.early("VM.define") == ""
    for method, verb in VERBS.items():
        early = JSONRPC.early(method)
        assert not early or verb.kind is Kind.TASK, method
        assert early in ("", NOTHING, TASK_ID) or early in VERBS, method


def test_a_verb_that_is_not_published_is_told_in_its_true_types() -> None:
    given = {"a": 1, "b": 1.0, "c": True, "d": None, "e": [{"f": None, "g": 2**60}]}
    assert JSONRPC.result("VM.brandNew", given) == {"a": 1, "b": 1.0, "c": True, "e": [{"g": 2**60}]}


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("Host.getCapabilities", Capabilities), ("Host.getStats", HostStats), ("Host.getAllVmStats", list[VmStats]),
        ("Host.getVMFullList", list[VmInfo]),
    ],
)  # fmt: skip
async def test_nothing_true_is_lost(host: MemoryHost, method: str, kind: Any) -> None:
    """A loose answer of running machines can be read back into the contract's types, but for lists that became text."""
    await host.create("a", nics=[{}], disks=[{"path": "/images/a.raw"}])
    plain = to_plain(await host.call(VERBS[method]))
    loose = JSONRPC.result(method, plain)
    rows = loose if isinstance(loose, list) else [loose]
    for row in rows:
        for name in ("cpuFlags", "onlineCpus"):
            if name in row:
                row[name] = row[name].split(",")
        for bridge in [*row.get("bridges", {}).values(), *row.get("networks", {}).values()]:
            bridge["stp"] = bridge["stp"] == "on"
        for name in row.get("memoryStats", {}):
            row["memoryStats"][name] = int(row["memoryStats"][name]) // 1024
    assert to_plain(from_plain(loose, kind, text_numbers=True)) == plain


# ---- events ----------------------------------------------------------------------------------------------------------


async def test_a_machines_event_is_about_it_alone(host: MemoryHost) -> None:
    made = await host.create("a", guestAgent=False)
    await host.call(vm.pause, vmID=made.vm_id)
    await host.call(vm.cont, vmID=made.vm_id)
    await host.call(vm.shutdown, vmID=made.vm_id, timeout=20)
    told = [e for record in await host.events() if (e := JSONRPC.event(to_plain(record))) and "|virt|" in e[0]]
    seen = []
    for topic, params in told:
        assert topic == f"|virt|VM_status|{made.vm_id}"
        assert params.keys() == {made.vm_id, "notify_time"}
        number(params["notify_time"])
        body = members(params[made.vm_id])
        text(body["hash"])
        assert text(body["timeOffset"]) == "0"
        seen.append(body["status"])
        assert ("exitCode" in body) == (body["status"] == "Down")
    assert seen[0] == "WaitForLaunch"
    assert seen[-1] == "Down"
    assert {"exitCode": 0, "exitReason": 7}.items() <= told[-1][1][made.vm_id].items()


async def test_a_machine_somebody_else_made_is_not_told_of(host: MemoryHost) -> None:
    """It is not in the statistics either, and readers would take one that vanishes for lost."""

    async def told(event: str) -> None:
        async with asyncio.timeout(20 * BUSY):
            while not any(e.subject == ID and e.data.name == event for e in await host.events()):
                await asyncio.sleep(0.01)

    await host.hypervisor.define(f"<domain type='kvm'><name>b</name><uuid>{ID}</uuid><memory>65536</memory></domain>")
    await told("VM_defined")
    await host.hypervisor.start(ID, paused=False)
    await told("VM_status")
    about = [record for record in await host.events() if record.subject == ID]
    assert [JSONRPC.event(to_plain(record)) for record in about] == [None] * len(about)
    assert await said(host, "Host.getAllVmStats") == []


async def test_events_and_statistics_have_one_clock(host: MemoryHost) -> None:
    made = await host.create("a", guestAgent=False)
    (stats,) = await said(host, "VM.getStats", vmID=made.vm_id)
    last = [e for e in await host.events() if e.data.name == "VM_status"][-1]
    assert 0 <= to_plain(last)["notifyTime"] - digits(stats["statusTime"]) < 1000


async def test_a_task_that_ended_is_a_job_that_ended(host: MemoryHost) -> None:
    await host.create("a")
    (row,) = await host.call(task.list_)
    jobs = [e for record in await host.events() if (e := JSONRPC.event(to_plain(record))) and "|jobs|" in e[0]]
    ((topic, params),) = jobs
    assert topic == f"|jobs|status|{row.id}"
    assert params.pop("notify_time") > 0
    assert params == {
        "id": row.id, "description": "VM.create", "status": "done", "progress": 100.0, "job_type": "virt"
    }  # fmt: skip
    assert isinstance(params["progress"], float)


async def test_a_job_that_failed_says_why(host: MemoryHost) -> None:
    host.hypervisor.faults.set("start", Fault(error="no memory"))
    with pytest.raises(Problem) as failed:
        await host.create("a")
    jobs = [e for record in await host.events() if (e := JSONRPC.event(to_plain(record))) and "|jobs|" in e[0]]
    ((_, params),) = jobs
    assert params["status"] == "failed"
    assert params["error"] == {"code": failed.value.code, "message": str(failed.value)}


async def test_what_is_not_published_is_not_told(host: MemoryHost) -> None:
    await host.create("a")
    for record in await host.events():
        if record.data.name in ("VM_defined", "VM_removed"):
            assert JSONRPC.event(to_plain(record)) is None
