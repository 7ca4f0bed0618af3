# SPDX-License-Identifier: Apache-2.0
"""STOMP frames: what is written is read again in any version, however it is cut, and nothing else is read."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vdsm.protocols.stomp import (
    CLIENT_COMMANDS,
    CONNECTS,
    SERVER_COMMANDS,
    VERSIONS,
    Frame,
    Limits,
    LocalError,
    Parser,
    RemoteError,
    encode,
)

COMMANDS = CLIENT_COMMANDS | SERVER_COMMANDS
LIMITS = Limits(head=400, headers=8, body=1000)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
plain = st.text(st.characters(exclude_characters="\0\n\r:\\", exclude_categories=["Cs"]), max_size=20)
bodies = st.binary(max_size=300)


@st.composite
def frames(draw: st.DrawFn, version: str) -> Frame:
    """Any frame that the version can carry."""
    command = draw(st.sampled_from(sorted(COMMANDS)))
    kind = plain if version == "1.0" or command in CONNECTS | {"CONNECTED"} else texts
    names = kind.filter(lambda name: name not in ("", "content-length"))
    return Frame(command, draw(st.dictionaries(names, kind, max_size=4)), draw(bodies))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(p % (len(data) + 1) for p in places), len(data)]
    return [data[a:b] for a, b in pairwise(marks)]


def read(parser: Parser, pieces: list[bytes]) -> list[Frame]:
    found = []
    for piece in pieces:
        parser.feed(piece)
        while (frame := parser.next_frame()) is not None:
            found.append(frame)
    return found


def read_all(data: bytes, version: str = "1.2", limits: Limits | None = None) -> list[Frame]:
    parser = Parser(limits, COMMANDS)
    parser.version = version
    return read(parser, [data])


@given(st.data(), st.sampled_from(VERSIONS), st.lists(st.integers(0, 10_000), max_size=12))
def test_what_is_written_is_read(data: st.DataObject, version: str, places: list[int]) -> None:
    sent = data.draw(st.lists(frames(version), min_size=1, max_size=4))
    between = data.draw(st.lists(st.sampled_from([b"", b"\n", b"\r\n", b"\n\n\n"]), min_size=4, max_size=4))
    parser = Parser(commands=COMMANDS)
    parser.version = version
    stream = b"".join(ends + encode(frame, version) for ends, frame in zip(between, sent, strict=False))
    found = read(parser, cut(stream, places))
    for one, two in zip(sent, found, strict=True):
        length = two.headers.pop("content-length", None)
        assert length == (f"{len(one.body)}" if one.body else None)
        assert one == two
    assert parser.pending == 0


@given(st.binary(max_size=600), st.sampled_from(VERSIONS), st.lists(st.integers(0, 10_000), max_size=6))
@example(b"SEND\n\n", "1.2", [])
@example(b"\r", "1.2", [])
def test_any_bytes_are_frames_or_a_remote_error(data: bytes, version: str, places: list[int]) -> None:
    """And the cuts make no difference."""
    outcomes = []
    for pieces in ([data], cut(data, places), [data[i : i + 1] for i in range(len(data))]):
        parser = Parser(LIMITS)
        parser.version = version
        try:
            outcomes.append((read(parser, pieces), ""))
        except RemoteError:
            outcomes.append(([], "refused"))
    assert outcomes[0] == outcomes[1] == outcomes[2]


PIECES = (
    b"SEND", b"CONNECT", b"\n", b"\r\n", b"\0", b":", b"content-length", b"content-length:3", b"a:b", b"\\n", b"\\x",
    b"\xff", b"-1", b"99999999999999999999", b"xyz", b" ",
)  # fmt: skip
grammar = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)


@given(grammar, st.sampled_from(VERSIONS))
def test_nearly_frames_never_break_the_parser(data: bytes, version: str) -> None:
    parser = Parser(LIMITS)
    parser.version = version
    try:
        for frame in read(parser, [data]):
            assert frame.command in CLIENT_COMMANDS
            assert "" not in frame.headers
            assert len(frame.body) <= LIMITS.body
    except RemoteError:
        pass
    assert parser.pending <= len(data) + 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"SEND\na:b\0", "before the blank line"),
        (b"SEND\na:b\n\n" + b"x" * 2000, "larger than 1000"),
        (b"SEND\ncontent-length:-1\n\n\0", "no number"),
        (b"SEND\ncontent-length:+1\n\nx\0", "no number"),
        (b"SEND\ncontent-length:1_0\n\nx\0", "no number"),
        (b"SEND\ncontent-length:\n\n\0", "no number"),
        (b"SEND\ncontent-length:1001\n\n", "larger than 1000"),
        (b"SEND\ncontent-length:99999999999999999999\n\n", "no number"),
        (b"SEND\ncontent-length:2\n\nabc\0", "no NUL"),
        (b"SEND\na:b:c\n\n\0", "bare colon"),
        (b"SEND\na\n\n\0", "name:value"),
        (b"SEND\n:b\n\n\0", "name:value"),
        (b"SEND\na:\\t\n\n\0", "escape"),
        (b"SEND\na:b\\\n\n\0", "escape"),
        (b"SEND\n\xff:b\n\n\0", "UTF-8"),
        (b"NOSUCH\n\n\0", "no command"),
        (b" SEND\n\n\0", "no command"),
        (b"send\n\n\0", "no command"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "no command"),
        (b"SEND\n" + b"a:b\n" * 9 + b"\n\0", "more than 8 headers"),
        (b"SEND\na:" + b"b" * 500 + b"\n\n\0", "larger than 400"),
        (b"x" * 401, "larger than 400"),
        (b"SEND\n" + b"a:b\n" * 1_000_000, "larger than 400"),
    ],
)
def test_what_is_no_frame_is_refused_in_words(data: bytes, reason: str) -> None:
    parser = Parser(LIMITS)
    parser.feed(data)
    with pytest.raises(RemoteError, match=reason):
        parser.next_frame()


@pytest.mark.parametrize(
    ("data", "version", "headers"),
    [
        (b"SEND\r\na:b\r\n\r\n\0", "1.2", {"a": "b"}),
        (b"SEND\r\na:b\r\n\r\n\0", "1.1", {"a": "b"}),  # a client that ends every line so
        (b"SEND\na:b\r\n\n\0", "1.2", {"a": "b"}),
        (b"SEND\na:b\r\n\n\0", "1.1", {"a": "b\r"}),
        (b"SEND\na:b:c\\n\n\n\0", "1.0", {"a": "b:c\\n"}),
        (b"SEND\na:\\\\\\n\\r\\c\n\n\0", "1.2", {"a": "\\\n\r:"}),
        (b"SEND\na:1\na:2\n\n\0", "1.2", {"a": "1"}),  # of a repeated one the first counts
        (b"SEND\na:\n\n\0", "1.2", {"a": ""}),
        (b"SEND\n a : b \n\n\0", "1.2", {" a ": " b "}),
        (b"CONNECT\nhost:fe80::1\n\n\0", "1.2", {"host": "fe80::1"}),
        (b"CONNECT\nlogin:a\\c\n\n\0", "1.2", {"login": "a\\c"}),
    ],
)
def test_headers_are_read_as_the_version_has_them(data: bytes, version: str, headers: dict[str, str]) -> None:
    (frame,) = read_all(data, version)
    assert frame.headers == headers


@pytest.mark.parametrize(
    ("data", "bodies"),
    [
        (b"SEND\n\nabc\0SEND\n\n\0", [b"abc", b""]),
        (b"SEND\ncontent-length:3\n\na\0c\0", [b"a\0c"]),
        (b"SEND\ncontent-length:0\n\n\0\n\n\nSEND\n\n\n\0", [b"", b"\n"]),
    ],
)
def test_bodies(data: bytes, bodies: list[bytes]) -> None:
    assert [frame.body for frame in read_all(data)] == bodies


@pytest.mark.parametrize(
    ("frame", "version"),
    [
        (Frame("SEND", {"a": "b\0"}), "1.2"),
        (Frame("SEND", {"": "b"}), "1.2"),
        (Frame("SEND", {"a": "\ud800"}), "1.2"),
        (Frame("SEND", {"a": "b\nc"}), "1.0"),
        (Frame("SEND", {"a:b": "c"}), "1.0"),
        (Frame("CONNECTED", {"a": "b\nc"}), "1.2"),
    ],
)
def test_what_cannot_be_said_is_not_sent(frame: Frame, version: str) -> None:
    with pytest.raises(LocalError):
        encode(frame, version)


def test_a_body_byte_by_byte_costs_no_more_than_its_size() -> None:
    """No quadratic work: ten times the bytes, about ten times the time."""

    def seconds(size: int) -> float:
        parser = Parser()
        begun = time.process_time()
        parser.feed(b"SEND\n\n")
        for _ in range(size):
            parser.feed(b"x")
            parser.next_frame()
        return time.process_time() - begun

    seconds(1000)
    assert seconds(200_000) < 40 * max(seconds(20_000), 0.01)
