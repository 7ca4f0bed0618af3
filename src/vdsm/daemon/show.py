# SPDX-License-Identifier: Apache-2.0
"""The configuration as a commented TOML file."""

from __future__ import annotations

import json
import textwrap
import typing
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from .config import Config, Section

WIDTH = 100


def to_toml(config: Config, *, commented: bool = False) -> str:
    """Every key with its meaning; `commented` puts a # before each, for a file of defaults to edit."""
    kind = "its default; take the # away to change it" if commented else "the value in force"
    lines = [f"# vdsmd's configuration: every key with its meaning and {kind}."]
    for name in Config.__struct_fields__:
        section = getattr(config, name)
        lines += ["", *_comment(section.__doc__ or ""), f"[{name}]", *_keys(section, "#" if commented else "")]
    return "\n".join(lines) + "\n"


def _keys(section: Section, mark: str) -> Iterator[str]:
    hints = typing.get_type_hints(type(section), include_extras=True)
    for key in section.__struct_fields__:
        for meta in getattr(hints[key], "__metadata__", ()):
            yield from _comment(meta.description or "")
        yield f"{mark}{key} = {_value(msgspec.to_builtins(getattr(section, key)))}"


def _comment(text: str) -> Iterator[str]:
    for line in textwrap.wrap(text, WIDTH):
        yield f"# {line}"


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_value(k)} = {_value(v)}" for k, v in value.items()) + " }" if value else "{}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(_value(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False)  # a JSON scalar is a TOML scalar, null aside
