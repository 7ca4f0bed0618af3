# SPDX-License-Identifier: Apache-2.0
"""Sockets <-> protocols <-> bridge. A binding translates; it decides nothing and names no verb."""
