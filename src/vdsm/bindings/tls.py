# SPDX-License-Identifier: Apache-2.0
"""TLS for the doors: one server context, made again when its files change; connections that stand keep theirs."""

from __future__ import annotations

import logging
import ssl
import time
from asyncio import sslproto
from pathlib import Path

import msgspec

_log = logging.getLogger(__name__)

# asyncio gives each connection a zeroed buffer of 256 KiB before the client has said a word: with 500 half-open ones
# that is 130 MB. A TLS record has at most 16 KiB.
sslproto.SSLProtocol.max_size = 65_536


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Where the PEM files are."""

    certificate: Path  # with its chain
    key: Path
    authority: Path | None = None  # whose client certificates are taken; without it none are asked for
    revoked: Path | None = None  # revocation list of that authority
    require_client: bool = True  # False: a client without a certificate may come in, with a token

    def paths(self) -> list[Path]:
        return [p for p in (self.certificate, self.key, self.authority, self.revoked) if p is not None]


class ServerTls:
    """Gives the context for the next connection."""

    LOOK_EVERY = 1.0  # seconds

    def __init__(self, files: TlsFiles) -> None:
        """Raises OSError or ssl.SSLError for files that cannot serve."""
        self._files = files
        self._stamp = self._look()
        self._context = make_context(files)
        self._looked = time.monotonic()

    def context(self) -> ssl.SSLContext:
        """The present one, from the files as they are now if those can serve, else as they were."""
        now = time.monotonic()
        if now - self._looked >= self.LOOK_EVERY:
            self._looked = now
            self._refresh()
        return self._context

    def _refresh(self) -> None:
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return
            self._context = make_context(self._files)
        except (OSError, ssl.SSLError) as error:
            # Half-way through a renewal the key may not fit the certificate yet: the next look will find it whole.
            _log.warning("the new TLS files cannot be used yet, the old ones go on: %s", error)
            return
        self._stamp = stamp
        _log.info("TLS files changed: %s serves new connections", self._files.certificate)

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        stats = [p.stat() for p in self._files.paths()]
        return tuple((s.st_mtime_ns, s.st_size, s.st_ino) for s in stats)


def make_context(files: TlsFiles) -> ssl.SSLContext:
    """TLS 1.2 or later, clients verified against the authority. Raises OSError or ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0  # a resumed session would skip the check of a certificate that expired meanwhile
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(files.certificate, files.key, password=lambda: "")  # else OpenSSL asks the terminal
    if files.authority is not None:
        context.load_verify_locations(files.authority)
        context.verify_mode = ssl.CERT_REQUIRED if files.require_client else ssl.CERT_OPTIONAL
        if files.revoked is not None:
            context.load_verify_locations(files.revoked)
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    return context
