# SPDX-License-Identifier: Apache-2.0
"""What an administrator may set. The descriptions here are the manual: `vdsmd --show-config` prints them."""

from __future__ import annotations

import difflib
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from vdsm.contract.access import Role

Text = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]*$")]
_ABSOLUTE = r"^(/[^\x00-\x1f\x7f]*)?$"
Directory = Annotated[str, Meta(pattern=_ABSOLUTE)]
File = Directory
Destination = Annotated[str, Meta(pattern=r"^[!-9;-~]{1,255}$")]
Count = Annotated[int, Meta(ge=1, le=10_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=3600)]


class ConfigError(Exception):
    """The configuration cannot be used; the text says where and what to do."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file. An empty path stands for the usual place, which depends on who runs the daemon."""


class Daemon(Section, frozen=True, kw_only=True):
    """The process itself."""

    owner: Annotated[
        str,
        Meta(
            pattern="^[A-Za-z0-9_.-]{1,64}$",
            description="The owner's name in the mark that vdsm leaves in the machines it makes. Machines with another"
            " mark, or none, are shown and never touched.",
        ),
    ] = "vdsm"
    state_directory: Annotated[
        Directory, Meta(description="What survives a restart: tasks, events, audit, tokens, certificates.")
    ] = ""
    run_directory: Annotated[Directory, Meta(description="The socket and the process id.")] = ""
    drain_seconds: Annotated[
        float,
        Meta(ge=0, le=300, description="How long calls and steps under way may still take when the daemon is stopped."),
    ] = 10.0


class Log(Section, frozen=True, kw_only=True):
    """What the daemon says about itself, on standard error."""

    level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], Meta(description="The least severe level shown.")
    ] = "INFO"
    format: Annotated[Literal["text", "json"], Meta(description="Lines for people, or one JSON object a line.")] = (
        "text"
    )


class Libvirt(Section, frozen=True, kw_only=True):
    """The hypervisor."""

    uri: Annotated[
        Text, Meta(description="libvirt's connection. Empty: qemu:///system for root, qemu:///session for anyone else.")
    ] = ""


class Vm(Section, frozen=True, kw_only=True):
    """Virtual machines."""

    directories: Annotated[
        list[Directory],
        Meta(description="Files below these directories may be given to machines: disks, discs, kernels. No others."),
    ] = []


class Storage(Section, frozen=True, kw_only=True):
    """Storage domains and the disks in them."""

    directories: Annotated[
        list[Directory], Meta(description="Local directories below which storage may be made. No others.")
    ] = []
    repository: Annotated[
        Directory, Meta(description="Where pools and domains are linked together, as managers look for them.")
    ] = ""
    prepared: Annotated[
        Directory, Meta(description="Where images in use are linked; empty: storage in run_directory.")
    ] = ""
    local_leases: Annotated[
        bool,
        Meta(
            description="Whether sanlock keeps local directories too, for directories that several hosts share. NFS and"
            " other mounted storage has leases always."
        ),
    ] = False
    monitor_interval_s: Annotated[
        Seconds,
        Meta(description="Seconds between two looks at whether a domain's storage answers, and at least 2 for it to."),
    ] = 10.0


class Sanlock(Section, frozen=True, kw_only=True):
    """The lock manager of storage that hosts share."""

    run_directory: Annotated[
        Directory, Meta(description="The run directory of the sanlock to use; empty: the system's.")
    ] = ""


class Transfers(Section, frozen=True, kw_only=True):
    """Disk images up and down over HTTPS, by ovirt-imageio, for clients with a ticket."""

    listen: Annotated[
        Text,
        Meta(
            description="The address to listen on; empty: REST's, and where that has none, this host alone. Other"
            " hosts are served with REST's certificates only."
        ),
    ] = ""
    port: Annotated[int, Meta(ge=1, le=65534, description="The port there.")] = 54322
    remote_servers: Annotated[
        list[Annotated[str, Meta(pattern=r"^[!-~]{1,255}$")]],
        Meta(
            description="The HTTP servers that Image.download and Image.upload may let this host call: `host`, at the"
            " scheme's own port, or `host:port`. Empty: none."
        ),
    ] = []
    remote_ca: Annotated[
        File, Meta(description="Authorities for the certificates of those servers, beside the system's.")
    ] = ""


