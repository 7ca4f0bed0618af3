# SPDX-License-Identifier: Apache-2.0
"""Words of a command line to a call: which verb, with which parameters. A parser is built for that verb alone."""

from __future__ import annotations

import argparse
import sys

from . import values
from .faults import did_you_mean, usage
from .options import COMMON, FIELDS, SAVE, WHERE, Common, Option, options
from .text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from .faults import Fault
    from .index import Index

HELP = ("--help", "-h")
ASKED = object()  # a secret named without a value: it will be asked for


class Parser(argparse.ArgumentParser):
    """Says what is wrong as a fault, with the nearest thing that would be right."""

    def __init__(self, prog: str, **kwargs: Any) -> None:
        super().__init__(
            prog, add_help=False, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs
        )

    def error(self, message: str) -> NoReturn:
        name = self.prog.removeprefix("vdsmsh").strip()
        hint = f"See `vdsmsh help {name}`." if name else "See `vdsmsh help`."
        raise usage(message, hint)

    def read(self, words: Sequence[str]) -> dict[str, Any]:
        """What the words say, by destination. Raises Fault."""
        given, extra = self.parse_known_intermixed_args(list(words))
        if extra:
            self.refuse(extra[0])
        return vars(given)

    def refuse(self, word: str) -> NoReturn:
        """There is no place for this word."""
        if not word.startswith("-"):
            self.error(f"{clean(repr(word))} is one word too many")
        flags = [flag for action in self._actions for flag in action.option_strings]
        near = did_you_mean(word.partition("=")[0], flags)
        detail = f"there is no option {clean(word.partition('=')[0])}"
        if near:
            raise usage(detail, near)
        self.error(detail)


