# SPDX-License-Identifier: Apache-2.0
"""libvirt's own event loop in a thread of its own: keep-alives, events and streams go on whatever asyncio does.

libvirtaio instead would touch asyncio from whichever thread calls libvirt, which asyncio does not allow.
"""

from __future__ import annotations

import functools
import logging
import threading
import time

import libvirt

log = logging.getLogger(__name__)


@functools.cache
def start() -> None:
    """Once per process, before the first connection is made."""
    libvirt.registerErrorHandler(_keep_quiet, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_run, name="libvirt-events", daemon=True).start()


def _run() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError as error:
            log.error("libvirt's event loop: %s", error)
            time.sleep(0.1)  # poll() itself failed: do not spin


def _keep_quiet(_opaque: object, _error: object) -> None:
    """libvirt would print each error; it is raised as well."""
