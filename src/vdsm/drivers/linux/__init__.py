# SPDX-License-Identifier: Apache-2.0
"""The computer, read from /proc, /sys and /etc."""
