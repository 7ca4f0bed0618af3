# SPDX-License-Identifier: Apache-2.0
"""XML-RPC as scripts of old speak it: Python's own client against a daemon, with the historical names."""

from __future__ import annotations

import http.client
import secrets
import socket
import uuid
import xmlrpc.client
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.stomp import Wired
from harness.until import until
from vdsm.contract import VERBS, Kind
from vdsm.protocols import historical

NOT_OFFERED = 44
LATER = next(name for name, method in historical.names() if method and method not in VERBS)
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    made = Wired(tmp_path_factory.mktemp("wired"), f"vdsmtest-{secrets.token_hex(4)}")
    yield made.serve()
    made.end()


def plain(wired: Wired) -> xmlrpc.client.ServerProxy:
    return xmlrpc.client.ServerProxy(f"http://127.0.0.1:{wired.port()}/RPC2")


def tls(wired: Wired, client: str = "engine") -> xmlrpc.client.ServerProxy:
    return xmlrpc.client.ServerProxy(f"https://127.0.0.1:{wired.port('https')}/", context=wired.context(client))


@pytest.fixture
def host(wired: Wired) -> Iterator[Any]:
    with plain(wired) as proxy:
        yield proxy


def good(answer: Any, member: str = "") -> Any:
    """The member of an answer that went well."""
    assert answer["status"] == {"code": 0, "message": "Done"}
    assert set(answer) == {"status", *([member] if member else [])}
    return answer[member] if member else None


def code(answer: Any) -> int:
    """Of an answer that did not."""
    assert set(answer) == {"status", "problem"}
    assert set(answer["status"]) == {"code", "message"}
    number: int = answer["status"]["code"]
    assert number != 0
    assert (answer["problem"]["code"], answer["problem"]["detail"]) == (number, answer["status"]["message"])
    assert answer["problem"]["hint"]
    return number


def make(host: Any, **more: Any) -> str:
    vm_id = str(uuid.uuid4())
    made = good(host.create({"vmId": vm_id, "vmName": f"m-{vm_id[:8]}", "memSize": "64", "smp": "1", **more}), "vmList")
    assert made["vmId"] == vm_id
    return vm_id


def status(host: Any, vm_id: str) -> str:
    (stats,) = good(host.getVmStats(vm_id), "statsList")
    return str(stats["status"])


# ---- as it was always used -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("connect", [plain, tls])
def test_a_machine_from_its_making_to_its_end(
    wired: Wired, connect: Callable[[Wired], xmlrpc.client.ServerProxy]
) -> None:
    vm_id = str(uuid.uuid4())
    with connect(wired) as proxy:
        host: Any = proxy
        good(host.ping())
        assert good(host.getVdsCapabilities(), "info")["kvmEnabled"] == "true"
        made = good(
            host.create(
                {
                    "vmId": vm_id, "vmName": f"old-{vm_id[:8]}", "memSize": 256, "smp": "2", "kvmEnable": "true",
                    "vmType": "kvm", "display": "vnc", "kernel": "/images/vmlinuz", "initrd": "/images/initrd",
                    "kernelArgs": "console=ttyS0", "nicModel": "pv", "bridge": "vdsmbr0",
                    "macAddr": "52:54:00:AA:00:01", "acpiEnable": "true", "emulatedMachine": "pc", "boot": "cdn",
                    "drives": [{"path": "/images/a.raw", "format": "raw", "iface": "virtio", "index": "0"}],
                }
            ),
            "vmList",
        )  # fmt: skip
        assert (made["vmId"], made["status"]) == (vm_id, "WaitForLaunch")
        until("it runs", lambda: status(host, vm_id) == "Up")
        until("it was sampled", lambda: good(host.getVmStats(vm_id), "statsList")[0]["network"])
        (stats,) = good(host.getVmStats(vm_id), "statsList")
        assert stats["disks"].keys() == {"vda", "sda"}
        assert isinstance(stats["disks"]["vda"]["apparentsize"], str)
        assert vm_id in [row["vmId"] for row in good(host.getAllVmStats(), "statsList")]
        assert {"vmId": vm_id, "status": stats["status"], "statusTime": stats["statusTime"]} in good(
            host.list(), "vmList"
        )
        (full,) = good(host.list(True, [vm_id]), "vmList")
        assert (full["memSize"], full["smp"], full["emulatedMachine"]) == (256, 2, "pc")
        assert "52:54:00:aa:00:01" in [device["macAddr"] for device in full["devices"]]
        good(host.setVmTicket(vm_id, "secret", "60"))
        good(host.setVmTicket(vm_id, "secret", "60", "keep", {}))
        assert good(host.pause(vm_id), "vmList")["status"] == "Paused"
        assert good(host.cont(vm_id), "vmList")["vmId"] == vm_id
        assert good(host.changeCD(vm_id, "/images/other.iso"), "vmList")["vmId"] == vm_id
        good(host.reset(vm_id))
        good(host.destroy(vm_id))
        assert code(host.getVmStats(vm_id)) == code(host.destroy(vm_id)) == 1


