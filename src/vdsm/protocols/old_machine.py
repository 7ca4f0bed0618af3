# SPDX-License-Identifier: Apache-2.0
"""The old form of a machine (memSize, smp, drives, display, devices...) -> the contract's VmParams.

The words come from the table. What a word asks for and this host could not give is refused, never left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from .errors import DialectError
from .forms import Plain


class MachineWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Old words, and the contract's."""

    names: dict[str, str]
    ignored: list[str]
    only: dict[str, list[Any]]  # taken with these values alone, which ask for nothing
    boot: dict[str, str]
    nic_models: dict[str, str]
    disk_formats: dict[str, str]
    disk_buses: dict[str, str]
    displays: list[str]
    cpu_modes: dict[str, str]
    ignored_devices: list[str]


Given = dict[str, Plain]


def machine(given: Plain, words: MachineWords) -> Plain:
    """Old fields under their new names; those of the contract stay as they are. Raises DialectError."""
    if not isinstance(given, dict):
        return given
    made: Given = {}
    rest = {name: value for name, value in given.items() if value is not None}
    if rest.get("xml"):
        # The document says it all: the old fields beside it only repeat it.
        old = words.names.keys() | set(words.ignored) | words.only.keys() | _READERS.keys()
        return {name: value for name, value in rest.items() if name not in old or name == "launchPaused"}
    for name in list(rest):
        if name in words.ignored:
            del rest[name]
        elif name in words.only:
            if (value := rest.pop(name)) not in words.only[name]:
                raise DialectError(f"a machine with {name} {value!r} is not offered", f"$.vmParams.{name}")
        elif name in words.names:
            value = rest.pop(name)
            if value != "" or name == "vmName":  # old callers send empty texts for what they do not mean
                made[words.names[name]] = value
    for name, read in _READERS.items():
        if name in rest:
            read(rest, made, words)
    return {**rest, **made}


def plug(given: Plain, words: MachineWords) -> Plain:
    """A disk that is plugged in or out, in the old form, as the contract's. Raises DialectError."""
    if not isinstance(given, dict) or not isinstance(drive := given.get("drive"), dict):
        return {k: v for k, v in given.items() if v is not None} if isinstance(given, dict) else given
    made: Given = {}
    _drive(drive, made, words, "params.drive")
    rest = {name: value for name, value in given.items() if name != "drive" and value is not None}
    return {**rest, "disk": made.get("disks", [None])[0]}


def _word(words: Mapping[str, str], value: Plain, path: str) -> str:
    found = words.get(value) if isinstance(value, str) else None
    if found is None:
        raise DialectError(f"{value!r} is not offered; known are {', '.join(words)}", f"$.{path}")
    return found


def _boot(rest: Given, made: Given, words: MachineWords) -> None:
    letters = str(rest.pop("boot"))
    made["bootOrder"] = [_word(words.boot, letter, "vmParams.boot") for letter in letters]


def _display(rest: Given, made: Given, words: MachineWords) -> None:
    kind = rest.pop("display")
    if kind and kind not in words.displays:
        raise DialectError(
            f"a {kind!r} display is not offered; known are {', '.join(words.displays)}", "$.vmParams.display"
        )
    if kind:
        made["graphics"] = {"kind": kind}


def _cpu(rest: Given, made: Given, words: MachineWords) -> None:
    kind = str(rest.pop("cpuType"))
    if "," in kind:
        raise DialectError(f"a CPU with single flags is not offered: {kind!r}", "$.vmParams.cpuType")
    if kind in words.cpu_modes:
        made["cpuMode"] = words.cpu_modes[kind]
    elif kind:
        made["cpuMode"], made["cpuModel"] = "custom", kind


