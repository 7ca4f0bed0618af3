# SPDX-License-Identifier: Apache-2.0
"""XML-RPC documents: calls read, answers written, and the reverse for a client.

Everything comes from outside, so a document is read strictly, by expat without DTD and entities, to a bounded depth.
The standard library's xmlrpc.client reads entities, any depth and integers of any size; so it is not used here.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple
from xml.parsers import expat

from .forms import Plain, text

MEDIA_TYPE = "text/xml"
MAX_DEPTH = 64  # values within values
_MAX_ELEMENTS = 3 * MAX_DEPTH + 8  # a struct takes three elements to go one deeper
I4_MIN, I4_MAX = -(2**31), 2**31 - 1
_I8 = 2**63

NOT_WELL_FORMED = -32700
NOT_XMLRPC = -32600


class BadXmlRpc(ValueError):
    """A document that is none; `code` is of the agreed fault codes for that."""

    def __init__(self, reason: str, code: int = NOT_XMLRPC) -> None:
        super().__init__(reason)
        self.code = code


class Call(NamedTuple):
    method: str
    params: list[Plain]


class Fault(NamedTuple):
    code: int
    text: str


# ---- reading ---------------------------------------------------------------------------------------------------------

_SCALARS = ("int", "i4", "i8", "boolean", "string", "double", "dateTime.iso8601", "base64", "nil")
_INSIDE: Mapping[str, frozenset[str]] = {
    "": frozenset({"methodCall", "methodResponse"}),
    "methodCall": frozenset({"methodName", "params"}),
    "methodResponse": frozenset({"params", "fault"}),
    "fault": frozenset({"value"}),
    "params": frozenset({"param"}),
    "param": frozenset({"value"}),
    "value": frozenset({*_SCALARS, "struct", "array"}),
    "struct": frozenset({"member"}),
    "member": frozenset({"name", "value"}),
    "array": frozenset({"data"}),
    "data": frozenset({"value"}),
}
_WITH_TEXT = frozenset({"methodName", "name", "value", *_SCALARS})
_NONE: frozenset[str] = frozenset()
_METHOD = re.compile(r"[A-Za-z0-9_.:/]{1,255}", re.ASCII)
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_DOUBLE = re.compile(r"[+-]?([0-9]{1,400}(\.[0-9]{0,400})?|\.[0-9]{1,400})([eE][+-]?[0-9]{1,3})?", re.ASCII)


def parse_call(data: bytes) -> Call:
    """Raises BadXmlRpc."""
    document = _Reader().read(data)
    if not isinstance(document, Call):
        raise BadXmlRpc("it is an answer, not a call")
    return document


def parse_answer(data: bytes) -> Plain | Fault:
    """The single value of an answer. Raises BadXmlRpc."""
    document = _Reader().read(data)
    if isinstance(document, Call):
        raise BadXmlRpc("it is a call, not an answer")
    return document


class _Frame:
    """An element that is open."""

    __slots__ = ("items", "tag", "text")

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.text: list[str] = []
        self.items: list[tuple[str, Plain]] = []  # what the elements inside came to, by their tags


class _Reader:
    def __init__(self) -> None:
        self._open = [_Frame("")]
        parser = self._parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters

    def read(self, data: bytes) -> Plain | Call | Fault:
        try:
            self._parser.Parse(data, True)
        except expat.ExpatError as error:
            raise BadXmlRpc(f"it is not well-formed: {error}", NOT_WELL_FORMED) from None
        except (ValueError, LookupError) as error:  # an encoding that expat asks Python for
            if isinstance(error, BadXmlRpc):
                raise
            raise BadXmlRpc(f"its encoding cannot be read: {error}", NOT_WELL_FORMED) from None
        ((_, document),) = self._open[0].items
        return document

    def _refuse(self, *_: object) -> None:
        raise BadXmlRpc("it has a DOCTYPE or declares entities", NOT_WELL_FORMED)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = "nil" if tag == "ex:nil" else tag
        above = self._open[-1]
        if tag not in _INSIDE.get(above.tag, _NONE):
            raise BadXmlRpc(f"<{tag[:40]}> has no place inside <{above.tag}>")
        if above.tag == "value" and above.items:
            raise BadXmlRpc("a <value> holds one thing")
        if len(self._open) > _MAX_ELEMENTS:
            raise BadXmlRpc(f"values are nested more than {MAX_DEPTH} deep")
        self._open.append(_Frame(tag))

    def _characters(self, data: str) -> None:
        frame = self._open[-1]
        if frame.tag in _WITH_TEXT:
            frame.text.append(data)
        elif data.strip(" \t\r\n"):
            raise BadXmlRpc(f"<{frame.tag}> holds no text: {data[:40]!r}")

    def _end(self, tag: str) -> None:
        frame = self._open.pop()
        make = _MAKERS.get(frame.tag)
        self._open[-1].items.append((frame.tag, make(frame) if make is not None else "".join(frame.text)))


def _call(frame: _Frame) -> Call:
    if [tag for tag, _ in frame.items] not in (["methodName"], ["methodName", "params"]):
        raise BadXmlRpc("a <methodCall> holds a <methodName> and <params>")
    method = frame.items[0][1].strip(" \t\r\n")
    if not _METHOD.fullmatch(method):
        raise BadXmlRpc(f"{method[:40]!r} cannot be a method's name")
    return Call(method, frame.items[1][1] if len(frame.items) > 1 else [])


def _answer(frame: _Frame) -> Plain | Fault:
    match frame.items:
        case [("params", [value])]:
            return value
        case [("fault", {"faultCode": int(code), "faultString": str(said)})]:
            return Fault(code, said)
        case _:
            raise BadXmlRpc("a <methodResponse> holds one value, or a fault")


def _values(frame: _Frame) -> list[Plain]:
    return [value for _, value in frame.items]


def _only(frame: _Frame) -> Plain:
    if len(frame.items) != 1:
        raise BadXmlRpc(f"<{frame.tag}> holds exactly one element")
    return frame.items[0][1]


def _value(frame: _Frame) -> Plain:
    if not frame.items:
        return "".join(frame.text)
    if "".join(frame.text).strip(" \t\r\n"):
        raise BadXmlRpc("a <value> holds one thing")
    return frame.items[0][1]


def _member(frame: _Frame) -> tuple[str, Plain]:
    match frame.items:
        case [("name", name), ("value", value)]:
            return name, value
        case _:
            raise BadXmlRpc("a <member> holds a <name> and a <value>")


def _struct(frame: _Frame) -> dict[str, Plain]:
    members = dict(_values(frame))
    if len(members) < len(frame.items):
        raise BadXmlRpc("a <struct> names a member twice")
    return members


def _written(frame: _Frame) -> str:
    return "".join(frame.text).strip(" \t\r\n")


def _integer(least: int, most: int) -> Callable[[_Frame], int]:
    def make(frame: _Frame) -> int:
        said = _written(frame)
        if not _INTEGER.fullmatch(said) or not least <= int(said) <= most:
            raise BadXmlRpc(f"{said[:40]!r} is no <{frame.tag}>")
        return int(said)

    return make


def _double(frame: _Frame) -> float:
    said = _written(frame)
    if not _DOUBLE.fullmatch(said) or math.isinf(float(said)):
        raise BadXmlRpc(f"{said[:40]!r} is no <double>")
    return float(said)


def _boolean(frame: _Frame) -> bool:
    said = _written(frame)
    if said not in ("0", "1"):
        raise BadXmlRpc(f"{said[:40]!r} is no <boolean>")
    return said == "1"


def _base64(frame: _Frame) -> str:
    """Bytes have no place in the contract: what they say as text."""
    try:
        return base64.b64decode("".join("".join(frame.text).split()), validate=True).decode()
    except (binascii.Error, ValueError):
        raise BadXmlRpc("a <base64> is taken only where it holds UTF-8 text") from None


_MAKERS: Mapping[str, Callable[[_Frame], Plain]] = {
    "methodCall": _call,
    "methodResponse": _answer,
    "fault": _only,
    "params": _values,
    "param": _only,
    "value": _value,
    "struct": _struct,
    "member": _member,
    "array": _only,
    "data": _values,
    "int": _integer(I4_MIN, I4_MAX),
    "i4": _integer(I4_MIN, I4_MAX),
    "i8": _integer(-_I8, _I8 - 1),
    "boolean": _boolean,
    "double": _double,
    "base64": _base64,
    "nil": lambda frame: None,
}

# ---- writing ---------------------------------------------------------------------------------------------------------

_HEAD = "<?xml version='1.0' encoding='UTF-8'?>\n"
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
# What XML 1.0 cannot carry at all; guests have a say in some of our texts.
_UNSPEAKABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")


def write_answer(value: Plain) -> bytes:
    return _document("methodResponse", ("<params><param>", *_value_of(value), "</param></params>"))


def write_fault(code: int, reason: str) -> bytes:
    fault = {"faultCode": code, "faultString": reason}
    return _document("methodResponse", ("<fault>", *_value_of(fault), "</fault>"))


def write_call(method: str, params: Sequence[Plain]) -> bytes:
    parts = [f"<methodName>{_escaped(method)}</methodName><params>"]
    for param in params:
        parts += ("<param>", *_value_of(param), "</param>")
    return _document("methodCall", [*parts, "</params>"])


def _document(root: str, parts: Sequence[str]) -> bytes:
    return "".join((_HEAD, f"<{root}>", *parts, f"</{root}>\n")).encode()


def _escaped(value: str) -> str:
    return _UNSPEAKABLE.sub("\ufffd", value).translate(_ESCAPES)


def _value_of(value: Plain) -> Iterator[str]:
    """The pieces of a <value>. An integer beyond i4 goes as text, as all sizes of the published API do."""
    kind = type(value)
    if kind is str:
        yield f"<value><string>{_escaped(value)}</string></value>"
    elif kind is bool:
        yield f"<value><boolean>{int(value)}</boolean></value>"
    elif kind is int:
        tag = "int" if I4_MIN <= value <= I4_MAX else "string"
        yield f"<value><{tag}>{value}</{tag}></value>"
    elif kind is float:
        yield f"<value><double>{text(value)}</double></value>"
    elif kind is dict:
        yield "<value><struct>"
        for name, item in value.items():
            if item is not None:  # there is no nil
                yield f"<member><name>{_escaped(name)}</name>"
                yield from _value_of(item)
                yield "</member>"
        yield "</struct></value>"
    elif kind is list:
        yield "<value><array><data>"
        for item in value:
            yield from _value_of("" if item is None else item)
        yield "</data></array></value>"
    elif value is None:
        yield "<value><string></string></value>"
    else:
        raise TypeError(f"{kind.__name__} is no plain data")