def test_shutdown_answers_before_the_guest_has_gone(host: Any) -> None:
    vm_id = make(host)
    until("it runs", lambda: status(host, vm_id) == "Up")
    good(host.shutdown(vm_id, "0", "bye"))
    until("it is down", lambda: status(host, vm_id) == "Down")
    (stats,) = good(host.getVmStats(vm_id), "statsList")
    assert (stats["exitCode"], stats["exitReason"]) == (0, 7)
    good(host.destroy(vm_id))


def test_tasks_by_their_old_names(host: Any) -> None:
    vm_id = make(host)
    until("it runs", lambda: status(host, vm_id) == "Up")
    good(host.destroy(vm_id))
    tasks = good(host.getAllTasks(), "tasks")
    task_id = next(key for key, row in tasks.items() if row["verb"] == "VM.create")
    assert good(host.getTaskInfo(task_id), "TaskInfo") == {"id": task_id, "verb": "VM.create"}
    assert good(host.getTaskStatus(task_id), "taskStatus")["taskState"] == "finished"
    assert task_id in good(host.getAllTasksInfo(), "allTasksInfo")
    assert task_id in good(host.getAllTasksStatuses(), "allTasksStatus")
    assert task_id in good(host.getHostJobs("virt", [task_id]), "jobs")
    assert task_id in good(host.getAllTasks({"ignored": "as ever"}), "tasks")
    assert code(host.stopTask(task_id)) == 10202
    good(host.revertTask(task_id))
    good(host.clearTask(task_id))
    assert code(host.getTaskStatus(task_id)) == 401


def test_the_rest_of_the_host(host: Any) -> None:
    assert good(host.getVdsHardwareInfo(), "info")["systemManufacturer"]
    assert isinstance(good(host.getVdsStats(), "info")["cpuLoad"], str)
    good(host.setLogLevel("INFO"))
    good(host.setLogLevel("INFO", "vdsm.core"))
    assert code(host.setLogLevel("INFO", "no.such")) == 10303


@pytest.mark.parametrize(("name", "method"), [*historical.names()])
def test_every_name_ever_published_answers(host: Any, name: str, method: str) -> None:
    answer = getattr(host, name)()
    assert (answer["status"]["code"] == NOT_OFFERED) == (method not in VERBS), answer


