"""A column's predictions: one strip a row."""

import math
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from callbacks.files import atomic_write

_LABEL, _GAP, _FONT = 300, 8, 15
_COLUMNS = 36  # of that font in a label
_PADDING = 2  # of callbacks.pictures.grid_of
_SMALLEST_LINE = 64


def draw_column(path: Path, strips: list[tuple[str, Path]]) -> None:
    """Puts the pictures of several tests under one another.

    Args:
        path: The PNG to write; nothing is written without a picture.
        strips: The label of each and its test run; one without a picture is left out.
    """
    found = [(label, picture) for label, run in strips if (picture := _picture(run)) is not None]
    if not found:
        return
    width = _LABEL + max(picture.width for _, picture in found)
    height = sum(picture.height + _GAP for _, picture in found) - _GAP
    canvas = Image.new("RGB", (width, height), "white")
    draw, font, top = ImageDraw.Draw(canvas), ImageFont.load_default(_FONT), 0
    for label, picture in found:
        text = "\n".join(textwrap.fill(line, _COLUMNS) for line in label.splitlines())
        draw.multiline_text((8, top + 8), text, fill="black", font=font, spacing=4)
        canvas.paste(picture, (_LABEL, top))
        top += picture.height + _GAP
    with atomic_write(path, flush=False) as file:
        canvas.save(file, "PNG")


def _picture(run: Path) -> Image.Image | None:
    files = sorted((run / "samples").glob("test-*.png"))
    if not files:
        return None
    with Image.open(files[-1], formats=("PNG",)) as image:
        return _in_one_line(image.convert("RGB"))


def _in_one_line(grid: Image.Image) -> Image.Image:
    """The lines of a grid of square tiles side by side."""
    line = math.gcd(grid.width - _PADDING, grid.height - _PADDING)
    if line < _SMALLEST_LINE:
        return grid
    lines = (grid.height - _PADDING) // line
    strip = Image.new("RGB", (lines * grid.width, line + _PADDING))
    for number in range(lines):
        box = (0, number * line, grid.width, (number + 1) * line + _PADDING)
        strip.paste(grid.crop(box), (number * grid.width, 0))
    return strip
