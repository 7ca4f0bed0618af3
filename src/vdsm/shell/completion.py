# SPDX-License-Identifier: Apache-2.0
"""What may come next on a command line: commands, options, values, names of objects that are there now."""

from __future__ import annotations

import os
import shlex

from .faults import OK, Fault, usage
from .help import OWN
from .options import COMMON, WAY, Option, options
from .parse import find_verb, is_spare
from .text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from .session import Session

    Candidate = tuple[str, str]  # the word, and what it means

LIVE_SECONDS = 1.0  # a daemon that is slower than that is not asked while somebody types
BREAKS = "=:"  # bash completes only what follows these
FLAGS = {
    "events": ("--follow", "--since", "--type", "--vm", "--task", "--severity"),
    "host list": (),
    "task watch": (),
    "disk upload": ("--name", "--format", "--storage", "--verify"),
    "disk download": ("--verify",),
    "call": (),
    "completion": (),
    "help": (),
}


def complete(session: Session, words: Sequence[str], current: str) -> list[Candidate]:
    """Words that may stand in the place of `current`, after `words`."""
    previous = words[-1] if words else ""
    words = _without_common(words)
    flag, mark, part = current.partition("=")
    if mark and current.startswith("--"):
        return [(f"{flag}={word}", text) for word, text in _value_of(session, words, flag, part)]
    common = {c.flag: c for c in COMMON}
    if previous == "--host":
        return _beginning(_hosts(session), current)
    if previous in common and common[previous].metavar:
        choices = common[previous].choices
        return _beginning([(choice, "") for choice in choices], current)
    method, rest = find_verb(session.index, words)
    if method:
        return _beginning(_of_verb(session, method, rest, current), current)
    return _beginning(_of_own(session, words, current) or _commands(session, words, current), current)


def _commands(session: Session, words: Sequence[str], current: str) -> list[Candidate]:
    depth = len(words)
    found: dict[str, str] = {}
    commands = [(verb["command"], verb["summary"]) for verb in session.index["verbs"].values()]
    commands += [(name.split(), text) for name, (_, text) in OWN.items()]
    for command, summary in commands:
        if list(words) == command[:depth] and len(command) > depth:
            whole = len(command) == depth + 1
            found.setdefault(command[depth], summary if whole else "")
    if current.startswith("-"):
        return _common_flags()
    return list(found.items())


def _of_own(session: Session, words: Sequence[str], current: str) -> list[Candidate]:
    name = next((n for n in OWN if list(words[: len(n.split())]) == n.split()), "")
    if not name:
        return []
    last = words[-1]
    if name == "help":
        return _commands(session, words[1:], "")
    if name == "completion":
        return [("bash", ""), ("zsh", "")]
    if name == "call":
        return _of_call(session, words[1:])
    if name == "task watch" and not current.startswith("-"):
        return _names(session, "task")
    if name == "disk download" and len(words) == 2:
        return _names(session, "disk")
    if last == "--type":
        return [(event, "") for event in session.index["events"]]
    if last == "--severity":
        return [("info", ""), ("warning", ""), ("error", "")]
    if last in ("--vm", "--task"):
        return _names(session, last.lstrip("-"))
    return [*((flag, "") for flag in FLAGS[name]), *_common_flags()]


def _of_call(session: Session, words: Sequence[str]) -> list[Candidate]:
    verbs = session.index["verbs"]
    if not words:
        return [(method, verb["summary"]) for method, verb in verbs.items()]
    return [(f"{p['name']}=", p.get("help", "")) for p in verbs.get(words[0], {"params": []})["params"]]


def _of_verb(session: Session, method: str, rest: Sequence[str], current: str) -> Iterable[Candidate]:
    found = options(session.index, session.index["verbs"][method])
    named = {flag: option for option in found if not option.from_path for flag in option.flags}
    if rest and rest[-1] in named and named[rest[-1]].shape["k"] != "bool":
        return _values(session, named[rest[-1]], current)
    flag = [("true", ""), ("false", "")] if rest and rest[-1] in named else []
    if not current.startswith("-"):
        place = len(_bare(rest, named))
        expected = [o for o in found if o.from_path] + [o for o in found if is_spare(o)]
        if place < len(expected):
            return [*flag, *_values(session, expected[place], current)]
    again = [o for o in named.values() if o.repeats or not set(o.flags) & set(rest)]
    return [*flag, *((o.flags[0], o.help) for o in dict.fromkeys(again)), *_common_flags()]


def _bare(rest: Sequence[str], named: dict[str, Option]) -> list[str]:
    """The words that belong to no option."""
    valued = {f for f, o in named.items() if o.shape["k"] != "bool"} | {c.flag for c in COMMON if c.metavar}
    return [w for at, w in enumerate(rest) if not w.startswith("-") and (at == 0 or rest[at - 1] not in valued)]


def _value_of(session: Session, words: Sequence[str], flag: str, part: str) -> list[Candidate]:
    method, _ = find_verb(session.index, words)
    if method:
        for option in options(session.index, session.index["verbs"][method]):
            if flag in option.flags:
                return _beginning(_values(session, option, part), part)
    choices = next((c.choices for c in COMMON if c.flag == flag), ())
    return _beginning([(choice, "") for choice in choices], part)


def _values(session: Session, option: Option, current: str) -> list[Candidate]:
    if option.ref:
        return _names(session, option.ref)
    return _of_shape(session, option.shape, current)


def _of_shape(session: Session, shape: dict[str, Any], current: str) -> list[Candidate]:
    kind = shape["k"]
    if kind == "bool":
        return [("true", ""), ("false", "")]
    if kind == "enum":
        return [(text, "") for text in shape["of"]]
    if kind == "list":
        return _of_shape(session, shape["of"], current)
    if kind == "struct":
        return _of_struct(session, shape, current)
    start = current.removeprefix("@") if shape.get("file") else current
    return _files(start, "@" if current.startswith("@") else "") if "/" in start or current.startswith("@") else []