@pytest.mark.parametrize(
    ("name", "params", "number"),
    [
        ("pause", [NOBODY], 1), ("create", [{"vmName": "a", "memSize": "x"}], -32602),
        ("create", [{"memSize": 64}], -32602), ("list", [False, [1]], -32602),
        ("create", [{"vmName": "a", "memSize": 64, "kernel": "/etc/passwd"}], 10103), ("create", [], -32602),
        ("create", [{"vmName": "a", "memSize": 64, "display": "qxl"}], -32602), ("pause", ["web1"], -32602),
        ("ping", ["what?"], -32602), ("pause", [NOBODY, NOBODY], -32602), (LATER, [{}], NOT_OFFERED),
        ("noSuchName", [], -32601), ("VM.noSuch", [{}], -32601),
        ("VM.console", [{"vmID": NOBODY}], 10010), ("glusterVolumesList", [], NOT_OFFERED),
        ("system.noSuch", [], -32601), ("system.methodHelp", [], -32602), ("system.multicall", ["x"], -32602),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_a_status_and_never_a_fault(host: Any, name: str, params: list[Any], number: int) -> None:
    assert code(getattr(host, name)(*params)) == number


def test_a_failed_start_is_told_by_the_machine(wired: Wired, host: Any) -> None:
    """`create` has answered by then."""
    assert code(host.create({"vmName": "bad", "memSize": 64, "emulatedMachine": "no-such"})) == 9


# ---- the contract's own names ----------------------------------------------------------------------------------------


def test_a_verb_of_the_contract_takes_a_struct_or_positions(host: Any) -> None:
    assert good(host.Host.echo({"message": "grüß <dich>"}), "logged") == "grüß <dich>"
    assert good(host.Host.echo("b"), "logged") == "b"
    made = good(host.VM.define({"vmParams": {"name": "kept", "memory": 2048}, "autostart": True}), "result")
    assert (made["status"], made["memSize"], made["autostart"]) == ("Down", 2048, True)
    assert "exitCode" not in made
    good(host.VM.rename(made["vmId"], "kept2"), "result")
    assert "kept2" in [row["vmName"] for row in good(host.VM.list(), "result")]
    good(host.VM.undefine(made["vmId"]))


def test_methods_tell_of_themselves(host: Any) -> None:
    listed = host.system.listMethods()
    assert {"create", "getVdsCapabilities", "VM.create", "system.multicall"} <= set(listed)
    assert LATER not in listed
    assert set(VERBS) - set(listed) == {method for method, verb in VERBS.items() if verb.kind is Kind.STREAM}
    for name in listed:
        assert host.system.methodHelp(name), name
        assert host.system.methodSignature(name), name
    assert host.system.methodHelp("destroy") == VERBS["VM.destroy"].doc
    assert host.system.methodSignature("list") == [["struct"], ["struct", "boolean"], ["struct", "boolean", "array"]]
    assert host.system.methodSignature("setVmTicket")[0] == ["struct", "string", "string", "int"]
    assert host.system.methodSignature("system.listMethods") == "undef"


def test_several_calls_at_once(host: Any) -> None:
    many = xmlrpc.client.MultiCall(host)
    many.ping()
    many.pause(NOBODY)
    many.system.listMethods()
    good_one, bad_one, names = many()
    good(good_one)
    assert code(bad_one) == 1
    assert "ping" in names
    (fault,) = host.system.multicall([{"methodName": "system.multicall", "params": [[]]}])
    assert fault["faultCode"] == -32600
    assert code(host.system.multicall([{"methodName": "ping", "params": []}] * 101)) == -32602


# ---- the door --------------------------------------------------------------------------------------------------------


@pytest.fixture
def raw(wired: Wired) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", wired.port(), timeout=60)
    yield connection
    connection.close()


PING = xmlrpc.client.dumps((), "ping").encode()
XML = {"Content-Type": "text/xml"}


def post(
    raw: http.client.HTTPConnection, body: bytes, headers: dict[str, str] = XML, path: str = "/RPC2"
) -> tuple[http.client.HTTPResponse, bytes]:
    raw.request("POST", path, body, headers)
    answer = raw.getresponse()
    return answer, answer.read()


def test_any_path_one_connection(raw: http.client.HTTPConnection) -> None:
    raw.connect()
    sock = raw.sock
    for path in ("/RPC2", "/", "/api/v1/host/ping", "/any%20thing?a=b"):
        answer, body = post(raw, PING, path=path)
        assert (answer.status, answer.getheader("content-type")) == (200, "text/xml; charset=utf-8")
        good(xmlrpc.client.loads(body)[0][0])
    assert raw.sock is sock


@pytest.mark.parametrize("more", ["", "Host: 127.0.0.1\r\n", "Connection: keep-alive\r\n"])
def test_http_1_0(wired: Wired, more: str) -> None:
    """The oldest callers' own; they may name no host."""
    head = f"POST / HTTP/1.0\r\n{more}Content-Type: text/xml\r\nContent-Length: {len(PING)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", wired.port()), timeout=60) as sock:
        sock.sendall(head.encode() + PING)
        answer = sock.makefile("rb").read()  # to the end, which is how such a caller knows it
    assert b" 200 " in answer.splitlines()[0]
    good(xmlrpc.client.loads(answer.partition(b"\r\n\r\n")[2])[0][0])


