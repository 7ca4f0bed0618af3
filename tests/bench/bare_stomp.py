# SPDX-License-Identifier: Apache-2.0
"""What vdsm's STOMP wire is compared with: asyncio writing the same bytes for each NUL it reads, doing nothing else."""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path


class Same(asyncio.Protocol):
    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(0)):
            self._transport.write(self._answer)


async def serve(answer: bytes, certificate: str) -> None:
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.replace(".pem", ".key"))
    server = await asyncio.get_running_loop().create_server(lambda: Same(answer), "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]).read_bytes(), sys.argv[2]))
