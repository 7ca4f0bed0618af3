# SPDX-License-Identifier: Apache-2.0
"""The published on-disk format, version 5: bytes to what they say and back. Pure: nothing here opens a file."""