def _nics(rest: Given, made: Given, words: MachineWords) -> None:
    """The lists of bridges, models and addresses, each as text with commas, are read side by side."""
    lists = {name: _split(rest.pop(name, "")) for name in ("bridge", "nicModel", "macAddr")}
    for position in range(max(map(len, lists.values()))):
        bridge, model, mac = (items[position] if position < len(items) else "" for items in lists.values())
        made.setdefault("nics", []).append(_nic(bridge, model, mac, words, "vmParams.nicModel"))


def _split(value: Plain) -> list[str]:
    if isinstance(value, list):
        return [str(item) for item in value]
    return str(value).split(",") if value else []


def _nic(bridge: str, model: str, mac: str, words: MachineWords, path: str) -> Given:
    nic: Given = {"kind": "bridge", "source": bridge} if bridge else {"kind": "user"}
    if model:
        nic["model"] = _word(words.nic_models, model, path)
    if mac:
        nic["mac"] = mac.lower()
    return nic


def _drives(rest: Given, made: Given, words: MachineWords) -> None:
    for position, drive in enumerate(_structs(rest.pop("drives"), "drives")):
        _drive(drive, made, words, f"vmParams.drives[{position}]")


def _drive(drive: Given, made: Given, words: MachineWords, path: str) -> None:
    kind = drive.get("device") or "disk"
    file = drive.get("path") or drive.get("file") or ""
    if kind == "cdrom":
        if file:
            made["cdrom"] = file
        return
    if kind != "disk":
        raise DialectError(f"a {kind!r} drive is not offered", f"$.{path}.device")
    ids = [drive.get(name) for name in ("domainID", "imageID", "volumeID")]
    if not file and all(ids):
        file = "/".join(map(str, ids))
    file = file or drive.get("imageID") or ""
    if not file:
        raise DialectError("a disk is given by its path, or by its imageID", f"$.{path}")
    disk: Given = {"path": file}
    if (volume := drive.get("volumeID")) and file == drive.get("imageID"):
        disk["volume"] = volume
    for old, new, known in (
        ("format", "format", words.disk_formats),
        ("iface", "bus", words.disk_buses),
        ("if", "bus", words.disk_buses),
    ):
        if drive.get(old):
            disk[new] = _word(known, drive[old], f"{path}.{old}")
    if (read_only := drive.get("readonly")) not in (None, ""):
        disk["readOnly"] = read_only
    made.setdefault("disks", []).append(disk)


def _hard_disk(letter: str) -> Callable[[Given, Given, MachineWords], None]:
    def read(rest: Given, made: Given, words: MachineWords) -> None:
        if file := rest.pop(f"hd{letter}"):
            _drive({"path": file, "iface": "ide"}, made, words, f"vmParams.hd{letter}")

    return read


def _devices(rest: Given, made: Given, words: MachineWords) -> None:
    for position, device in enumerate(_structs(rest.pop("devices"), "devices")):
        path, kind = f"devices[{position}]", device.get("type")
        if kind == "disk":
            _drive(device, made, words, f"vmParams.{path}")
        elif kind == "interface":
            bridge, model, mac = (str(device.get(name) or "") for name in ("network", "nicModel", "macAddr"))
            made.setdefault("nics", []).append(_nic(bridge, model, mac, words, f"vmParams.{path}.nicModel"))
        elif kind == "graphics":
            _display({"display": device.get("device")}, made, words)
        elif kind not in words.ignored_devices:
            raise DialectError(f"a device of type {kind!r} is not offered", f"$.vmParams.{path}.type")


def _structs(value: Plain, path: str) -> Iterator[Given]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DialectError("Expected `array` of `object`", f"$.vmParams.{path}")
    yield from value


_READERS: Mapping[str, Callable[[Given, Given, MachineWords], None]] = {
    "boot": _boot,
    "display": _display,
    "cpuType": _cpu,
    "bridge": _nics,
    "nicModel": _nics,
    "macAddr": _nics,
    "drives": _drives,
    **{f"hd{letter}": _hard_disk(letter) for letter in "abcd"},
    "devices": _devices,
}