def _of_struct(session: Session, shape: dict[str, Any], current: str) -> list[Candidate]:
    """`kind=vnc,` and what may follow."""
    before, comma, last = current.rpartition(",")
    before += comma
    fields = session.index["types"][shape["name"]]
    name, mark, part = last.partition("=")
    if mark:
        field = next((f for f in fields if f["py"].replace("_", "-") == name), None)
        values = _of_shape(session, field["type"], part) if field else []
        return [(f"{before}{name}={word}", text) for word, text in values]
    found = [(f"{before}{f['py'].replace('_', '-')}=", f.get("help", "")) for f in fields]
    return [*found, ("none", "")] if shape.get("null") and not before else found


def _files(start: str, mark: str) -> list[Candidate]:
    directory, _, name = start.rpartition("/")
    try:
        entries = sorted(os.scandir(f"{directory}/" if "/" in start else "."), key=lambda e: e.name)
    except OSError:
        return []
    head = f"{mark}{directory}/" if "/" in start else mark
    return [(head + e.name + ("/" if e.is_dir() else ""), "") for e in entries if e.name.startswith(name)]


def _names(session: Session, noun: str) -> list[Candidate]:
    """What the objects are called; nothing if the daemon does not say at once."""
    try:
        objects = session.objects(noun, {"timeout": LIVE_SECONDS})
    except Fault:
        return []
    return [(name, key) if name and name.isprintable() else (key, clean(name)) for key, name in objects]


def _hosts(session: Session) -> list[Candidate]:
    """Those on the bus, if there is one."""
    bus = session.common.get("bus") or os.environ.get("VDSM_BUS", "")
    try:
        return [(name, "") for name in session.door({"host": "", "bus": bus}).hosts()]
    except Fault:
        return []


def _common_flags() -> list[Candidate]:
    return [(c.flag, c.help) for c in COMMON]


def _without_common(words: Sequence[str]) -> list[str]:
    """The words from the command on."""
    at = 0
    valued = {c.flag for c in COMMON if c.metavar}
    while at < len(words) and words[at].startswith("-"):
        at += 2 if words[at] in valued and at + 1 < len(words) else 1
    return list(words[at:])


def _beginning(candidates: Iterable[Candidate], current: str) -> list[Candidate]:
    return [(word, text) for word, text in candidates if word.startswith(current)]


# ---- for bash and zsh ----


def answer_shell(session: Session, words: Sequence[str]) -> int:
    """`__complete SHELL LINE`: LINE up to the cursor; prints a candidate a line, with a tab its meaning for zsh."""
    shell, line = (*words, "", "")[:2]
    before, current = split(line)
    common = _common_given(before[1:])
    session.common.update(common)
    quoted = line.rstrip()[-1:] not in ("", '"', "'")
    for word, text in complete(session, before[1:], current):
        if shell == "zsh":
            print(f"{word}\t{clean(text)}")
        else:
            shown = word[max(current.rfind(b) for b in BREAKS) + 1 :] if any(b in current for b in BREAKS) else word
            print(shlex.quote(shown) if quoted and not shown.endswith("=") else shown)
    return OK


def split(line: str) -> tuple[list[str], str]:
    """The words before the cursor's, and what there is of that one, though a quote may still be open."""
    words: list[str] = []
    word: str | None = None
    quote = ""
    escaped = False
    for letter in line:
        if escaped:
            word, escaped = (word or "") + letter, False
        elif letter == "\\" and quote != "'":
            escaped = True
        elif letter == quote or (not quote and letter in "'\""):
            quote = "" if quote else letter
            word = word or ""
        elif quote:
            word = (word or "") + letter
        elif letter.isspace():
            words += [] if word is None else [word]
            word = None
        else:
            word = (word or "") + letter
    return words, word or ""


def _common_given(words: Sequence[str]) -> dict[str, str]:
    """Which daemon the line is about."""
    wanted = {c.flag: c.dest for c in COMMON if c.dest in (*WAY, "host")}
    return {wanted[word]: words[at + 1] for at, word in enumerate(words[:-1]) if word in wanted}


def script(words: Sequence[str]) -> str:
    """What the person's shell reads to complete for vdsmsh. Raises Fault."""
    scripts = {"bash": BASH, "zsh": ZSH}
    if len(words) != 1 or words[0] not in scripts:
        raise usage("completion for which shell?", "Say `vdsmsh completion bash` or `vdsmsh completion zsh`.")
    return scripts[words[0]]


BASH = r"""# vdsmsh: completion for bash. Use: source <(vdsmsh completion bash)
_vdsmsh() {
    local IFS=$'\n'
    COMPREPLY=($("${COMP_WORDS[0]}" __complete bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=/] ]]; then
        compopt -o nospace
    fi
}
complete -o default -F _vdsmsh vdsmsh"""

ZSH = r"""#compdef vdsmsh
# vdsmsh: completion for zsh. Use: source <(vdsmsh completion zsh)
_vdsmsh() {
    local -a whole texts open
    local line word
    while IFS= read -r line; do
        word=${line%%$'\t'*}
        if [[ $word == *[=/] ]]; then
            open+=("$word")
        else
            whole+=("$word")
            texts+=("$word  ${line#*$'\t'}")
        fi
    done < <("$words[1]" __complete zsh "${BUFFER[1,CURSOR]}" 2>/dev/null)
    (( ${#whole} + ${#open} )) || { _files; return }
    (( ${#whole} )) && compadd -l -d texts -a whole
    (( ${#open} )) && compadd -S '' -a open
}
compdef _vdsmsh vdsmsh"""
