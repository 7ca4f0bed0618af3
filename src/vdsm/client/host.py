# SPDX-License-Identifier: Apache-2.0
"""`Host`: everything one daemon offers, in the contract's types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, ParamSpec, TypeVar, cast, overload

from vdsm.contract import AnyVerb, ByteStream, Kind, Verb
from vdsm.contract.events import EventFilter, Severity
from vdsm.contract.outcome import Outcome
from vdsm.contract.task import Plan

from . import address, exchange, route
from .events import Events
from .exchange import Options
from .nouns import Nouns, OutcomeNouns, PlanNouns
from .stream import Stream
from .transport import BadAnswer, Refused, Transport

P = ParamSpec("P")
R = TypeVar("R")


def connect(url: str | None = None, *, ca: str = "", cert: str = "", key: str = "", token: str = "") -> Host:
    """The daemon at `url`: a socket's path or `https://HOST[:PORT]`; by default the one of this machine.

    Over TLS show a client certificate (`cert`, `key`) or a bearer `token`; `ca` is the file that vouches for the
    daemon. VDSM_URL, VDSM_CA, VDSM_CERT, VDSM_KEY and VDSM_TOKEN_FILE stand in for what is not given.

    Nothing is sent before the first call. Raises ValueError for a url that is none.
    """
    return Host(Transport(address.find(url, ca=ca, cert=cert, key=key, token=token)))


class Host(Nouns):
    """One daemon. Close it, or use it in a `with`. Threads may share it."""

    def __init__(self, transport: Transport, options: Options | None = None) -> None:
        self._transport = transport
        self._options = options or Options()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    def call(self, verb: Verb[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do what the verb says, to its end.

        Raises Problem: one the verb declares, or one of the call itself; Unreachable.
        """
        outcome = exchange.call(self._transport, verb, exchange.bind(verb, args, kwargs), self._options)
        if outcome.task is not None:
            raise BadAnswer(f"{verb.method} goes on as task {outcome.task.id} although its end was asked for")
        return cast(R, outcome.result)  # only a verb that answers nothing has None here

    def open(self, verb: Verb[P, ByteStream], /, *args: P.args, **kwargs: P.kwargs) -> Stream:
        """Open a verb's two-way stream. Raises Problem, Unreachable."""
        target, _ = route.target("GET", verb.route.path, exchange.bind(verb, args, kwargs))
        try:
            return Stream(self._transport, target)
        except Refused as refused:
            raise exchange.problem(refused.status, refused.body) from None

    @overload
    def options(self, *, plan: Literal[True], deadline: float | None = None) -> Plans: ...

    @overload
    def options(self, *, wait: float, deadline: float | None = None, idempotency_key: str = "") -> Outcomes: ...

    @overload
    def options(self, *, deadline: float | None = None, idempotency_key: str = "", flow_id: str = "") -> Host: ...

    def options(
        self,
        *,
        plan: bool = False,
        wait: float | None = None,
        deadline: float | None = None,
        idempotency_key: str = "",
        flow_id: str = "",
    ) -> Plans | Outcomes | Host:
        """The same host, called otherwise; both share their connections, and what is not given here stays as it is.

        `plan`: nothing is done, every verb answers with its `Plan`. `wait`: a task that has not ended after so many
        seconds goes on by itself; the verb answers with an `Outcome` that holds its result or its task. `deadline`:
        seconds for each call. `idempotency_key`: the same call again within a day answers the same and does nothing.
        """
        here = self._options
        chosen = Options(
            plan=plan,
            wait=wait,
            deadline=here.deadline if deadline is None else deadline,
            idempotency_key=idempotency_key or here.idempotency_key,
            flow_id=flow_id or here.flow_id,
        )
        if plan:
            return Plans(self._transport, chosen)
        return Host(self._transport, chosen) if wait is None else Outcomes(self._transport, chosen)

    def events(
        self,
        *,
        since: int | None = None,
        types: Sequence[str] = (),
        subjects: Sequence[str] = (),
        severities: Sequence[Severity] = (),
    ) -> Events:
        """What happens, for ever: iterate it, and close it or use it in a `with`.

        `since` is the id of the last event known: 0 for the oldest kept, None for what happens from now on.
        """
        wanted = EventFilter(types=list(types), subjects=list(subjects), severities=list(severities))
        return Events(self._transport, wanted, since=since)

    def _do(self, verb: AnyVerb, *args: object, **kwargs: object) -> object:
        return (self.open if verb.kind is Kind.STREAM else self.call)(verb, *args, **kwargs)


class Plans(PlanNouns):
    """A host that only says what it would do."""

    def __init__(self, transport: Transport, options: Options) -> None:
        self._transport = transport
        self._options = options

    def call(self, verb: Verb[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Plan:
        """The steps of what the verb would do. Raises Problem, Unreachable."""
        outcome = exchange.call(self._transport, verb, exchange.bind(verb, args, kwargs), self._options)
        if outcome.plan is None:
            raise BadAnswer(f"{verb.method} was answered without a plan")
        return outcome.plan

    def _do(self, verb: AnyVerb, *args: object, **kwargs: object) -> object:
        return self.call(verb, *args, **kwargs)


class Outcomes(OutcomeNouns):
    """A host whose tasks may go on by themselves."""

    def __init__(self, transport: Transport, options: Options) -> None:
        self._transport = transport
        self._options = options

    def call(self, verb: Verb[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Outcome[R]:
        """The verb's result if it ended in time, else its task. Raises Problem, Unreachable."""
        return exchange.call(self._transport, verb, exchange.bind(verb, args, kwargs), self._options)

    def _do(self, verb: AnyVerb, *args: object, **kwargs: object) -> object:
        return self.call(verb, *args, **kwargs)