class Rest(Section, frozen=True, kw_only=True):
    """The REST door."""

    enabled: Annotated[
        bool, Meta(description="Whether there is one. Without it, and what shares its ports, only the bus is left.")
    ] = True
    socket: Annotated[File, Meta(description="The unix socket for local users; empty: api.sock in run_directory.")] = ""
    socket_mode: Annotated[
        str, Meta(pattern="^0?[0-7]{3}$", description="Its permissions, in octal; [access] says what a user may do.")
    ] = "0660"
    socket_group: Annotated[Text, Meta(description="The group that owns it; empty: the daemon's own.")] = ""
    listen: Annotated[
        Text,
        Meta(
            description='The address to listen on for TLS connections, "::" for all, "0.0.0.0" for all of IPv4; empty:'
            " none. Needs the certificates that `vdsmd pki init` makes."
        ),
    ] = ""
    port: Annotated[int, Meta(ge=0, le=65535, description="The port there; 0: any that is free.")] = 54321
    certificate: Annotated[
        File, Meta(description="The host's certificate; empty: pki/host.pem in state_directory.")
    ] = ""
    key: Annotated[File, Meta(description="Its private key; empty: pki/host.key in state_directory.")] = ""
    ca: Annotated[
        File, Meta(description="The authority whose client certificates count; empty: pki/ca.pem in state_directory.")
    ] = ""
    revoked: Annotated[File, Meta(description="That authority's list of revoked certificates (PEM); empty: none.")] = ""
    tokens: Annotated[
        bool, Meta(description="Whether a bearer token opens the door to a client without a certificate.")
    ] = True


class Jsonrpc(Section, frozen=True, kw_only=True):
    """JSON-RPC 2.0 over STOMP, on the TCP ports of REST: a connection's first bytes choose."""

    enabled: Annotated[bool, Meta(description="Whether it is spoken there.")] = True
    request_queues: Annotated[
        list[Destination], Meta(description="The destinations that take calls, with all below them.")
    ] = msgspec.field(default_factory=lambda: ["jms.topic.vdsm_requests", "jms.topic.vdsm_irs_requests"])
    response_queue: Annotated[Destination, Meta(description="Where the answer to a call without a reply-to goes.")] = (
        "jms.topic.vdsm_responses"
    )
    event_queue: Annotated[Destination, Meta(description="Where events come.")] = "jms.queue.events"


class Xmlrpc(Section, frozen=True, kw_only=True):
    """XML-RPC with the historical names, on every port of REST: a POST of text/xml, whatever its path."""

    enabled: Annotated[bool, Meta(description="Whether it is spoken there.")] = True


BusName = Annotated[str, Meta(pattern=r"^([A-Za-z0-9_-][A-Za-z0-9_.@-]{0,127})?$")]


class Bus(Section, frozen=True, kw_only=True):
    """A message bus, on which this host is a QMF agent: see docs/bus.md."""

    address: Annotated[
        Text, Meta(description='The broker, "amqps://host07@broker.example.org:5671" for instance; empty: no bus.')
    ] = ""
    profile: Annotated[
        Literal["", "qpidd", "rabbitmq3", "rabbitmq4", "artemis", "activemq"],
        Meta(description="Which kind of broker it is; empty: the one it says it is."),
    ] = ""
    password_file: Annotated[
        File, Meta(description="The password of the user in the address, readable by the daemon alone; empty: none.")
    ] = ""
    ca: Annotated[
        File, Meta(description="The authority that must have signed the broker's certificate; empty: the system's.")
    ] = ""
    certificate: Annotated[File, Meta(description="This host's certificate for the broker; empty: none is shown.")] = ""
    key: Annotated[File, Meta(description="Its private key.")] = ""
    domain: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9_-]{1,64}$",
            description="Agents and consoles meet at the exchanges qmf.<domain>.topic and qmf.<domain>.direct.",
        ),
    ] = "default"
    name: Annotated[BusName, Meta(description="How this host is called there, as no other is; empty: its UUID.")] = ""
    users: Annotated[
        dict[str, Role], Meta(description='What the users of the broker may do here, as in { engine = "admin" }.')
    ] = {}
    anonymous: Annotated[
        Literal["", "viewer", "operator", "admin"],
        Meta(description="The role of messages without a user that the broker vouches for; empty: they are refused."),
    ] = ""
    audience: Annotated[
        Literal["", "viewer", "operator", "admin"],
        Meta(
            description="What everybody who may listen on the bus is told of machines, tasks and events: as much as"
            " this role may see; empty: nothing but that this host lives."
        ),
    ] = "viewer"
    heartbeat_seconds: Annotated[int, Meta(ge=1, le=3600, description="Between two signs of life.")] = 30
    publish_seconds: Annotated[
        Seconds, Meta(description="Between two looks at statistics; what else changes is told at once.")
    ] = 30.0
    calls_per_sender: Annotated[Count, Meta(description="Requests under way at once; more are refused.")] = 256


