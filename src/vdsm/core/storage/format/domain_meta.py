# SPDX-License-Identifier: Apache-2.0
"""A domain's metadata file, with its pool's in the master: sorted lines, then a checksum over them."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from vdsm.contract.storage_words import (
    StorageDomainImageClass,
    StorageDomainRole,
    StorageDomainStatus,
    StorageDomainType,
)

from .lines import Fields, Malformed, split

VERSION = 5
NO_HOST = -1  # the id of the host in charge of a pool of which none is
LONGEST = 64 * 1024  # bytes; a pool of the most domains needs a tenth of it
_CHECKSUM = "_SHA_CKSUM"
_CHARACTER = re.compile(r"&#([0-9]{3,7});")
_ALIGNMENTS = (1 << 20, 2 << 20, 4 << 20, 8 << 20)
BLOCKS = (512, 4096)
_WORDS = (StorageDomainStatus.ACTIVE, StorageDomainStatus.ATTACHED)


def alignment_for(block_size: int, hosts: int) -> int:
    """Bytes of a lease, which has a block for each host: only 4096 of them need more than the least. Of up to 2000."""
    if block_size == BLOCKS[0]:
        return _ALIGNMENTS[0]
    return next(alignment for alignment in _ALIGNMENTS if hosts <= alignment // block_size // 256 * 250)


class PoolMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What the master domain says about the pool."""

    description: str = ""
    domains: dict[str, StorageDomainStatus] = {}
    spm_id: int = NO_HOST
    spm_lver: int = -1


def on_disk(domains: Mapping[str, StorageDomainStatus]) -> dict[str, StorageDomainStatus]:
    """How the master tells of a pool's domains: one that is not active is attached, whatever this host knows of it."""
    stays = {name: status for name, status in domains.items() if status is not StorageDomainStatus.UNATTACHED}
    return {name: status if status in _WORDS else StorageDomainStatus.ATTACHED for name, status in stays.items()}


class DomainMeta(msgspec.Struct, frozen=True, kw_only=True):
    """A domain about itself."""

    uuid: str
    type: StorageDomainType
    domain_class: StorageDomainImageClass = StorageDomainImageClass.DATA
    role: StorageDomainRole = StorageDomainRole.REGULAR
    description: str = ""
    remote_path: str
    pools: tuple[str, ...] = ()
    pool: PoolMeta | None = None
    master_version: int = 0
    alignment: int = _ALIGNMENTS[0]
    block_size: int = BLOCKS[0]
    lock_policy: str = ""
    renewal_s: int = 5
    lease_s: int = 60
    io_timeout_s: int = 10
    lease_retries: int = 3
    rest: dict[str, str] = {}  # what another host wrote and this one does not know


def attached(meta: DomainMeta, pool_id: str) -> DomainMeta:
    """Belonging to a pool too; only a domain of disc images may belong to several."""
    return meta if pool_id in meta.pools else replace(meta, pools=(*meta.pools, pool_id))


def timed_as(meta: DomainMeta, other: DomainMeta) -> DomainMeta:
    """With another's times of leases: those of a pool's domains are the same."""
    return replace(
        meta,
        lock_policy=other.lock_policy,
        renewal_s=other.renewal_s,
        lease_s=other.lease_s,
        io_timeout_s=other.io_timeout_s,
        lease_retries=other.lease_retries,
    )


def detached(meta: DomainMeta, pool_id: str) -> DomainMeta:
    """Belonging to the pool no more, and so its master no more."""
    return ordinary(replace(meta, pools=tuple(name for name in meta.pools if name != pool_id)))


def ordinary(meta: DomainMeta) -> DomainMeta:
    """The master of nothing."""
    return replace(meta, role=StorageDomainRole.REGULAR, master_version=0, pool=None)


class OtherVersion(Malformed):
    """A domain of a version that this host does not offer."""

    def __init__(self, version: str) -> None:
        super().__init__(f"it is of version {version}; this host offers version {VERSION}")
        self.version = version


def encode(meta: DomainMeta) -> bytes:
    """Raises ValueError for what cannot be written so that it is read the same."""
    lines = {
        **meta.rest,
        "ALIGNMENT": str(meta.alignment),
        "BLOCK_SIZE": str(meta.block_size),
        "CLASS": meta.domain_class.value,
        "DESCRIPTION": meta.description,
        "IOOPTIMEOUTSEC": str(meta.io_timeout_s),
        "LEASERETRIES": str(meta.lease_retries),
        "LEASETIMESEC": str(meta.lease_s),
        "LOCKPOLICY": meta.lock_policy,
        "LOCKRENEWALINTERVALSEC": str(meta.renewal_s),
        "POOL_UUID": ",".join(meta.pools),
        "REMOTE_PATH": meta.remote_path,
        "ROLE": meta.role.value,
        "SDUUID": meta.uuid,
        "TYPE": meta.type.value,
        "VERSION": str(VERSION),
        **_pool_lines(meta),
    }
    shown = [f"{key}={value}".encode("ascii", "xmlcharrefreplace") for key, value in sorted(lines.items())]
    data = b"".join(line + b"\n" for line in [*shown, f"{_CHECKSUM}={_checksum(shown)}".encode()])
    if len(data) > LONGEST or decode(data) != meta:
        raise ValueError("a domain's metadata has a value that cannot be written")
    return data


