# SPDX-License-Identifier: Apache-2.0
"""A host's image port, for whoever has a ticket: ranges of one image read and written, and its checksum."""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl

from .faults import REFUSED, Fault, unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, BinaryIO

BLOCK = 4 << 20  # of a checksum
_PATIENCE_S = 300.0  # a checksum reads the whole image before it answers
_ANY = ("", "::", "0.0.0.0")  # noqa: S104 what a daemon says that listens everywhere


class ImageDoor:
    """`host` is where the daemon was reached; empty: on this machine. Everything raises Fault."""

    def __init__(self, transfer: Mapping[str, Any], host: str) -> None:
        if not host:
            host = "localhost" if transfer["listen"] in _ANY else str(transfer["listen"])
        self._where = f"{host}:{transfer['port']}"
        self._path = f"/images/{transfer['id']}"
        self._fingerprint = str(transfer["fingerprint"])
        port = int(transfer["port"])
        if transfer["tls"]:
            # The daemon told us which certificate is there: that very one is looked for, whoever signed it.
            trust = ssl.create_default_context()
            trust.check_hostname = False
            trust.verify_mode = ssl.CERT_NONE
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=_PATIENCE_S, context=trust
            )
        else:
            self._connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE_S)

    def write(self, offset: int, data: bytes) -> None:
        span = {"Content-Range": f"bytes {offset}-{offset + len(data) - 1}/*"}
        self._ask("PUT", f"{self._path}?flush=n", data, span)

    def flush(self) -> None:
        self._ask("PATCH", self._path, b'{"op": "flush"}', {"Content-Type": "application/json"})

    def read(self, offset: int, length: int) -> bytes:
        data = bytearray(length)
        self.read_into(memoryview(data), offset)
        return bytes(data)

    def read_into(self, room: memoryview, offset: int) -> None:
        """As many bytes as there is room for."""
        span = {"Range": f"bytes={offset}-{offset + len(room) - 1}"}
        self._ask("GET", self._path, None, span, room)

    def checksum(self) -> str:
        return str(
            json.loads(self._ask("GET", f"{self._path}/checksum?algorithm=blake2b&block_size={BLOCK}"))["checksum"]
        )

    def extents(self) -> list[tuple[int, int]]:
        """Start and end of what is not known to be zeros, in order."""
        found = json.loads(self._ask("GET", f"{self._path}/extents"))
        return [(one["start"], one["start"] + one["length"]) for one in found if not one["zero"]]

    def close(self) -> None:
        self._connection.close()

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        room: memoryview | None = None,
    ) -> bytes:
        """The answer; with `room` it is put there, and must fill it."""
        try:
            if self._connection.sock is None:
                self._connect()
            self._connection.request(method, path, body=body, headers=dict(headers or {}))
            answer = self._connection.getresponse()
            data = answer.read() if room is None or answer.status >= 300 else _fill(room, answer)
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(self._where, str(error) or type(error).__name__) from None
        if answer.status >= 300:
            detail = f"the image port refused it: {data.decode(errors='replace').strip()[:300] or answer.status}"
            hint = "Begin again to go on."
            if answer.status >= 500:  # it does not say what the storage said
                hint = f"The storage there fails or has no space left, see `vdsmsh storage list`. {hint}"
            raise Fault(REFUSED, {"type": "urn:vdsm:shell:transfer", "detail": detail, "hint": hint})
        return data

    def _connect(self) -> None:
        self._connection.connect()
        if isinstance(self._connection.sock, ssl.SSLSocket):
            shown = self._connection.sock.getpeercert(binary_form=True) or b""
            if hashlib.sha256(shown).hexdigest() != self._fingerprint:
                self._connection.close()
                raise unreachable(self._where, "its certificate is not the one the daemon told of")


def _fill(room: memoryview, answer: http.client.HTTPResponse) -> bytes:
    """Returns what does not fit, which is nothing. Raises IncompleteRead."""
    while room:
        if not (got := answer.readinto(room)):
            raise http.client.IncompleteRead(b"", len(room))
        room = room[got:]
    return answer.read()


def checksum(file: BinaryIO, length: int) -> str:
    """As ovirt-imageio has it: of the digests of the blocks. Beyond the file's end there are zeros."""
    whole, zeros = hashlib.blake2b(digest_size=32), bytes(BLOCK)
    of_zeros = hashlib.blake2b(zeros, digest_size=32).digest()
    file.seek(0)
    while length:
        wanted = min(BLOCK, length)
        data = file.read(wanted)
        data += zeros[: wanted - len(data)]
        whole.update(of_zeros if data == zeros else hashlib.blake2b(data, digest_size=32).digest())
        length -= wanted
    return whole.hexdigest()
