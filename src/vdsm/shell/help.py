# SPDX-License-Identifier: Apache-2.0
"""What `vdsmsh help` says."""

from __future__ import annotations

import shutil
import sys
import textwrap

from .faults import MEANINGS, Fault, did_you_mean, usage
from .options import COMMON, FIELDS, SAVE, WHERE, Common, Option, options
from .parse import is_spare
from .text import BOLD, Look, look_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .index import Index

# Commands that are no verbs: what they are called with, and what they do.
OWN = {
    "events": ("[--follow] [--since ID] [--type TYPE] [--vm VM] [--task TASK] [--severity LEVEL]",
               "What happened so far, or with --follow what happens."),
    "host list": ("", "Every host on the bus at a glance: vdsmsh --bus ADDRESS host list"),
    "task watch": ("TASK", "Follow a task to its end."),
    "disk upload": ("FILE [--name NAME] [--format raw|qcow2] [--storage STORAGE] [--verify]",
                    "Make a disk of an image file; again after an interruption, to go on. What went up in more than "
                    "one attempt, and with --verify anything, is read again at both ends and compared."),
    "disk download": ("DISK FILE [--verify]", "Copy a disk to an image file; again after an interruption, to go on. "
                      "Verified as an upload is."),
    "call": ("VERB [NAME=TEXT | NAME:=JSON]...",
             "Call a verb by its API name: vdsmsh call VM.getStats vmID=web1"),
    "completion": ("bash|zsh", "A script that completes commands, options and names: "
                   "source <(vdsmsh completion bash)"),
    "help": ("[COMMAND]", "This, or all about a command."),
}  # fmt: skip


def main_help(index: Index) -> str:
    """Every command with its summary, the common options, the exit codes."""
    look = _look()
    lines = [
        "usage: vdsmsh [OPTIONS] COMMAND [ARGUMENTS]",
        "       vdsmsh                          an interactive shell",
        "",
        "Machines, disks and storage are called by name, id, or the beginning of either; tasks by id or its beginning.",
    ]
    groups: dict[str, list[tuple[str, str]]] = {}
    for verb in index["verbs"].values():
        groups.setdefault(verb["command"][0], []).append((" ".join(verb["command"]), verb["summary"]))
    for name, (_, text) in OWN.items():
        head = name.split()[0]
        groups.setdefault(head if head in groups else "other", []).append((name, text))
    for group in sorted(groups, key=lambda g: (g == "other", len(groups[g]) < 2, g)):
        lines += ["", look.paint(group, BOLD), *_two_columns(groups[group])]
    lines += ["", look.paint("options", BOLD), *_two_columns([_common(c) for c in COMMON])]
    lines += [*_two_columns([("--version", "the version, and no more"), ("--help", "help with the command before it")])]
    lines += ["", look.paint("exit codes", BOLD)]
    lines += _two_columns([(str(code), meaning) for code, meaning in MEANINGS.items()])
    lines += [
        "",
        "VDSM_URL, VDSM_TOKEN_FILE, VDSM_CA, VDSM_CERT and VDSM_KEY stand in for the options of these names;",
        "VDSM_BUS for --bus where --host is given, and for `host list`; VDSM_BUS_DOMAIN where hosts meet there.",
    ]
    return "\n".join(lines)


def command_help(index: Index, words: Sequence[str]) -> str:
    """All about one command, or about those that begin with these words. Raises Fault."""
    from .parse import find_verb

    method, _ = find_verb(index, words)
    if method and index["verbs"][method]["command"] == list(words):
        return _verb_help(index, method)
    name = " ".join(words)
    if name in OWN:
        form, text = OWN[name]
        return f"usage: vdsmsh {name} {form}\n\n{text}"
    group = [v for v in index["verbs"].values() if v["command"][: len(words)] == list(words)]
    if not group:
        raise unknown(index, words)
    rows = [(" ".join(v["command"]), v["summary"]) for v in group]
    rows += [(own, text) for own, (_, text) in OWN.items() if own.startswith(f"{name} ")]
    return "\n".join([f"usage: vdsmsh {name} COMMAND", "", *_two_columns(rows)])


def unknown(index: Index, words: Sequence[str]) -> Fault:
    """There is no such command: which one is near?"""
    name = " ".join(words[:2])
    known = [" ".join(v["command"]) for v in index["verbs"].values()] + list(OWN)
    groups = sorted({command.split()[0] for command in known})
    hint = did_you_mean(name, known) or did_you_mean(words[0], [*groups, *known])
    return usage(f"there is no command {name!r}", hint or "See `vdsmsh help`.")


def _verb_help(index: Index, method: str) -> str:
    verb = index["verbs"][method]
    found = options(index, verb)
    look = _look()
    path = [o for o in found if o.from_path]
    spare = [o for o in found if is_spare(o)]
    named = [o for o in found if not o.from_path]
    form = " ".join([*verb["command"], *(o.metavar for o in path), *(f"[{_upper(o)}]" for o in spare)])
    lines = [f"usage: vdsmsh {form} [OPTIONS]", "", verb["doc"]]
    if path:
        lines += ["", look.paint("arguments", BOLD), *_two_columns([(o.metavar, o.help) for o in path])]
    if named:
        rows = [_row(o) for o in named]
        lines += ["", look.paint("options", BOLD), *_two_columns(rows)]
    lines += ["", look.paint("options of every command", BOLD)]
    taken = [flag for o in found for flag in o.flags]
    lines += _two_columns([_common(c) for c in (*_extra(verb), *COMMON) if c.flag not in taken])
    lines += ["", f"API: {method}; {' '.join(verb['http'])}; needs the privilege {verb['needs']}"]
    return "\n".join(lines)


def _extra(verb: dict[str, Any]) -> tuple[Common, ...]:
    if verb["kind"] != "query" or verb["result"]["k"] not in ("list", "map", "struct"):
        return ()
    if verb["result"].get("name") == "Screenshot":
        return (SAVE,)
    return (FIELDS,) if verb["result"]["k"] == "struct" else (FIELDS, WHERE)


def _row(option: Option) -> tuple[str, str]:
    flag = option.flags[0]
    if option.shape["k"] == "bool":
        return f"{flag} [true|false]", option.help
    need = "needed; " if option.required and len(option.where) == 1 else ""
    form = f"{flag} {option.metavar}"
    if len(form) > 34:  # a form that long is read better below
        return flag, f"{option.metavar}; {need}{option.help}".rstrip("; ")
    return form, f"{need}{option.help}".rstrip("; ")


def _common(option: Common) -> tuple[str, str]:
    choices = "|".join(option.choices)
    return f"{option.flag} {choices or option.metavar}".rstrip(), option.help


def _upper(option: Option) -> str:
    return option.flags[0].lstrip("-").upper()


def _two_columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = min(max(len(left) for left, _ in rows), 34) + 2
    room = max(40, min(shutil.get_terminal_size().columns, 120) - width - 2)
    lines = []
    for left, right in rows:
        first, *rest = textwrap.wrap(right, room) or [""]
        head = f"  {left:<{width}}{first}".rstrip()
        if len(left) >= width:
            head, rest = f"  {left}", [first, *rest]
        lines += [head, *(" " * (width + 2) + line for line in rest)]
    return lines


def _look() -> Look:
    return look_of(sys.stdout)
