# SPDX-License-Identifier: Apache-2.0
"""Sans-IO codecs: bytes <-> messages. Nothing here opens, waits or knows a verb."""
