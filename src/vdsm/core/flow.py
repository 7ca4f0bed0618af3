# SPDX-License-Identifier: Apache-2.0
"""Which call the present code works for: one id from the caller's request to the last line of the log."""

from __future__ import annotations

from contextvars import ContextVar

current: ContextVar[str] = ContextVar("vdsm_flow", default="")
"""The flow id; empty outside of calls. The bridge sets it, the daemon's log prints it."""
