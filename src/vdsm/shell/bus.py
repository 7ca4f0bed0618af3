# SPDX-License-Identifier: Apache-2.0
"""The way to hosts over a message bus: the shape of `door.RestDoor`, for one host or for all of them."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPMessage
from typing import Any
from urllib.parse import parse_qs

import msgspec

from vdsm.amqp.address import BusAddress
from vdsm.amqp.errors import BusDown
from vdsm.client.address import read_token
from vdsm.client.exchange import Options
from vdsm.client.qmf.events import Item
from vdsm.client.qmf.fleet import BusHost, Feed, Fleet
from vdsm.client.qmf.glance import Glance
from vdsm.client.qmf.hosts import Change, KnownHost
from vdsm.client.stream import Stream
from vdsm.client.transport import Reply
from vdsm.contract import VERBS, AnyVerb
from vdsm.contract.codec import to_json, to_plain
from vdsm.contract.errors import HostUnreachable, InvalidParams, Problem, StreamNotCarried
from vdsm.contract.events import EventFilter, Gap
from vdsm.contract.outcome import Outcome
from vdsm.contract.selection import Selection
from vdsm.protocols import problem as rfc9457
from vdsm.protocols.qmf2.names import DEFAULT_DOMAIN
from vdsm.protocols.sse import Message

from . import faults
from .door import How
from .faults import Fault

CHANGES = {
    Change.FOUND: "is there",
    Change.RESTARTED: "was restarted",
    Change.SILENT: "has gone silent",
    Change.BACK: "is heard again",
}


def open_door(chosen: Mapping[str, Any]) -> BusDoor:
    """To the bus that the options or VDSM_BUS name. Raises Fault."""
    address = _address(chosen)
    logging.disable(logging.WARNING)  # why a first attempt fails is said once, by the Fault
    try:
        return BusDoor(Fleet(address, domain=os.environ.get("VDSM_BUS_DOMAIN") or DEFAULT_DOMAIN))
    except BusDown as error:
        raise _no_bus(str(address), str(error)) from None
    finally:
        logging.disable(logging.NOTSET)


class BusDoor:
    """A `Door`, once a host is chosen; without one it only shows what all hosts have in common."""

    def __init__(self, fleet: Fleet, host: str = "") -> None:
        self._fleet = fleet
        self._name = host
        self._host: BusHost | None = None

    @property
    def name(self) -> str:
        return f"{self._name} on {self._fleet.address}" if self._name else str(self._fleet.address)

    def close(self) -> None:
        self._fleet.close()

    def to(self, host: str) -> BusDoor:
        return self if host == self._name else BusDoor(self._fleet, host)

    def hosts(self) -> list[str]:
        return [] if self._name else [host.name for host in self._fleet.hosts()]

    def glance(self, seconds: float) -> list[Glance]:
        """Every host there is, as it is now."""
        self._fleet.hosts(seconds)
        return self._fleet.glance(seconds)

    def send(self, method: str, verb: Mapping[str, Any], params: Mapping[str, Any], how: How, query: str = "") -> Reply:
        host, wanted = self._chosen(), VERBS[method]
        options = Options(
            plan=how.plan, wait=how.wait, deadline=how.timeout, idempotency_key=how.key, flow_id=str(uuid.uuid4())
        )
        given = {name: value for name, value in params.items() if value is not None}
        try:
            choose = _selection(wanted, query)
            outcome = self._fleet.call(host.known, wanted, given, options)
            return _reply(outcome, choose)
        except HostUnreachable as problem:
            raise _unreachable(problem) from None
        except Problem as problem:
            return _refusal(problem, options.flow_id)

    def follow(self, since: int | None, wanted: Sequence[tuple[str, str]], on_cut: Callable[[str], None]) -> BusFeed:
        lists: dict[str, list[str]] = {}
        for name, text in wanted:
            lists.setdefault(name, []).append(text)
        chosen = msgspec.convert(lists, EventFilter)
        if self._name:
            return BusFeed(self._fleet.events_of(self._chosen().known, chosen, since, on_cut), lambda: None)

        def changed(change: Change, host: KnownHost) -> None:
            on_cut(f"{host.name} {CHANGES[change]}")

        self._fleet.hosts()
        feed = self._fleet.events(chosen, since, lambda host, reason: on_cut(f"{host.name}: {reason}"))
        return BusFeed(feed, self._fleet.watch(changed))

    def attach(self, method: str, verb: Mapping[str, Any], params: Mapping[str, Any]) -> Stream:
        raise Fault(faults.REFUSED, to_plain(StreamNotCarried(method=method).body()))

    def _chosen(self) -> BusHost:
        if not self._name:
            raise faults.usage(
                "which host of the bus?", "Name it with --host NAME; `vdsmsh --bus ADDRESS host list` shows them."
            )
        if self._host is None:
            try:
                self._host = self._fleet.host(self._name)
            except HostUnreachable as problem:
                raise _no_host(problem) from None
        return self._host


class BusFeed:
    """Events as JSON; with `host`, its name, where they are of several."""

    def __init__(self, feed: Feed[Any], unwatch: Callable[[], None]) -> None:
        self._feed = feed
        self._unwatch = unwatch

    def __iter__(self) -> Iterator[Message]:
        try:
            for item in self._feed:
                yield _message(*item) if isinstance(item, tuple) else _message(None, item)
        except HostUnreachable as problem:
            raise _unreachable(problem) from None
        except Problem as problem:
            raise Fault(faults.REFUSED, to_plain(problem.body())) from None

    def close(self) -> None:
        self._unwatch()
        self._feed.close()


def _message(host: KnownHost | None, item: Item) -> Message:
    body = {"host": host.name, **to_plain(item)} if host is not None else item
    return Message(to_json(body).decode(), "gap" if isinstance(item, Gap) else item.data.name)


def _selection(verb: AnyVerb, query: str) -> Callable[[Any], object] | None:
    """As REST does it. Raises InvalidParams."""
    asked = parse_qs(query, keep_blank_values=True)
    selection = Selection.of(verb.result)
    choose = selection.read(asked) if selection is not None else None
    for name in asked:
        raise InvalidParams(reason=f"nothing can be chosen from {verb.method} by `{name}`", path=f"$.{name}")
    return choose


def _reply(outcome: Outcome[Any], choose: Callable[[Any], object] | None) -> Reply:
    """As REST answers."""
    if outcome.plan is not None:
        return Reply(200, HTTPMessage(), to_json(outcome.plan))
    if outcome.detached:
        return Reply(202, HTTPMessage(), to_json(outcome.task))
    if outcome.result is None:
        return Reply(204, HTTPMessage(), b"")
    return Reply(200, HTTPMessage(), to_json(choose(outcome.result) if choose else outcome.result))


def _refusal(problem: Problem, flow_id: str) -> Reply:
    members = to_plain(problem.body(flow_id))
    return Reply(problem.status, HTTPMessage(), rfc9457.encode(members, instance=f"urn:vdsm:flow:{flow_id}"))


def _address(chosen: Mapping[str, Any]) -> BusAddress:
    """Raises Fault."""
    if chosen.get("url") or chosen.get("socket"):
        raise faults.usage("--bus and --host exclude --url and --socket")
    url = chosen.get("bus") or os.environ.get("VDSM_BUS", "")
    if not url:
        raise faults.usage("--host names a host on a bus; which bus?", "Name it with --bus ADDRESS or in VDSM_BUS.")
    file = chosen.get("token_file") or os.environ.get("VDSM_TOKEN_FILE")
    try:
        return BusAddress.parse(
            url,
            password=read_token(file) if file else "",
            **_tls_files(chosen, url),
        )
    except OSError as error:
        raise faults.usage(f"{error.filename} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise faults.usage(str(error)) from None


def _tls_files(chosen: Mapping[str, Any], url: str) -> dict[str, str]:
    """What VDSM_CA, VDSM_CERT and VDSM_KEY name is for connections with TLS, and no mistake on others."""
    env: Mapping[str, str] = os.environ if url.startswith("amqps:") else {}
    own = chosen.get("cert", "")  # its key is not the one of another certificate
    cert = own or env.get("VDSM_CERT", "")
    key = chosen.get("key") or ("" if own else env.get("VDSM_KEY", "")) or cert
    return {"ca": chosen.get("ca") or env.get("VDSM_CA", ""), "certificate": cert, "key": key}


def _no_bus(where: str, reason: str) -> Fault:
    if "PEM" in reason:
        hint = faults.WHICH_PEM
    elif "certificate" in reason:
        hint = "Name the file of the authority that signed the broker's certificate with --ca, or in VDSM_CA."
    else:
        hint = "Check the address, that the broker runs, and the user; --token-file names a file with its password."
    body = {"type": "urn:vdsm:shell:unreachable", "detail": f"cannot use the bus at {where}: {reason}", "hint": hint}
    return Fault(faults.UNREACHABLE, body)


def _no_host(problem: HostUnreachable) -> Fault:
    """A name that none of the hosts has, or several, says so without guesses about the network."""
    fault, reason = _unreachable(problem), problem.facts["reason"]
    if not reason.startswith("the bus is down"):
        hint = (
            "`vdsmsh host list` shows the hosts that are heard; one that is not there may be off, or in another domain."
        )
        fault.body |= {"detail": reason, "hint": hint}
    return fault


def _unreachable(problem: HostUnreachable) -> Fault:
    return Fault(faults.UNREACHABLE, to_plain(problem.body()))
