# SPDX-License-Identifier: Apache-2.0
"""The typed Python client: `with connect() as host: host.vm.get_stats(vm_id)`.

The names below are looked up on first use: the shell starts from this package too, and must not pay for the contract
(about 80 ms of CPU) when it only sends one request.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .address import Address
    from .bridge import RemoteBridge
    from .host import Host, connect
    from .stream import Stream
    from .transport import BadAnswer, Unreachable

__all__ = ["Address", "BadAnswer", "Host", "RemoteBridge", "Stream", "Unreachable", "connect"]

_HOMES = {
    "Address": "address",
    "BadAnswer": "transport",
    "Host": "host",
    "RemoteBridge": "bridge",
    "Stream": "stream",
    "Unreachable": "transport",
    "connect": "host",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
