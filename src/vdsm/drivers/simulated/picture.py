# SPDX-License-Identifier: Apache-2.0
"""A small, valid PNG for machines that have no real screen."""

from __future__ import annotations

import struct
import zlib

_WIDTH, _HEIGHT = 64, 40


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def paint(shade: int) -> bytes:
    """A grey screen, `shade` 0 to 255, with a frame."""
    edge = bytes([0]) + bytes([255]) * _WIDTH
    line = bytes([0, 255]) + bytes([shade]) * (_WIDTH - 2) + bytes([255])
    header = struct.pack(">IIBBBBB", _WIDTH, _HEIGHT, 8, 0, 0, 0, 0)
    pixels = zlib.compress(edge + line * (_HEIGHT - 2) + edge)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")