def _pool_lines(meta: DomainMeta) -> Mapping[str, str]:
    lines = {"MASTER_VERSION": str(meta.master_version)} if meta.master_version else {}
    if meta.pool is None:
        return lines
    return {
        **lines,
        "POOL_DESCRIPTION": meta.pool.description,
        "POOL_DOMAINS": ",".join(f"{domain}:{status}" for domain, status in meta.pool.domains.items()),
        "POOL_SPM_ID": str(meta.pool.spm_id),
        "POOL_SPM_LVER": str(meta.pool.spm_lver),
    }


def decode(data: bytes) -> DomainMeta:
    """Raises Malformed, OtherVersion."""
    fields = Fields(split(_verified(data)))
    if (version := fields.text("VERSION")) != str(VERSION):
        raise OtherVersion(version[:10])
    return DomainMeta(
        uuid=fields.uuid("SDUUID"),
        type=fields.word("TYPE", StorageDomainType),
        domain_class=fields.word("CLASS", StorageDomainImageClass),
        role=fields.word("ROLE", StorageDomainRole),
        description=fields.text("DESCRIPTION", ""),
        remote_path=fields.text("REMOTE_PATH", ""),
        pools=fields.uuids("POOL_UUID"),
        pool=_pool(fields),
        master_version=fields.number("MASTER_VERSION", 0, 2**31, 0),
        alignment=_one_of("ALIGNMENT", fields.number("ALIGNMENT", 0, 1 << 30, _ALIGNMENTS[0]), _ALIGNMENTS),
        block_size=_one_of("BLOCK_SIZE", fields.number("BLOCK_SIZE", 0, 1 << 20, BLOCKS[0]), BLOCKS),
        lock_policy=fields.text("LOCKPOLICY", ""),
        renewal_s=fields.number("LOCKRENEWALINTERVALSEC", 0, 86_400, 5),
        lease_s=fields.number("LEASETIMESEC", 0, 86_400, 60),
        io_timeout_s=fields.number("IOOPTIMEOUTSEC", 0, 86_400, 10),
        lease_retries=fields.number("LEASERETRIES", 0, 1000, 3),
        rest=fields.rest(),
    )


def _pool(fields: Fields) -> PoolMeta | None:
    pairs = fields.pairs("POOL_DOMAINS")
    for domain, word in pairs.items():
        if word not in _WORDS:
            raise Malformed(f"its POOL_DOMAINS says {word[:40]!r} of {domain}")
    made = PoolMeta(
        description=fields.text("POOL_DESCRIPTION", ""),
        domains={domain: StorageDomainStatus(word) for domain, word in pairs.items()},
        spm_id=fields.number("POOL_SPM_ID", NO_HOST, 2000, NO_HOST),
        spm_lver=fields.number("POOL_SPM_LVER", -1, 2**63 - 1, -1),
    )
    return None if made == PoolMeta() else made


def _verified(data: bytes) -> list[str]:
    """The lines, once their checksum is found to be right."""
    if len(data) > LONGEST:
        raise Malformed(f"it is longer than {LONGEST} bytes")
    lines = data.split(b"\n")
    sums = [line for line in lines if line.startswith(f"{_CHECKSUM}=".encode())]
    shown = [line for line in lines if line and line not in sums]
    if len(sums) != 1:
        raise Malformed("it is cut short: it has no checksum")
    if not hmac.compare_digest(sums[0].partition(b"=")[2], _checksum(shown).encode()):
        raise Malformed("its checksum is not that of its lines")
    try:
        return [_CHARACTER.sub(_character, line.decode("ascii")) for line in shown]
    except UnicodeDecodeError:
        raise Malformed("it is not ASCII") from None


def _character(found: re.Match[str]) -> str:
    number = int(found[1])
    return chr(number) if 127 < number <= 0x10FFFF and not 0xD800 <= number < 0xE000 else found[0]


def _checksum(lines: list[bytes]) -> str:
    # The published format's own; against damage, not against attack.
    return hashlib.sha1(b"".join(lines), usedforsecurity=False).hexdigest()


def _one_of(key: str, value: int, allowed: tuple[int, ...]) -> int:
    if value not in allowed:
        raise Malformed(f"its {key} is {value}, none of {', '.join(map(str, allowed))}")
    return value
