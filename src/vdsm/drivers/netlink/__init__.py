# SPDX-License-Identifier: Apache-2.0
"""The host's network, read with `ip -j` and from /proc/net and /sys/class/net."""
