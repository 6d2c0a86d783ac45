"""Whether a GIF file is whole and holds one picture."""

import struct

SIGNATURES = (b"GIF87a", b"GIF89a")

_TABLE, _IMAGE, _EXTENSION, _TRAILER = 0x80, 0x2C, 0x21, 0x3B


def check_gif(data: bytes) -> None:
    """Walks through the blocks of a GIF file; their content has no checksums.

    Args:
        data: The bytes of the file.

    Raises:
        ValueError: If it ends early, holds several frames or none, or one that leaves a part of the
            picture without pixels; says so in words that follow a file's name.
    """
    try:
        screen, frames = struct.unpack_from("<HH", data, 6), _frames(data)
    except (IndexError, struct.error) as error:
        raise ValueError("is truncated: it ends without its trailer") from error
    if len(frames) != 1:
        raise ValueError(f"holds {len(frames)} frames; save one image a file")
    left, top, width, height = frames[0]
    if left or top or (width, height) != screen:
        raise ValueError(
            f"is a picture of {screen[0]}x{screen[1]} pixels, of which only {width}x{height} are "
            "in the file; save it whole"
        )


def _frames(data: bytes) -> list[tuple[int, ...]]:
    """Left, top, width and height of each frame up to the trailer."""
    frames: list[tuple[int, ...]] = []
    place = 13 + _table_size(data[10])
    while True:
        block = data[place]
        place += 1
        if block == _TRAILER:
            return frames
        if block == _IMAGE:
            frames.append(struct.unpack_from("<HHHH", data, place))
            # The byte after the colour table is the first code size of the pixels.
            place = _behind_blocks(data, place + 9 + _table_size(data[place + 8]) + 1)
        elif block == _EXTENSION:
            place = _behind_blocks(data, place + 1)


def _table_size(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & _TABLE else 0


def _behind_blocks(data: bytes, place: int) -> int:
    while data[place]:
        place += 1 + data[place]
    return place + 1