class Plain(Section, frozen=True, kw_only=True):
    """A second TCP port, without TLS: who reaches it is let in, so it is for programs on this host, and for tests."""

    listen: Annotated[Text, Meta(description='The address to listen on, "127.0.0.1" or "::1"; empty: none.')] = ""
    port: Annotated[int, Meta(ge=0, le=65535, description="The port there; 0: any that is free.")] = 54321
    role: Annotated[
        Literal["", "viewer", "operator", "admin"],
        Meta(description="The role of everybody who comes this way; empty: only a token opens this door."),
    ] = ""
    anywhere: Annotated[
        bool,
        Meta(description="Take an address that other hosts can reach. They, and who listens on the way, then have it."),
    ] = False


class Limits(Section, frozen=True, kw_only=True):
    """What a client can take of this host, on every door."""

    connections: Annotated[Count, Meta(description="Open at once, over all.")] = 512
    connections_per_peer: Annotated[
        Count, Meta(description="Open at once from one address; a local user counts as one.")
    ] = 256
    calls_per_connection: Annotated[
        Count, Meta(description="JSON-RPC calls under way at once; more wait until one is answered.")
    ] = 256
    body_bytes: Annotated[Count, Meta(description="The largest request body.")] = 2_097_152
    head_bytes: Annotated[Count, Meta(description="The largest request line with its headers.")] = 32_768
    handshake_seconds: Annotated[Seconds, Meta(description="For TLS to agree.")] = 10.0
    head_seconds: Annotated[Seconds, Meta(description="For a request's headers to arrive.")] = 10.0
    body_seconds: Annotated[Seconds, Meta(description="For its body to arrive.")] = 30.0
    stall_seconds: Annotated[Seconds, Meta(description="For a client that does not read its answer.")] = 30.0
    idle_seconds: Annotated[int, Meta(ge=1, le=3600, description="Between two requests on one connection.")] = 75


class Access(Section, frozen=True, kw_only=True):
    """Who may do what: viewer, operator or admin. root and the daemon's own user are always admin."""

    users: Annotated[
        dict[str, Role], Meta(description='Local users by name, as in { alice = "operator" }; no one else is let in.')
    ] = {}
    groups: Annotated[
        dict[str, Role], Meta(description="Local groups by name; the strongest role a user has counts.")
    ] = {}
    certificates: Annotated[
        dict[str, Role],
        Meta(description='Client certificates by any of their names, as in { "engine.example.org" = "admin" }.'),
    ] = {}
    any_certificate: Annotated[
        Literal["", "viewer", "operator", "admin"],
        Meta(description="The role of a certificate of the authority that is not named here; empty: it is not let in."),
    ] = ""


class Events(Section, frozen=True, kw_only=True):
    """The journal of events."""

    keep: Annotated[Count, Meta(description="How many; the oldest go first.")] = 100_000


class Audit(Section, frozen=True, kw_only=True):
    """The trail of changes and refusals."""

    keep: Annotated[Count, Meta(description="How many records; the oldest go first.")] = 100_000


class Simulate(Section, frozen=True, kw_only=True):
    """The pretended host of `vdsmd --simulate`; without that flag nothing here counts."""

    machines: Annotated[int, Meta(ge=0, le=100_000, description="How many machines run from the start.")] = 3
    faults: Annotated[
        Text, Meta(description='What goes wrong, as in "start:error=boom,times=1;samples:delay=2;reset:hang".')
    ] = ""


class Config(Section, frozen=True, kw_only=True):
    """The file's tables."""

    daemon: Daemon = Daemon()
    log: Log = Log()
    libvirt: Libvirt = Libvirt()
    vm: Vm = Vm()
    storage: Storage = Storage()
    sanlock: Sanlock = Sanlock()
    transfers: Transfers = Transfers()
    rest: Rest = Rest()
    jsonrpc: Jsonrpc = Jsonrpc()
    xmlrpc: Xmlrpc = Xmlrpc()
    bus: Bus = Bus()
    plain: Plain = Plain()
    limits: Limits = Limits()
    access: Access = Access()
    events: Events = Events()
    audit: Audit = Audit()
    simulate: Simulate = Simulate()

    @property
    def pki(self) -> Path:
        return Path(self.daemon.state_directory) / "pki"

    @property
    def database(self) -> Path:
        """The directory of the state file: one of its own, so that images beside it stay readable for QEMU."""
        return Path(self.daemon.state_directory) / "db"


_IMAGES = ("/var/lib/vdsm/images", "/var/lib/libvirt/images", "/srv")


