# SPDX-License-Identifier: Apache-2.0
"""The host's own certificate authority: ca.pem, host.pem, clients/NAME.pem and their keys, under `pki`.

Certificates may be read by all, keys by their owner only. Files are replaced whole, the key before its certificate: a
reader that finds a pair that does not match looks again.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import ipaddress
import os
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650
CERTIFICATE_DAYS = 397  # what browsers accept
SKEW = dt.timedelta(hours=1)  # clocks of clients differ
CLIENT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}")


class PkiError(Exception):
    """What was asked cannot be done; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One of ours, as `show` tells of it."""

    kind: str  # ca, host, client
    file: Path
    loaded: x509.Certificate

    @property
    def name(self) -> str:
        return _common_name(self.loaded)

    @property
    def expires(self) -> dt.datetime:
        return self.loaded.not_valid_after_utc

    @property
    def fingerprint(self) -> str:
        return self.loaded.fingerprint(hashes.SHA256()).hex(":")

    @property
    def names(self) -> list[str]:
        """What the certificate is good for: DNS names and addresses."""
        return _alternative_names(self.loaded)

    def due(self, now: dt.datetime) -> bool:
        """Whether less than a third of its life is left, or none."""
        life = self.loaded.not_valid_after_utc - self.loaded.not_valid_before_utc
        return now > self.loaded.not_valid_after_utc - life / 3


class Authority:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ca = directory / "ca.pem"
        self._host = directory / "host.pem"
        self._clients = directory / "clients"

    # ---- what can be asked -----------------------------------------------------------------------------------------

    def init(self, names: Sequence[str] = ()) -> list[Certificate]:
        """Make what is missing of the authority and the host's certificate; what was made."""
        with self._locked():
            made = [] if self._ca.exists() else [self._make_ca()]
            return made if self._host.exists() else [*made, self._make_host(names)]

    def host(self, names: Sequence[str]) -> Certificate:
        """Make the host's certificate anew, good for `names` beside the machine's own."""
        with self._locked():
            return self._make_host(names)

    def client(self, name: str) -> Certificate:
        """Make a client's certificate; its common name is what [access] certificates knows it by."""
        if not CLIENT_NAME.fullmatch(name):
            raise PkiError(f"{name!r} is no name for a client: up to 64 letters, digits and _ . @ -, no sign first")
        with self._locked():
            file = self._clients / f"{name}.pem"
            if file.exists():
                raise PkiError(f"{file} exists already; `vdsmd pki renew --all` makes it anew")
            return self._make_client(name, ec.generate_private_key(ec.SECP256R1()))

    def renew(self, *, everything: bool = False, clients: bool = True) -> list[Certificate]:
        """Make those anew that expire soon or have expired, or all; what was made.

        The authority keeps its key, so what it signed stays good. So does a client whose key is not here any more.
        """
        now = dt.datetime.now(dt.UTC)
        with self._locked():
            due = [c for c in self._read() if everything or c.due(now)]
            made = [self._make_ca() for c in due if c.kind == "ca"]
            made += [self._make_host(c.names) for c in due if c.kind == "host"]
            made += [self._renew_client(c) for c in due if c.kind == "client" and clients]
            return made

    def show(self) -> list[Certificate]:
        """Every certificate there is, the authority first."""
        return self._read()

    # ---- making ----------------------------------------------------------------------------------------------------

    def _make_ca(self) -> Certificate:
        key_file = self._ca.with_suffix(".key")
        if key_file.exists():
            key = self._load_key(key_file)
        else:
            key = ec.generate_private_key(ec.SECP256R1())
            _write(key_file, _key_pem(key), 0o600)
        old = self._load(self._ca) if self._ca.exists() else None
        name = old.subject if old else _subject(f"vdsm authority of {socket.gethostname()}"[:64])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = (
            _builder(name, key.public_key(), CA_DAYS)
            .issuer_name(name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
        )
        signed = builder.sign(key, hashes.SHA256())
        _write(self._ca, _pem(signed), 0o644)
        return Certificate("ca", self._ca, signed)

    def _make_host(self, names: Sequence[str]) -> Certificate:
        machine = socket.gethostname()
        all_names = dict.fromkeys([machine, "localhost", "127.0.0.1", "::1", *names])
        try:
            alternatives = x509.SubjectAlternativeName([_alternative(name) for name in all_names])
        except ValueError as error:
            raise PkiError(f"not a host name or address: {error}") from None
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self._sign(
            _builder(_subject(machine[:64]), key.public_key(), CERTIFICATE_DAYS).add_extension(alternatives, False),
            ExtendedKeyUsageOID.SERVER_AUTH,
        )
        _write(self._host.with_suffix(".key"), _key_pem(key), 0o600)
        _write(self._host, _pem(signed), 0o644)
        return Certificate("host", self._host, signed)

    def _make_client(self, name: str, key: ec.EllipticCurvePrivateKey) -> Certificate:
        signed = self._sign_client(name, key.public_key())
        self._clients.mkdir(mode=0o700, exist_ok=True)
        _write(self._clients / f"{name}.key", _key_pem(key), 0o600)
        _write(self._clients / f"{name}.pem", _pem(signed), 0o644)
        return Certificate("client", self._clients / f"{name}.pem", signed)

    def _renew_client(self, old: Certificate) -> Certificate:
        """With a new key; where the key was taken away, with the old one."""
        if old.file.with_suffix(".key").exists():
            return self._make_client(old.name, ec.generate_private_key(ec.SECP256R1()))
        key = old.loaded.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise PkiError(f"{old.file} was not made here and its key is not there: it cannot be renewed")
        signed = self._sign_client(old.name, key)
        _write(old.file, _pem(signed), 0o644)
        return Certificate("client", old.file, signed)

    def _sign_client(self, name: str, key: ec.EllipticCurvePublicKey) -> x509.Certificate:
        return self._sign(_builder(_subject(name), key, CERTIFICATE_DAYS), ExtendedKeyUsageOID.CLIENT_AUTH)

    def _sign(self, builder: x509.CertificateBuilder, purpose: x509.ObjectIdentifier) -> x509.Certificate:
        if not self._ca.exists():
            raise PkiError(f"there is no authority in {self._directory} yet: `vdsmd pki init` makes it")
        ca, key = self._load(self._ca), self._load_key(self._ca.with_suffix(".key"))
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        return (
            builder.issuer_name(ca.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )

    # ---- files -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One at a time: the daemon renews too."""
        try:
            self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            fd = os.open(self._directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise PkiError(f"{error.filename}: {error.strerror}") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        except OSError as error:
            raise PkiError(f"{error.filename}: {error.strerror}") from None
        finally:
            os.close(fd)

    def _read(self) -> list[Certificate]:
        files = [("ca", self._ca), ("host", self._host)]
        files += [("client", file) for file in sorted(self._clients.glob("*.pem"))]
        return [Certificate(kind, file, self._load(file)) for kind, file in files if file.exists()]

    def _load(self, file: Path) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificate(file.read_bytes())
        except (OSError, ValueError) as error:
            raise PkiError(f"{file} is no certificate that can be read: {error}") from None

    def _load_key(self, file: Path) -> ec.EllipticCurvePrivateKey:
        try:
            key = serialization.load_pem_private_key(file.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise PkiError(f"{file} is no key that can be read: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise PkiError(f"{file} is no elliptic-curve key: it was not made here")
        return key


def _builder(subject: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "vdsm"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _alternative(name: str) -> x509.GeneralName:
    """Raises ValueError."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        if not re.fullmatch(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?", name):
            raise ValueError(repr(name)) from None
        return x509.DNSName(name)


def _alternative_names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(file: Path, data: bytes, mode: int) -> None:
    """Whole or not at all, and never for a moment with wider permissions."""
    new = file.with_name(f".{file.name}.new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(fd, "wb") as out:
        os.fchmod(fd, mode)  # whatever the umask
        out.write(data)
        out.flush()
        os.fsync(fd)
    os.replace(new, file)
