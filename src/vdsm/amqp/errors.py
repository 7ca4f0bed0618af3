# SPDX-License-Identifier: Apache-2.0
"""What goes wrong on the way to a broker."""

from __future__ import annotations


class BusDown(Exception):
    """The broker cannot be used now; the text says why and what to do."""


class ProtocolFault(Exception):
    """The other side does not speak AMQP 1.0 as it should."""


class Refused(Exception):
    """The broker does not let this process in."""
