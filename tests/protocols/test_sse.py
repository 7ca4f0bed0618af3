# SPDX-License-Identifier: Apache-2.0
"""Server-Sent Events: what is written is read, however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdsm.protocols.sse import Message, Reader, StreamTooWide, comment, encode, retry

LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=40)
NAME = LINE.filter(bool)
IDS = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=20)
DATA = st.lists(LINE, min_size=1, max_size=4).map("\n".join)
MESSAGE = st.tuples(DATA, NAME, IDS)


def feed(reader: Reader, stream: bytes, cuts: list[int]) -> list[Message]:
    """In pieces of the given lengths, over and over."""
    found, at, turn = [], 0, 0
    while at < len(stream):
        size = cuts[turn % len(cuts)] if cuts else len(stream)
        found += reader.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    return found


@given(st.lists(MESSAGE, max_size=6), st.lists(st.integers(1, 50), max_size=5))
def test_what_is_written_is_read(messages: list[tuple[str, str, str]], cuts: list[int]) -> None:
    stream = retry(1500) + comment("hello")
    for data, event, last_id in messages:
        stream += encode(data, event=event, last_id=last_id) + comment()
    reader = Reader()
    assert feed(reader, stream, cuts) == [Message(data, event, last_id) for data, event, last_id in messages]
    assert reader.retry == 1500


@given(st.binary(max_size=300), st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_cuts_change_nothing(stream: bytes, cuts: list[int]) -> None:
    whole, cut = Reader(), Reader()
    # Of a CR at the end it is not known yet whether a LF follows.
    assert feed(whole, stream + b"\n", []) == feed(cut, stream + b"\n", cuts)
    assert (whole.last_id, whole.retry) == (cut.last_id, cut.retry)


@given(DATA, st.sampled_from(["\n", "\r", "\r\n"]))
def test_any_line_end_will_do(data: str, end: str) -> None:
    stream = encode(data, event="e", last_id="1").decode().replace("\n", end).encode() + b":\n"
    assert Reader().feed(stream) == [Message(data, "e", "1")]


def test_the_examples_of_the_standard() -> None:
    stream = (
        b"\xef\xbb\xbf: test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"
        b"event: add\ndata: 73857293\n\ndata\n\ndata\ndata\n\ndata:"
    )
    assert Reader().feed(stream) == [
        Message("first event", id="1"),
        Message("second event"),
        Message(" third event"),
        Message("73857293", "add"),
        Message(""),
        Message("\n"),
    ]


def test_an_id_lasts_until_the_next() -> None:
    messages = Reader(last_id="7").feed(b"data: a\n\nid: 8\n\ndata: b\n\nid: 9\0\ndata: c\n\n")
    assert [m.id for m in messages] == ["7", "8", "8"]


def test_what_is_not_known_is_passed_over() -> None:
    reader = Reader()
    assert reader.feed(b"colour: red\nretry: soon\nevent: lost\n\ndata: x\n\n") == [Message("x")]
    assert reader.retry is None


def test_a_message_has_a_limit() -> None:
    reader = Reader(limit=1000)
    reader.feed(b"data: " + b"x" * 900)
    with pytest.raises(StreamTooWide):
        reader.feed(b"x" * 200)
    many = Reader(limit=1000)
    with pytest.raises(StreamTooWide):
        many.feed(b"data: xxxxxxxxxx\n" * 200)


@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\r\n"])
def test_fields_cannot_be_smuggled_in(bad: str) -> None:
    for write in (lambda: encode("d", event=bad), lambda: encode("d", last_id=bad), lambda: comment(bad)):
        with pytest.raises(ValueError):
            write()
    with pytest.raises(ValueError):
        encode("d", last_id="a\0")


@given(st.text(max_size=100).filter(lambda text: text.isprintable()))
def test_data_cannot_end_its_message(text: str) -> None:
    hostile = f"{text}\n\nevent: forged\ndata: {text}\r\rid: 9"
    (message,) = Reader().feed(encode(hostile, event="e", last_id="1"))
    assert (message.event, message.id) == ("e", "1")
