# SPDX-License-Identifier: Apache-2.0
"""What the known QMF consoles send, as a host sees it through qpidd over AMQP 1.0, and what each must be read as.

Nobody sends quite the same: the Python console has no app-id and asks for schemata in QMFv1's binary form, the C++ one
sends its texts as binary, a C++ client over AMQP 1.0 puts the encoding of AMQP 0-10 into the data of a message.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from vdsm.protocols.amqp import Message
from vdsm.protocols.amqp010 import encode_list, encode_map
from vdsm.protocols.qmf2.model import (
    FaultCode,
    Locate,
    MethodCall,
    ObjectId,
    OldSchemaRequest,
    Query,
    Refused,
    Request,
    SchemaFilter,
    SchemaId,
    What,
)
from vdsm.protocols.qmf2.predicates import Predicate

AGENT = "vdsm.org:vdsmd:7d9c2f6e-0000-4000-8000-000000000001"
HASH = UUID("00112233-4455-6677-8899-aabbccddeeff")
LOCATE = "console.request.agent_locate"
PYTHON = "qmf.default.direct/qmfc-v2-console.example.4711.1"
PYTHON_OLD = "amq.direct/reply-console.example.4711.1"
CPP = "qmf.default.topic/direct-console.11111111-2222-4333-8444-555555555555"
TOOLS = "qmf.default.topic/direct.11111111-2222-4333-8444-555555555555"


class Said(NamedTuple):
    by: str
    message: Message
    means: Request | Refused

    @property
    def label(self) -> str:
        opcode = self.message.properties.get("qmf.opcode", b"schema v1")
        return f"{self.by} {opcode.decode() if isinstance(opcode, bytes) else opcode}"


def python(opcode: str, body: object, subject: str = AGENT, cid: object = "7") -> Message:
    """Over 1.0 nothing is left of its app-id."""
    return Message(
        address="qmf.default.topic" if subject == LOCATE else "qmf.default.direct",
        subject=subject,
        reply_to=PYTHON,
        correlation_id=cid,
        content_type="amqp/list" if isinstance(body, list) else "amqp/map",
        properties={"qmf.opcode": opcode, "method": "request"},
        body=body,
    )


def cpp(opcode: bytes, body: object, subject: str = AGENT, cid: object = b"3") -> Message:
    return Message(
        address="qmf.default.topic" if subject == LOCATE else "qmf.default.direct",
        subject=subject,
        reply_to=CPP,
        correlation_id=cid,
        content_type="amqp/list" if isinstance(body, list) else "amqp/map",
        user_id="anonymous",
        properties={"qmf.opcode": opcode, "method": b"request", "x-amqp-0-10.app-id": b"qmf2"},
        body=body,
    )


def raw(message: Message) -> Message:
    """As the C++ client sends it when it speaks AMQP 1.0."""
    body = message.body
    message.body = encode_list(body) if isinstance(body, list) else encode_map(body)
    return message


def emptied(message: Message) -> Message:
    message.body = b""
    return message


def old_schema(content_type: str | None, reply_to: str, name: bytes = b"VM") -> Message:
    """A question of QMFv1: no header at all."""
    body = b"AM2S\0\0\0\x07" + b"\x08org.vdsm" + bytes([len(name)]) + name + HASH.bytes
    return Message(address="qmf.default.direct", subject=AGENT, reply_to=reply_to, content_type=content_type, body=body)


_VM = ObjectId("vm:1", AGENT)
_OLD = OldSchemaRequest(7, SchemaId("org.vdsm", "VM", hash=HASH))
_CALL = MethodCall(name="pause", object_id=_VM, arguments={"force": True, "reason": "test"})

TRANSCRIPTS = [
    # The Python console, and qpid-tool on top of it
    Said("python", python("_agent_locate_request", [], LOCATE, None), Locate()),
    Said("python", python("_query_request", {"_what": "SCHEMA_ID"}), Query(what=What.SCHEMA_ID)),
    Said(
        "python",
        python("_query_request", {"_what": "OBJECT", "_schema_id": {"_class_name": "VM"}}),
        Query(what=What.OBJECT, schema=SchemaFilter(name="VM")),
    ),
    Said(
        "python",
        python(
            "_query_request",
            {"_what": "OBJECT", "_schema_id": {"_class_name": "VM", "_package_name": "org.vdsm", "_hash": HASH}},
        ),
        Query(what=What.OBJECT, schema=SchemaFilter("org.vdsm", "VM", None, HASH)),
    ),
    Said(
        "python",
        python("_query_request", {"_what": "OBJECT", "_object_id": {"_object_name": "vm:1", "_agent_epoch": 0}}),
        Query(what=What.OBJECT, object_id=ObjectId("vm:1")),
    ),
    Said(
        "python",
        python(
            "_method_request",
            {
                "_method_name": "pause",
                "_object_id": {"_object_name": "vm:1", "_agent_name": AGENT},
                "_arguments": {"force": True, "reason": "test"},
            },
        ),
        _CALL,
    ),
    Said("python", old_schema("x-application/qmf", PYTHON_OLD), _OLD),
    # The C++ console
    Said("c++", cpp(b"_agent_locate_request", None, "broker", b"broker-locate"), Locate()),
    Said(
        "c++",
        cpp(b"_agent_locate_request", [b"eq", b"_vendor", [b"quote", b"vdsm.org"]], LOCATE),
        Locate(Predicate(["eq", "_vendor", ["quote", "vdsm.org"]])),
    ),
    Said(
        "c++",
        cpp(
            b"_query_request",
            {
                "_what": b"SCHEMA",
                "_schema_id": {
                    "_package_name": b"org.vdsm",
                    "_class_name": b"VM",
                    "_type": b"_data",
                    "_hash": HASH,
                },
            },
        ),
        Query(what=What.SCHEMA, schema=SchemaFilter("org.vdsm", "VM", "_data", HASH)),
    ),
    Said(
        "c++",
        cpp(
            b"_query_request",
            {
                "_what": b"OBJECT",
                "_schema_id": {"_package_name": b"org.vdsm", "_class_name": b"VM", "_type": b"_data"},
                "_where": [b"and", [b"exists", b"status"], [b"eq", b"status", [b"quote", b"Up"]]],
            },
        ),
        Query(
            what=What.OBJECT,
            schema=SchemaFilter("org.vdsm", "VM", "_data"),
            where=Predicate(["and", ["exists", "status"], ["eq", "status", ["quote", "Up"]]]),
        ),
    ),
    Said(
        "c++",
        cpp(
            b"_method_request",
            {
                "_method_name": b"pause",
                "_object_id": {"_object_name": b"vm:1", "_agent_name": AGENT.encode(), "_agent_epoch": 0},
                "_arguments": {"force": True, "reason": b"test"},
                "_subtypes": {},
            },
        ),
        _CALL,
    ),
    Said(
        "c++",
        cpp(b"_method_request", {"_method_name": b"ping", "_object_id": {}, "_arguments": {}}),
        MethodCall(name="ping"),
    ),
    Said("c++", old_schema(None, CPP), _OLD),
    # The C++ client over AMQP 1.0
    Said("c++ 1.0", raw(cpp(b"_agent_locate_request", [], LOCATE)), Locate()),
    Said("c++ 1.0", emptied(cpp(b"_agent_locate_request", [], LOCATE)), Locate()),
    Said(
        "c++ 1.0",
        raw(cpp(b"_query_request", {"_what": b"OBJECT_ID", "_schema_id": {"_class_name": b"VM"}})),
        Query(what=What.OBJECT_ID, schema=SchemaFilter(name="VM")),
    ),
    Said(
        "c++ 1.0",
        raw(
            cpp(
                b"_method_request",
                {
                    "_method_name": b"pause",
                    "_object_id": {"_object_name": "vm:1", "_agent_name": AGENT},
                    "_arguments": {"force": True, "reason": "test"},
                },
            )
        ),
        _CALL,
    ),
    # The Java tools
    Said("java", python("_agent_locate_request", [], LOCATE, "c-1"), Locate()),
    Said(
        "java",
        python("_query_request", {"_what": "OBJECT", "_schema_id": {"_class_name": "VM", "_package_name": ""}}),
        Query(what=What.OBJECT, schema=SchemaFilter(name="VM")),
    ),
    Said(
        "java",
        python("_subscribe_request", {"_query": {"_what": "OBJECT"}, "_interval": 5000, "_duration": 60}),
        Refused(FaultCode.NOT_IMPLEMENTED, "there is no opcode _subscribe_request"),
    ),
]