@pytest.mark.parametrize("media", ["text/xml; charset=utf-8", "TEXT/XML", "application/xml"])
def test_media_types(raw: http.client.HTTPConnection, media: str) -> None:
    assert b"methodResponse" in post(raw, PING, {"Content-Type": media})[1]


def test_what_is_no_xml_goes_to_rest(raw: http.client.HTTPConnection) -> None:
    assert post(raw, b"{}", {"Content-Type": "application/json"})[0].status == 404
    raw.request("GET", "/RPC2", headers=XML)
    answer = raw.getresponse()
    answer.read()
    assert answer.status == 404


@pytest.mark.parametrize(
    ("body", "number"),
    [
        (b"", -32700), (b"hello", -32700), (b"<methodCall/>", -32600), (PING[:-5], -32700),
        (b'<!DOCTYPE a [<!ENTITY b "b">]><methodCall><methodName>&b;</methodName></methodCall>', -32700),
        (PING.replace(b"<params>", b"<params><param><value><i4>4294967296</i4></value></param>"), -32600),
        (b"<methodCall><methodName>a</methodName><params>" + b"<param><value><array><data>" * 10_000, -32600),
    ],
)  # fmt: skip
def test_what_is_no_xmlrpc_is_a_fault(raw: http.client.HTTPConnection, body: bytes, number: int) -> None:
    answer, document = post(raw, body)
    assert answer.status == 200
    with pytest.raises(xmlrpc.client.Fault) as fault:
        xmlrpc.client.loads(document)
    assert fault.value.faultCode == number
    assert b"methodResponse" in post(raw, PING)[1]


def test_what_is_wrong_with_the_request_is_told_by_http(raw: http.client.HTTPConnection) -> None:
    assert post(raw, PING, XML | {"Content-Encoding": "gzip"})[0].status == 415
    assert post(raw, PING, XML | {"Origin": "http://elsewhere.example"})[0].status == 403
    try:
        answer, _ = post(raw, b" " * 4_000_000)
    except (BrokenPipeError, ConnectionResetError):
        return  # the daemon closed before all of it was sent
    assert answer.status == 413


def test_the_flow_is_in_the_audit(wired: Wired, raw: http.client.HTTPConnection) -> None:
    flow = f"flow-{secrets.token_hex(4)}"
    body = xmlrpc.client.dumps((NOBODY,), "destroy").encode()
    answer, _ = post(raw, body, XML | {"FlowID": flow})
    assert answer.getheader("flow-id") == flow
    with wired.connect() as client:
        (line,) = [line for line in client.audit.list(limit=100) if line.flow_id == flow]
    assert (line.method, line.verdict, line.channel) == ("VM.destroy", "no-such-vm", "xmlrpc+tcp")


def test_a_certificate_is_a_role(wired: Wired) -> None:
    with tls(wired, "watcher") as proxy:
        host: Any = proxy
        good(host.ping())
        assert code(host.create({"vmName": "a", "memSize": 64})) == 10002
    with tls(wired, "stranger") as proxy:
        assert code(proxy.ping()) == 10001


def test_a_token_opens_it_too(wired: Wired) -> None:
    with wired.connect() as client:
        token = client.token.create("script", "viewer", ttl=600).token
    headers = [("Authorization", f"Bearer {token.reveal() if hasattr(token, 'reveal') else token}")]
    url = f"https://127.0.0.1:{wired.port('https')}/RPC2"
    with xmlrpc.client.ServerProxy(url, context=wired.context("stranger"), headers=headers) as proxy:
        host: Any = proxy
        good(host.ping())
        assert code(host.create({"vmName": "a", "memSize": 64})) == 10002
