# SPDX-License-Identifier: Apache-2.0
"""Where a broker is, as an administrator writes it."""

from __future__ import annotations

import pytest

from vdsm.amqp.address import BusAddress, Mechanism


def test_everything_in_a_url() -> None:
    address = BusAddress.parse("amqps://host%40a:p%2Fw@[::1]:1234/lab?profile=rabbitmq3", ca="/ca.pem")
    assert (address.host, address.port, address.tls) == ("::1", 1234, True)
    assert (address.user, address.password, address.virtual_host) == ("host@a", "p/w", "lab")
    assert (address.profile, address.ca, address.mechanism) == ("rabbitmq3", "/ca.pem", Mechanism.PLAIN)


def test_the_shortest() -> None:
    address = BusAddress.parse("amqp://broker")
    assert (address.host, address.port, address.mechanism) == ("broker", 5672, Mechanism.ANONYMOUS)
    assert BusAddress.parse("amqps://broker").port == 5671


def test_a_certificate_without_a_password() -> None:
    address = BusAddress.parse("amqps://host1@broker", certificate="/c", key="/k")
    assert (address.mechanism, address.user) == (Mechanism.EXTERNAL, "host1")


def test_the_password_is_never_shown() -> None:
    address = BusAddress.parse("amqp://u@h", password="hush-hush")
    assert "hush" not in f"{address} {address!r}"
    assert str(address) == "amqp://u@h:5672"


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("http://h", "scheme"),
        ("h:5672", "scheme"),
        ("amqp://", "no host"),
        ("amqp://h:0", "no host"),
        ("amqp://h:hush", "port"),
        ("amqp://u:hush:h", "port"),
        ("amqp://h:70000", "port"),
        ("amqp://h/a/b", "form"),
        ("amqp://h?profile=zeromq", "unknown"),
        ("amqp://h?colour=red", "unknown"),
        ("amqp://h?profile", "NAME=VALUE"),
        ("amqp://:hush@h", "no user"),
        ("amqp://u@h", "neither a password"),
    ],
)
def test_what_is_wrong_is_said_without_the_password(url: str, what: str) -> None:
    with pytest.raises(ValueError, match=what) as caught:
        BusAddress.parse(url)
    assert "hush" not in str(caught.value)


def test_certificates_belong_to_tls() -> None:
    with pytest.raises(ValueError, match="amqps"):
        BusAddress.parse("amqp://h", ca="/ca.pem")
    with pytest.raises(ValueError, match="key"):
        BusAddress.parse("amqps://h", certificate="/c")
