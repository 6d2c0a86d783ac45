from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from callbacks.pictures import (
    PALETTE,
    draw_outlines,
    grid_of,
    lines_of,
    to_colours,
    to_rgb,
    write_png,
)


def test_range_channels_and_size() -> None:
    image = torch.tensor([-1.0, 0.0, 1.0, 7.0]).reshape(1, 1, 2, 2)
    tiles = to_rgb(image)
    assert tiles.shape == (1, 3, 128, 128)
    corners = tiles[0, :, ::64, ::64]
    assert corners[0].tolist() == [[0, 128], [255, 255]]
    assert torch.equal(corners[0], corners[1])
    assert to_rgb(torch.zeros(2, 3, 200, 300)).shape == (2, 3, 200, 300)
    assert to_rgb(torch.zeros(2, 4, 40, 30)).shape == (2, 3, 160, 120)


def test_outline_is_the_inner_edge_in_the_colour_of_the_class() -> None:
    mask = torch.zeros(1, 128, 128, dtype=torch.int64)
    mask[0, 20:60, 30:70] = 1
    mask[0, 80:100, 30:70] = 2
    mask[0, 0:5] = 255
    drawn = draw_outlines(torch.zeros(1, 3, 128, 128, dtype=torch.uint8), mask)[0]
    painted = {tuple(pixel) for pixel in drawn.flatten(1).T.tolist()}
    assert painted == {(0, 0, 0), PALETTE[0], PALETTE[1]}
    inner = torch.zeros(128, 128, dtype=torch.bool)
    inner[20:60, 30:70] = True
    inner[22:58, 32:68] = False
    assert torch.equal((drawn == torch.tensor(PALETTE[0])[:, None, None]).all(0), inner)
    white = draw_outlines(torch.zeros(1, 3, 128, 128, dtype=torch.uint8), mask, (255, 255, 255))
    assert {tuple(pixel) for pixel in white[0].flatten(1).T.tolist()} == {
        (0, 0, 0),
        (255, 255, 255),
    }


def test_labels_are_black_and_the_colours_of_their_class() -> None:
    labels = torch.tensor([[[0, 1], [6, 7]]])
    tiles = to_colours(labels)
    assert tiles.shape == (1, 3, 128, 128)
    assert tiles.dtype == torch.uint8
    blocks = tiles[0].reshape(3, 2, 64, 2, 64)
    assert (blocks == blocks[:, :, :1, :, :1]).all()
    shown = [tuple(pixel) for pixel in blocks[:, :, 0, :, 0].flatten(1).T.tolist()]
    assert shown == [(0, 0, 0), PALETTE[0], PALETTE[5], PALETTE[0]]
    assert to_colours(torch.zeros(0, 2, 2, dtype=torch.int64)).shape == (0, 3, 128, 128)


def test_lines_hold_the_tiles_of_an_item_side_by_side() -> None:
    tiles = torch.randint(256, (2, 3, 3, 8, 8), dtype=torch.uint8)
    lines = lines_of(tiles)
    assert lines.shape == (3, 2 * 10 + 2, 3 * 10 + 2)
    assert torch.equal(lines[:, 12:20, 22:30], tiles[1, 2])


def test_png_holds_the_grid(tmp_path: Path) -> None:
    tiles = torch.randint(256, (5, 3, 8, 8), dtype=torch.uint8)
    grid = grid_of(tiles)
    write_png(tmp_path / "new" / "grid.png", grid)
    stored = np.asarray(Image.open(tmp_path / "new" / "grid.png"))
    assert stored.shape == (2 * 10 + 2, 3 * 10 + 2, 3)
    assert np.array_equal(stored.transpose(2, 0, 1), grid.numpy())
    assert np.array_equal(stored[2:10, 2:10].transpose(2, 0, 1), tiles[0].numpy())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_no_picture(value: float) -> None:
    image = torch.zeros(3, 1, 4, 4)
    image[1, 0, 2, 2] = value
    with pytest.raises(ValueError, match="1 of 3 items hold NaN or infinite"):
        to_rgb(image)
