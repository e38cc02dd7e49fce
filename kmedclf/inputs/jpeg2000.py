"""What an image file claims of its size, before a decoder believes it; JPEG 2000's own claim."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import IO

Bound = Callable[[int, int], None]


class Unfit(ValueError):
    """A file that is whole, but not one of our images; its text goes behind the path."""


TILES = 4096
"""Most tiles: OpenJPEG takes 10 kB for each, whether or not it is there."""

BOXES = 1000


def check(file: IO[bytes], bound: Bound) -> None:
    """Refuse images and tilings that are too large; leave the file where it was read to.

    The size in the boxes around a codestream, which Pillow knows, may be another.
    """
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
    """Find the codestream: the file itself, or one of the boxes in it."""
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
