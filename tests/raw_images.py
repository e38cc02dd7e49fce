"""Image files written byte by byte, of kinds that Pillow reads but does not write."""

import struct
import zlib

import numpy as np


def png(pixels, depth, kind, *, interlaced=False, chunks=()):
    """Write samples (h, w, c) as PNG of a colour type: 0 grey, 2 RGB, 3 palette, 4 LA, 6 RGBA."""
    height, width = pixels.shape[:2]
    passes = [(0, 0, 1, 1)]
    if interlaced:  # Adam7: first row and column, and steps
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2),
                  (0, 1, 2, 2), (1, 0, 2, 1)]  # fmt: skip
    rows = b""
    for top, left, down, right in passes:
        part = pixels[top::down, left::right]
        if part.size:
            rows += b"".join(b"\0" + _packed(row.ravel(), depth) for row in part)
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, int(interlaced))
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    made = b"\x89PNG\r\n\x1a\n"
    for name, inner in parts:
        made += struct.pack(">I", len(inner)) + name + inner
        made += struct.pack(">I", zlib.crc32(name + inner))
    return made


def tiff(pixels, *, order="<", photometric=1, bits=None, planar=1, extra=(), more=()):
    """Write samples (h, w, c), one strip; planar 2 is a strip a channel; more are tags."""
    pixels = np.asarray(pixels)
    height, width, channels = pixels.shape
    bits = bits or pixels.dtype.itemsize * 8
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    planes = [pixels] if planar == 1 else [pixels[..., i : i + 1] for i in range(channels)]
    strips = []
    for plane in planes:
        if bits % 8:
            strips.append(b"".join(_packed(row.ravel(), bits) for row in plane))
        else:
            strips.append(plane.astype(pixels.dtype.newbyteorder(order)).tobytes())
    tags = {256: [width], 257: [height], 258: [bits] * channels, 259: [1], 262: [photometric],
            273: [0] * len(strips), 277: [channels], 278: [height],
            279: [len(strip) for strip in strips], 284: [planar],
            339: [kind] * channels}  # fmt: skip
    if extra:
        tags[338] = list(extra)
    tags.update(more)
    start = 8 + 2 + 12 * len(tags) + 4
    beyond = b""
    entries = {}
    for tag, values in sorted(tags.items()):
        size = 4 * len(values)
        if len(values) > 1:
            entries[tag] = start + len(beyond)
            beyond += bytes(size)
    at = start + len(beyond)
    for i, strip in enumerate(strips):
        tags[273][i] = at
        at += len(strip)
    made = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    made += struct.pack(order + "H", len(tags))
    beyond = b""
    for tag, values in sorted(tags.items()):
        value = struct.pack(f"{order}{len(values)}I", *values)
        made += struct.pack(order + "HHI", tag, 4, len(values))
        if len(values) > 1:
            made += struct.pack(order + "I", entries[tag])
            beyond += value
        else:
            made += value
    return made + bytes(4) + beyond + b"".join(strips)


def _packed(samples, depth):
    """Pack samples of one row into bytes, the first one highest."""
    if depth == 16:
        return samples.astype(">u2").tobytes()
    digits = "".join(format(int(one), f"0{depth}b") for one in samples)
    digits += "0" * (-len(digits) % 8)
    return int(digits, 2).to_bytes(len(digits) // 8, "big")
