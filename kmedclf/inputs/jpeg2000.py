"""Limits on the size that an image file claims, checked before decoding; JPEG 2000's own size."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import IO

Bound = Callable[[int, int], None]


class Unfit(ValueError):
    """An intact file that is not an accepted image; the message follows the path."""


TILES = 4096
"""Most tiles; OpenJPEG allocates 10 kB for each, even if it is missing."""

BOXES = 1000


def check(file: IO[bytes], bound: Bound) -> None:
    """Refuse images and tilings that are too large; keep the file's position."""
    # Pillow knows only the size in the boxes around the codestream, which may differ.
    before = file.tell()
    file.seek(_start(file))
    head = file.read(42)
    file.seek(before)
    if head[:4] != b"\xff\x4f\xff\x51" or len(head) < 42:
        raise ValueError("its codestream has no size")
    right, bottom, left, top, width, height, tiles_left, tiles_top = struct.unpack_from(
        ">8I", head, 8
    )
    bound(right - left, bottom - top)
    across, down = right - tiles_left, bottom - tiles_top
    if not width or not height or -(-across // width) * -(-down // height) > TILES:
        raise Unfit(f"must have at most {TILES:,} tiles. Its tiles have {width} × {height} pixels.")
    channels = struct.unpack_from(">H", head, 40)[0]
    if channels > 4:
        raise Unfit(f"must have at most 4 channels. It has {channels}.")


def _start(file: IO[bytes]) -> int:
    """Find the codestream: at the start of the file, or in one of its boxes."""
    at = 0
    for number in range(BOXES):
        file.seek(at)
        head = file.read(16)
        if number == 0 and head[:2] == b"\xff\x4f":
            return 0
        size, inner = int.from_bytes(head[:4], "big"), 8
        if size == 1:
            size, inner = int.from_bytes(head[8:16], "big"), 16
        if head[4:8] == b"jp2c":
            return at + inner
        if size < inner or len(head) < inner:
            break
        at += size
    raise ValueError("it has no codestream")