def take_common(argv: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The options before the command, and the rest."""
    at = 0
    valued = {c.flag for c in COMMON if c.metavar}
    while at < len(argv) and argv[at].startswith("-") and argv[at] not in HELP:
        at += 2 if argv[at] in valued else 1
    parser = Parser("vdsmsh")
    add_common(parser, COMMON)
    return parser.read(argv[:at]), list(argv[at:])


def add_common(parser: argparse.ArgumentParser, common: Sequence[Common], taken: Sequence[str] = ()) -> None:
    group = parser.add_argument_group("for every command")
    for option in common:
        if option.flag in taken:
            continue
        if not option.metavar:
            group.add_argument(option.flag, action="store_true", default=argparse.SUPPRESS, help=option.help)
            continue
        group.add_argument(
            option.flag,
            dest=option.dest,
            metavar=option.metavar,
            choices=option.choices or None,
            type=_seconds if option.metavar == "SECONDS" else str,
            default=argparse.SUPPRESS,
            help=option.help,
        )


def find_verb(index: Index, words: Sequence[str]) -> tuple[str, list[str]]:
    """The verb whose command the words begin with, and the words after it; ("", words) if there is none."""
    for length in (3, 2, 1):
        for method, verb in index["verbs"].items():
            if len(verb["command"]) == length and list(words[:length]) == verb["command"]:
                return method, list(words[length:])
    return "", list(words)


def verb_parser(index: Index, method: str) -> tuple[Parser, list[Option]]:
    """The parser of one verb, and its options."""
    verb = index["verbs"][method]
    found = options(index, verb)
    parser = Parser(f"vdsmsh {' '.join(verb['command'])}", description=verb["doc"])
    for option in found:
        if option.from_path:
            parser.add_argument(option.key, metavar=option.metavar, help=option.help)
    spare = [o for o in found if is_spare(o)]
    if spare:
        words = " ".join(f"[{o.flags[0].lstrip('-').upper()}]" for o in spare)
        parser.add_argument("spare", nargs="*", metavar=words, help="the same as the options of these names")
    for option in found:
        if not option.from_path:
            _add(parser, option)
    taken = [flag for option in found for flag in option.flags]
    add_common(parser, COMMON, taken)
    if verb["kind"] == "query":
        shape = verb["result"]
        item = shape["of"] if shape["k"] in ("list", "map") else shape
        if item["k"] == "struct":
            parser.add_argument(FIELDS.flag, metavar=FIELDS.metavar, help=FIELDS.help)
        if item["k"] == "struct" and item is not shape:
            parser.add_argument(WHERE.flag, metavar=WHERE.metavar, action="append", help=WHERE.help)
        if item.get("name") == "Screenshot":
            parser.add_argument(SAVE.flag, dest="save", metavar=SAVE.metavar, help=SAVE.help)
    return parser, found


def is_spare(option: Option) -> bool:
    """Can also be given as a bare word after the path's: `vm rename a b`."""
    return option.positional and not option.from_path and not option.secret and not option.repeats


def parse_verb(index: Index, method: str, words: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The verb's parameters by wire name, with references as they were given, and the other options.

    Raises Fault.
    """
    parser, found = verb_parser(index, method)
    given = parser.read(_bare_flags(found, words))
    texts = {option.key: given.pop(option.key, None) for option in found}
    _place(parser, [o for o in found if is_spare(o)], given.pop("spare", []), texts)
    params: dict[str, Any] = {
        p["name"]: {}
        for p in index["verbs"][method]["params"]
        if p["type"]["k"] == "struct" and not p["type"].get("null") and p.get("required")
    }
    for option in found:
        text = texts[option.key]
        if text is None and option.required and len(option.where) == 1:
            if not option.secret:
                parser.error(f"{option.flags[0]} is missing")
            text = ASKED
        if text is None:
            continue
        try:
            _put(params, option.where, _value(index, option, text))
        except values.BadValue as fault:
            parser.error(f"{option.flags[0]}: {fault}")
    return params, {name: v for name, v in given.items() if v is not None}


def _place(parser: Parser, spare: list[Option], words: list[str], texts: dict[str, Any]) -> None:
    """Give the bare words to the parameters that have no value yet."""
    free = [option for option in spare if texts[option.key] is None]
    if len(words) > len(free):
        parser.refuse(words[len(free)])
    for option, word in zip(free, words, strict=False):
        texts[option.key] = word


def _add(parser: argparse.ArgumentParser, option: Option) -> None:
    kwargs: dict[str, Any] = {"dest": option.key, "metavar": option.metavar.replace("%", "%%"), "help": option.help}
    if option.repeats:
        kwargs["action"] = "append"
    elif option.shape["k"] == "bool":
        kwargs |= {"nargs": "?", "const": "true"}
    elif option.secret:
        kwargs |= {"nargs": "?", "const": ASKED}
    kwargs["help"] = option.help.replace("%", "%%")
    parser.add_argument(*option.flags, **kwargs)


def _bare_flags(found: list[Option], words: Sequence[str]) -> list[str]:
    """`--force a` is a flag and a word, `--force true` a flag with its value: argparse cannot tell, so it is told."""
    flags = {flag for option in found if option.shape["k"] == "bool" for flag in option.flags}
    secrets = {flag for option in found if option.secret for flag in option.flags}
    made: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*made, word, *rest]
        if word in flags and rest and rest[0].lower() in values.TRUE + values.FALSE:
            word = f"{word}={rest.pop(0)}"
        elif word in flags:
            word = f"{word}=true"
        elif word in secrets and rest and (rest[0] == "-" or rest[0].startswith("@")):
            word = f"{word}={rest.pop(0)}"
        elif word in secrets and rest and not rest[0].startswith("-"):
            raise _in_the_open(word)
        made.append(word)
    return made


def _value(index: Index, option: Option, text: Any) -> Any:
    if option.secret:
        return secret(option.flags[0], text)
    if option.shape["k"] == "map":
        return dict(values.pair(index, option.shape["of"], item) for item in text)
    if option.shape["k"] == "list":
        of = option.shape["of"]
        if of["k"] == "struct":
            return [values.value(index, of, item) for item in text]
        return [item for piece in text for item in values.value(index, option.shape, piece)]
    return values.value(index, option.shape, text)


def secret(flag: str, text: Any) -> str:
    """A secret from where it may come from. Raises Fault, BadValue."""
    if text is ASKED:
        if not sys.stdin.isatty():
            raise usage(f"{flag} is missing", f"Give {flag} - to read it from standard input, or {flag} @FILE.")
        import getpass

        return getpass.getpass(f"{flag.lstrip('-')}: ")
    if text == "-":
        return sys.stdin.readline().rstrip("\r\n")
    if text.startswith("@"):
        return values.read_file(text[1:]).partition("\n")[0].rstrip("\r")
    raise _in_the_open(flag)


def _in_the_open(flag: str) -> Fault:
    return usage(
        f"{flag} takes no secret from the command line, where other users and your history would see it",
        f"Leave it out to be asked, or give {flag} - for standard input, {flag} @FILE for a file.",
    )


def _put(params: dict[str, Any], where: tuple[str, ...], value: Any) -> None:
    for name in where[:-1]:
        params = params.setdefault(name, {})
    params[where[-1]] = value


def _seconds(text: str) -> float:
    try:
        number = values.value({}, {"k": "float", "unit": "s"}, text)
    except values.BadValue as fault:
        raise argparse.ArgumentTypeError(str(fault)) from None
    if number < 0:
        raise argparse.ArgumentTypeError("expected 0 or more")
    return float(number)
