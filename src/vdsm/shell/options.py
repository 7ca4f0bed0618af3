# SPDX-License-Identifier: Apache-2.0
"""A verb's parameters as options: flat, whatever their shape. And the options every command takes."""

from __future__ import annotations

from .values import example, kebab

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .index import Index


class Option:
    """One parameter, or one field of a parameter that is a struct."""

    __slots__ = ("flags", "from_path", "help", "metavar", "positional", "ref", "required", "shape", "where")

    def __init__(self, index: Index, field: dict[str, Any], where: tuple[str, ...], flags: list[str]) -> None:
        self.where = where  # the wire names that lead to it
        self.flags = flags
        self.shape: dict[str, Any] = field["type"]
        self.ref: str = field.get("ref", "")
        self.from_path: bool = field.get("at") == "path"
        self.required: bool = field.get("required", False)
        self.positional: bool = self.required and len(where) == 1 and field.get("position", False)
        self.metavar = flags[0].lstrip("-").upper() if self.from_path else example(index, self.shape)
        self.help = _help(field)

    @property
    def repeats(self) -> bool:
        return self.shape["k"] in ("list", "map")

    @property
    def secret(self) -> bool:
        return bool(self.shape["k"] == "secret")

    @property
    def key(self) -> str:
        return ".".join(self.where)


def options(index: Index, verb: dict[str, Any]) -> list[Option]:
    """Every option of a verb; those of its path first."""
    found: list[Option] = []
    taken: set[str] = set()
    for field, where in _leaves(index, verb["params"]):
        flags = _flags(field)
        if flags[0] in taken:  # a field of a struct that is called as a parameter beside it
            flags = [f"--{'-'.join(where)}".lower()]
        taken.update(flags)
        if field["type"]["k"] == "secret" or field.get("at") != "path":
            found.append(Option(index, field, where, flags))
        else:
            found.append(Option(index, field, where, [field.get("ref") or kebab(field)]))
    return found


def _leaves(index: Index, params: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    inner: list[tuple[dict[str, Any], tuple[str, ...]]] = []
    for param in params:
        shape = param["type"]
        if shape["k"] == "struct" and not shape.get("null"):
            inner += [(field, (param["name"], field["name"])) for field in index["types"][shape["name"]]]
        else:
            yield param, (param["name"],)
    yield from inner


def _flags(field: dict[str, Any]) -> list[str]:
    """`--disk`, and `--disks` as well, for a list that is filled one by one."""
    name = kebab(field)
    if field["type"]["k"] not in ("list", "map") or not name.endswith("s"):
        return [f"--{name}"]
    one = f"{name[:-3]}y" if name.endswith("ies") else name[:-1]
    return [f"--{one}", f"--{name}"]


def _help(field: dict[str, Any]) -> str:
    parts = [field["help"]] if "help" in field else []
    if field.get("ref"):
        known = "Its name" if field.get("exact") else "Id, or its beginning"
        parts = ["Name, id, or the beginning of either"] if field["ref"] == "vm" else [known]
    if field["type"].get("file"):
        parts.append("@FILE reads it from a file")
    if field["type"]["k"] == "secret":
        parts.append("asked for if left out; - reads a line of standard input, @FILE a file")
    if field["type"]["k"] in ("list", "map"):
        parts.append("may be repeated")
    default = field.get("default")
    if default not in (None, "", [], {}):
        shown = str(default).lower() if isinstance(default, bool) else default
        if isinstance(default, dict):
            shown = ",".join(f"{k}={v}" for k, v in default.items())
        parts.append(f"default {shown}")
    return "; ".join(parts)


class Common:
    """An option of every command."""

    __slots__ = ("choices", "dest", "flag", "help", "metavar")

    def __init__(self, flag: str, metavar: str, text: str, choices: tuple[str, ...] = ()) -> None:
        self.flag = flag
        self.dest = flag.lstrip("-").replace("-", "_")
        self.metavar = metavar  # empty: the option takes no value
        self.help = text
        self.choices = choices


COMMON = (
    Common(
        "--output", "FORMAT", "table for people (the default), json or yaml for programs", ("table", "json", "yaml")
    ),
    Common("--plan", "", "say what would be done, and do nothing"),
    Common("--no-wait", "", "let a task go on by itself"),
    Common("--wait", "SECONDS", "wait so long for a task's end, then let it go on by itself"),
    Common("--timeout", "SECONDS", "how long the call may take"),
    Common("--idempotency-key", "KEY", "the same call with the same key, within a day, is done once"),
    Common("--bus", "ADDRESS", "a message bus, amqp://[USER@]HOST[:PORT] or amqps://..., over which hosts are reached"),
    Common("--host", "NAME", "the host on the bus: its name, its id, or the beginning of either"),
    Common("--url", "URL", "https://HOST[:PORT], or a socket's path"),
    Common("--socket", "PATH", "the daemon's unix socket"),
    Common("--token-file", "FILE", "holds a bearer token; for --bus, the password of its user"),
    Common("--ca", "FILE", "the authority that vouches for the daemon, or for the broker of the bus"),
    Common("--cert", "FILE", "a client certificate"),
    Common("--key", "FILE", "its private key, if it is not in the same file"),
)

WAY = ("bus", "url", "socket", "token_file", "ca", "cert", "key")
"""Those that say how daemons are reached; on a bus --host says which of them is meant."""

FIELDS = Common("--fields", "A,B", "only these fields, by their names in --output json")
WHERE = Common("--where", "FIELD=VALUE", "only objects whose field has this value; may be repeated")
SAVE = Common("-o", "FILE", "the file to write the picture to; - for standard output")
