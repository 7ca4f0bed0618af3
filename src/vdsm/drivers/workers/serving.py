# SPDX-License-Identifier: Apache-2.0
"""The far end of a worker process: calls come in over a socket, answers go out. The standard library alone.

A frame is two lengths, a JSON object and bytes. The process ends when the socket does, whatever it is doing.
"""

import errno
import inspect
import json
import os
import queue
import socket
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

FRAME = struct.Struct(">II")
Answer = tuple[Any, bytes]
Operations = Mapping[str, Callable[..., Answer]]


def serve(operations: Operations) -> None:
    """On the socket that is standard input, in as many threads as the last argument says.

    An operation that has a parameter `data` gets the bytes of its request; it may raise OSError.
    """
    door = socket.socket(fileno=0)
    waiting: queue.SimpleQueue[tuple[dict[str, Any], bytes]] = queue.SimpleQueue()
    mutex = threading.Lock()

    def work() -> None:
        while True:
            request, data = waiting.get()
            answer, out = _answer(operations[request["op"]], request["args"], data)
            head = json.dumps(answer | {"id": request["id"]}).encode()
            with mutex:
                door.sendall(FRAME.pack(len(head), len(out)) + head + out)

    for _ in range(int(sys.argv[-1])):
        threading.Thread(target=work, daemon=True).start()
    with door.makefile("rb") as stream:
        while len(frame := stream.read(FRAME.size)) == FRAME.size:
            head, data = (stream.read(length) for length in FRAME.unpack(frame))
            waiting.put((json.loads(head), data))
    os._exit(0)


def _answer(operation: Callable[..., Answer], args: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    with_data = {"data": data} if "data" in inspect.signature(operation).parameters else {}
    try:
        result, out = operation(**args, **with_data)
    except OSError as error:
        return {"errno": error.errno or errno.EIO, "text": error.strerror or ""}, b""
    except (ValueError, OverflowError):  # a name or a number that nothing takes
        return {"errno": errno.EINVAL}, b""
    return {"result": result}, out
