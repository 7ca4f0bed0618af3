# SPDX-License-Identifier: Apache-2.0
"""The server's side of a STOMP connection, without a connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdsm.protocols.stomp import Frame, Limits, Parser, encode
from vdsm.protocols.stomp_session import (
    MAX_SUBSCRIPTIONS,
    Agreed,
    Ended,
    Sent,
    Session,
    Subscribed,
    Subscription,
    Unsubscribed,
    Write,
    levels,
)

ANSWERS = frozenset({"CONNECTED", "MESSAGE", "RECEIPT", "ERROR"})
CONNECT = Frame("CONNECT", {"accept-version": "1.2", "heart-beat": "0,15000", "host": "null"})


def tell(session: Session, *frames: Frame, version: str = "1.2") -> list[object]:
    """What the frames bring about, with answers as frames."""
    happenings = list(session.receive(b"".join(encode(frame, version) for frame in frames)))
    return [answer(h.data) if isinstance(h, Write) else h for h in happenings]


def answer(data: bytes, version: str = "1.2") -> Frame:
    parser = Parser(commands=ANSWERS)
    parser.version = version
    parser.feed(data)
    frame = parser.next_frame()
    assert frame is not None
    assert parser.pending == 0, "one frame, one write"
    return frame


def connected(**headers: str) -> Session:
    session = Session()
    tell(session, Frame("CONNECT", {"accept-version": "1.2", **headers}))
    assert session.connected
    return session


def subscribe(key: str = "1", destination: str = "a.b", **headers: str) -> Frame:
    return Frame("SUBSCRIBE", {"id": key, "destination": destination, **headers})


def error_of(happenings: list[object]) -> str:
    frame = happenings[0]
    assert isinstance(frame, Frame)
    assert frame.command == "ERROR"
    assert frame.body.decode() == frame.headers["message"]
    return frame.headers["message"]


@pytest.mark.parametrize(
    ("accepted", "version"),
    [("1.2", "1.2"), ("1.0,1.1,1.2", "1.2"), ("1.1", "1.1"), ("1.0,1.1", "1.1"), ("1.0", "1.0"), (None, "1.0"),
     ("1.2, 1.1", "1.2"), ("2.0,1.1", "1.1")],
)  # fmt: skip
@pytest.mark.parametrize("command", ["CONNECT", "STOMP"])
def test_the_best_common_version_is_agreed_on(command: str, accepted: str | None, version: str) -> None:
    session = Session()
    headers = {} if accepted is None else {"accept-version": accepted}
    connect, agreed = tell(session, Frame(command, headers))
    assert isinstance(connect, Frame)
    assert connect.command == "CONNECTED"
    assert connect.headers["version"] == version
    assert agreed == Agreed(0, 0)


def test_without_a_common_version_it_ends() -> None:
    happenings = tell(Session(), Frame("CONNECT", {"accept-version": "2.0"}))
    assert error_of(happenings) == "Version unsupported"
    assert isinstance(happenings[0], Frame)
    assert happenings[0].headers["version"] == "1.0,1.1,1.2"
    assert happenings[1] == Ended()


@pytest.mark.parametrize(
    ("asked", "answered", "agreed"),
    [
        ("0,15000", "15000,0", Agreed(15.0, 0.0)),
        ("0,24000", "24000,0", Agreed(24.0, 0.0)),
        ("100,200", "1000,1000", Agreed(1.0, 1.0)),
        ("5000,0", "0,5000", Agreed(0.0, 5.0)),
        ("0,0", "0,0", Agreed(0, 0)),
        *((bad, "0,0", Agreed(0, 0)) for bad in ("", "1", "a,b", "-1,5", "1,2,3", "1e3,0", "9" * 30 + ",0", "1.5,2")),
    ],
)
def test_heart_beats_are_mirrored(asked: str, answered: str, agreed: Agreed) -> None:
    connect, beats = tell(Session(), Frame("CONNECT", {"accept-version": "1.2", "heart-beat": asked}))
    assert isinstance(connect, Frame)
    assert connect.headers["heart-beat"] == answered
    assert beats == agreed


def test_the_java_client_subscribes_before_it_connects() -> None:
    happenings = tell(Session(), subscribe("1"), subscribe("2"), CONNECT, Frame("SEND", {"destination": "q"}, b"x"))
    assert [type(h) for h in happenings] == [Subscribed, Subscribed, Frame, Agreed, Sent]


def test_its_first_calls_wait_for_its_connect() -> None:
    session = Session()
    early = tell(session, subscribe(), Frame("SEND", {"destination": "q"}, b"1"))
    assert [type(h) for h in early] == [Subscribed]
    assert session.holds_back
    *_, sent = tell(session, CONNECT)
    assert isinstance(sent, Sent)
    assert sent.body == b"1"
    assert not session.holds_back


def test_anybody_elses_send_before_connect_ends_it() -> None:
    happenings = tell(Session(), Frame("SEND", {"destination": "q"}, b"x"))
    assert error_of(happenings) == "A SEND came before CONNECT"
    assert happenings[1] == Ended()


def test_few_calls_wait_for_connect() -> None:
    session = Session(Limits(body=100))
    tell(session, subscribe())
    happenings = tell(session, *[Frame("SEND", {"destination": "q"}, b"x" * 60)] * 2)
    assert error_of(happenings) == "A SEND came before CONNECT"


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (Frame("SUBSCRIBE", {"id": "1"}), "Missing destination or subscription id header"),
        (Frame("SUBSCRIBE", {"destination": "a"}), "Missing destination or subscription id header"),
        (Frame("UNSUBSCRIBE"), "Missing id header"),
        (Frame("SEND", {}, b"x"), "Missing destination header"),
    ],
)
def test_a_missing_header_is_told_and_the_connection_goes_on(frame: Frame, says: str) -> None:
    session = connected()
    assert error_of(tell(session, frame)) == says
    assert tell(session, subscribe()) == [Subscribed(Subscription("1", "a.b"))]


def test_an_id_is_subscribed_once() -> None:
    session = connected()
    tell(session, subscribe("1"))
    assert error_of(tell(session, subscribe("1", "other", receipt="7"))) == "Subscription id already exists"
    assert tell(session, Frame("UNSUBSCRIBE", {"id": "1"})) == [Unsubscribed(Subscription("1", "a.b"))]
    assert tell(session, Frame("UNSUBSCRIBE", {"id": "1"})) == []
    assert tell(session, subscribe("1", "other")) == [Subscribed(Subscription("1", "other"))]


def test_subscriptions_have_an_end() -> None:
    session = connected()
    tell(session, *(subscribe(f"{i}") for i in range(MAX_SUBSCRIPTIONS)))
    assert "subscriptions" in error_of(tell(session, subscribe("more")))


@pytest.mark.parametrize(
    "frame", [Frame("BEGIN", {"transaction": "1"}), Frame("SEND", {"destination": "a", "transaction": "1"})]
)
def test_transactions_are_refused(frame: Frame) -> None:
    happenings = tell(connected(), frame)
    assert error_of(happenings) == "Transactions are not offered"
    assert happenings[1] == Ended()


def test_connecting_twice_ends_it() -> None:
    assert tell(connected(), CONNECT)[1] == Ended()


@pytest.mark.parametrize(
    "frame",
    [
        subscribe(receipt="r:1"),
        Frame("UNSUBSCRIBE", {"id": "1", "receipt": "r:1"}),
        Frame("SEND", {"destination": "q", "receipt": "r:1"}, b"x"),
        Frame("ACK", {"id": "1", "receipt": "r:1"}),
        Frame("NACK", {"id": "1", "receipt": "r:1"}),
    ],
)
def test_a_receipt_follows_what_it_is_for(frame: Frame) -> None:
    assert tell(connected(), frame)[-1] == Frame("RECEIPT", {"receipt-id": "r:1"})


def test_a_refused_frame_names_its_receipt() -> None:
    frame = tell(connected(), Frame("SUBSCRIBE", {"receipt": "9"}))[0]
    assert isinstance(frame, Frame)
    assert frame.headers["receipt-id"] == "9"


def test_disconnect_with_a_receipt_lets_the_client_close_first() -> None:
    session = connected()
    assert tell(session, Frame("DISCONNECT", {"receipt": "77"})) == [
        Frame("RECEIPT", {"receipt-id": "77"}),
        Ended(linger=True),
    ]
    assert tell(session, subscribe()) == []


def test_disconnect_without_a_receipt_ends_it() -> None:
    assert tell(connected(), Frame("DISCONNECT")) == [Ended()]


def test_what_is_no_stomp_is_told_and_ends_it() -> None:
    session = connected()
    happenings = [*session.receive(b"SEND\na:b:c\n\n\0"), *session.receive(b"SEND\ndestination:a\n\n\0")]
    assert isinstance(happenings[0], Write)
    assert "bare colon" in answer(happenings[0].data).headers["message"]
    assert happenings[1:] == [Ended()]


def test_messages() -> None:
    session = connected()
    subscription = Subscription("id:1", "a", acked=True)
    frame = answer(session.message(subscription, "a.b\n", b"{}", {"content-type": "application/json", "x": "y"}))
    assert frame.command == "MESSAGE"
    assert frame.headers == {
        "content-type": "application/json", "x": "y", "destination": "a.b\n", "subscription": "id:1",
        "message-id": "1", "ack": "1", "content-length": "2",
    }  # fmt: skip


def test_the_first_version_has_no_ids_and_no_escapes() -> None:
    session = Session()
    tell(session, Frame("CONNECT"))
    unnamed = Frame("SUBSCRIBE", {"destination": "/queue/a:b"})
    assert tell(session, unnamed, version="1.0") == [Subscribed(Subscription("/queue/a:b", "/queue/a:b"))]
    gone = Frame("UNSUBSCRIBE", {"destination": "/queue/a:b"})
    assert tell(session, gone, version="1.0") == [Unsubscribed(Subscription("/queue/a:b", "/queue/a:b"))]
    assert b"destination:/queue/a:b\n" in session.message(Subscription("1", "x"), "/queue/a:b", b"x")


def test_levels() -> None:
    assert list(levels("a.b.c")) == ["a.b.c", "a.b", "a"]
    assert list(levels("a")) == ["a"]


client_frames = st.sampled_from(
    [CONNECT, Frame("CONNECT"), subscribe("1"), subscribe("2", "c", receipt="1"), Frame("UNSUBSCRIBE", {"id": "1"}),
     Frame("SEND", {"destination": "a.b"}, b"x"), Frame("SEND"), Frame("ACK"), Frame("DISCONNECT", {"receipt": "1"}),
     Frame("BEGIN"), Frame("DISCONNECT")]
)  # fmt: skip


@given(st.lists(st.one_of(client_frames.map(encode), st.binary(max_size=30)), max_size=12))
def test_whatever_comes_the_session_holds_together(pieces: list[bytes]) -> None:
    """Every answer is one whole frame, subscriptions pair up, and after the end there is nothing."""
    session = Session()
    open_ids: set[str] = set()
    ended = False
    for piece in pieces:
        for happening in session.receive(piece):
            assert not ended
            match happening:
                case Write(data):
                    answer(data, session.version)
                case Subscribed(subscription):
                    assert subscription.id not in open_ids
                    open_ids.add(subscription.id)
                case Unsubscribed(subscription):
                    open_ids.remove(subscription.id)
                case Ended():
                    ended = True
    assert ended == session.ended
