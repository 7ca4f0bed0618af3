# SPDX-License-Identifier: Apache-2.0
"""`vdsmsh call`: a verb by its API name, with parameters by their wire names."""

from __future__ import annotations

import json

from . import calls, values
from .faults import Fault, did_you_mean, usage
from .options import COMMON, FIELDS, SAVE, WHERE
from .parse import Parser, add_common, secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .index import Index
    from .session import Session


def run(session: Session, words: Sequence[str]) -> int:
    """Call it and show what comes of it; returns the exit code. Raises Fault."""
    parser = Parser("vdsmsh call")
    parser.add_argument("verb", metavar="VERB")
    parser.add_argument("params", nargs="*", metavar="NAME=TEXT | NAME:=JSON")
    parser.add_argument(SAVE.flag, dest="save")
    parser.add_argument(FIELDS.flag)
    parser.add_argument(WHERE.flag, action="append")
    add_common(parser, COMMON)
    given = {k: v for k, v in parser.read(words).items() if v is not None}
    method = find(session.index, given.pop("verb"))
    params = parameters(session.index, method, given.pop("params"))
    try:
        return calls.run(session, method, params, given)
    except Fault as fault:
        fault.option = ""  # the problem's own path is what was typed here
        raise


def find(index: Index, name: str) -> str:
    """The verb of this name, in whatever case. Raises Fault."""
    for method in index["verbs"]:
        if method.lower() == name.lower():
            return str(method)
    raise usage(f"there is no verb {name!r}", did_you_mean(name, list(index["verbs"])) or "See `vdsmsh help`.")


def parameters(index: Index, method: str, words: Sequence[str]) -> dict[str, Any]:
    """`name=text`, read as what the parameter takes, or `name:=json`, as it is. Raises Fault."""
    known = {p["name"]: p for p in index["verbs"][method]["params"]}
    params: dict[str, Any] = {}
    for word in words:
        name, mark, text = word.partition("=")
        exact = name.endswith(":")
        name = name.removesuffix(":")
        if not mark or not name:
            raise usage(f"expected NAME=TEXT or NAME:=JSON, got {word!r}")
        if name not in known:
            hint = did_you_mean(name, list(known)) or f"{method} takes {', '.join(known) or 'none'}."
            raise usage(f"{method} has no parameter {name!r}", hint)
        try:
            params[name] = json.loads(text) if exact else _read(index, known[name], text)
        except ValueError as error:
            raise usage(f"{name}: {error}") from None
    for param in known.values():
        if "at" in param and not params.get(param["name"]):
            raise usage(f"{method} needs {param['name']}=...")
    return params


def _read(index: Index, param: dict[str, Any], text: str) -> Any:
    if param["type"]["k"] == "secret":
        return secret(f"{param['name']}=", text)
    return values.value(index, param["type"], text)