@dataclass(frozen=True, slots=True)
class Place:
    """The usual places for whoever runs the daemon."""

    root: bool
    config: Path
    state: Path
    run: Path
    images: tuple[str, ...]
    storage: tuple[str, ...]
    repository: Path

    @staticmethod
    def of_root() -> Place:
        """The system's."""
        return Place(
            root=True,
            config=Path("/etc/vdsm/vdsmd.toml"),
            state=Path("/var/lib/vdsm"),
            run=Path("/run/vdsm"),
            images=_IMAGES,
            storage=("/srv", "/var/lib/vdsm/storage"),
            repository=Path("/rhev/data-center"),
        )

    @staticmethod
    def of_process() -> Place:
        """For root the system's, for others the XDG directories."""
        if os.geteuid() == 0:
            return Place.of_root()
        home = Path.home()
        data = _xdg("XDG_DATA_HOME", home / ".local/share") / "vdsm"
        return Place(
            root=False,
            config=_xdg("XDG_CONFIG_HOME", home / ".config") / "vdsm/vdsmd.toml",
            state=_xdg("XDG_STATE_HOME", home / ".local/state") / "vdsm",
            run=_runtime(home) / "vdsm",
            images=(*_IMAGES, f"{data}", f"{home}"),
            storage=(f"{data}", f"{home}"),
            repository=data / "data-center",
        )


def load(file: Path | None, place: Place) -> Config:
    """The effective configuration: `file`, or the usual one if it is there. Raises ConfigError."""
    wanted = file or place.config
    try:
        text = wanted.read_bytes()
    except FileNotFoundError:
        if file is not None:
            raise ConfigError(
                f"{file}: there is no such file; `vdsmd --show-config` prints one to begin with"
            ) from None
        text = b""
    except OSError as error:
        raise ConfigError(f"{wanted}: it cannot be read: {error.strerror}") from None
    config = parse(text, f"{wanted}")
    if not config.rest.enabled and not config.bus.address:
        raise ConfigError(
            f"{wanted}: [rest] enabled: every door is closed, so the daemon would serve nobody; open it, or give [bus]"
            " an address"
        )
    return with_places(config, place)


def parse(text: bytes, name: str) -> Config:
    """Raises ConfigError that begins with `name`."""
    try:
        return msgspec.convert(tomllib.loads(text.decode()), Config)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: it is not UTF-8 (byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: it is not TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {_where(str(error))}; `vdsmd --show-config` explains every key") from None


def _where(error: str) -> str:
    """msgspec's "... - at `$.rest.port`" in the words of the file: "[rest] port: ..."."""
    reason, _, path = error.rpartition(" - at ")
    section, _, key = path.strip("`").removeprefix("$").removeprefix(".").partition(".")
    if not reason:
        reason, section, key = error, "", ""
    if repr(_ABSOLUTE) in reason:
        reason = "expected an absolute path"
    elif "unknown field" in reason:
        unknown = reason.split("`")[1]
        kind: Any = Config.__annotations__ if not section else type(getattr(Config(), section)).__annotations__
        near = difflib.get_close_matches(unknown, list(kind), 1)
        reason = f"there is no {'key' if section else 'table'} {unknown!r}" + (
            f", did you mean {near[0]!r}?" if near else ""
        )
    return (
        " ".join(part for part in (f"[{section}]" if section else "", key) if part) + (": " if section else "") + reason
    )


def with_places(config: Config, place: Place) -> Config:
    """With the usual places where nothing was said."""
    state = config.daemon.state_directory or f"{place.state}"
    run = config.daemon.run_directory or f"{place.run}"
    replace = msgspec.structs.replace
    rest = config.rest
    return replace(
        config,
        daemon=replace(config.daemon, state_directory=state, run_directory=run),
        libvirt=Libvirt(uri=config.libvirt.uri or ("qemu:///system" if place.root else "qemu:///session")),
        vm=Vm(directories=config.vm.directories or list(place.images)),
        storage=replace(
            config.storage,
            directories=config.storage.directories or list(place.storage),
            repository=config.storage.repository or f"{place.repository}",
            prepared=config.storage.prepared or f"{run}/storage",
        ),
        rest=replace(
            rest,
            socket=rest.socket or f"{run}/api.sock",
            certificate=rest.certificate or f"{state}/pki/host.pem",
            key=rest.key or f"{state}/pki/host.key",
            ca=rest.ca or f"{state}/pki/ca.pem",
        ),
    )


def _runtime(home: Path) -> Path:
    """Where sockets go. Without a login manager there is no runtime directory: then where libvirt has its own too."""
    runtime = _xdg("XDG_RUNTIME_DIR", Path(f"/run/user/{os.geteuid()}"))
    return runtime if runtime.is_dir() else _xdg("XDG_CACHE_HOME", home / ".cache")


def _xdg(name: str, default: Path) -> Path:
    value = os.environ.get(name, "")
    return Path(value) if value.startswith("/") else default
