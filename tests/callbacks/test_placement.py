"""Results put back in place, against bilinear interpolation written down anew."""

import numpy as np
import pytest
import torch

from callbacks.placement import Place, Placed


def linear(values: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Interpolates between the centres of pixels along one axis; edges are held."""
    old = values.shape[axis]
    at = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, old - 1)
    share = (at - low).reshape([-1 if k == axis else 1 for k in range(values.ndim)])
    return np.asarray(
        values.take(low, axis) * (1 - share) + values.take(high, axis) * share, dtype=np.float64
    )


PLACES = {
    "stretched": Place((20, 31), (0, 0, 20, 31), (0, 0, 8, 8)),
    "cropped": Place((40, 30), (3, 8, 27, 26), (0, 0, 8, 8)),
    "padded": Place((13, 30), (0, 0, 13, 30), (2, 0, 6, 8)),
    "both": Place((50, 30), (5, 0, 45, 30), (0, 1, 8, 7)),
}


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("classes", [2, 5])
def test_logits_are_resized_before_the_argmax(name: str, classes: int) -> None:
    place = PLACES[name]
    logits = torch.randn(classes, 8, 8, generator=torch.Generator().manual_seed(1))
    (top, left, bottom, right), (up, start, down, end) = place.box, place.inner
    inside = logits.double().numpy()[:, up:down, start:end]
    grown = linear(linear(inside, bottom - top, 1), right - left, 2)
    expected = np.zeros(place.size, int)
    expected[top:bottom, left:right] = grown.argmax(0)
    found = place.classes(logits).numpy()
    best = np.sort(grown, axis=0)
    # Where two classes are level, rounding decides.
    clear = np.ones(place.size, bool)
    clear[top:bottom, left:right] = best[-1] - best[-2] > 1e-5
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(found[clear], expected[clear])
    # What resized class ids would have given is another thing.
    assert (found != place.nearest(logits.argmax(0)).numpy()).any()


@pytest.mark.parametrize("name", PLACES)
def test_images_lie_where_the_network_saw_them(name: str) -> None:
    place = PLACES[name]
    image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    (top, left, bottom, right), (up, start, down, end) = place.box, place.inner
    inside = image.double().numpy()[:, up:down, start:end]
    expected = np.full((3, *place.size), -1.0)
    expected[:, top:bottom, left:right] = linear(linear(inside, bottom - top, 1), right - left, 2)
    np.testing.assert_allclose(place.image(image), expected, atol=1e-5)


def test_ids_alone_take_the_nearest_pixel() -> None:
    ids = torch.arange(12).reshape(3, 4)
    place = Place((8, 9), (1, 0, 7, 8), (0, 0, 3, 4))
    expected = np.zeros((8, 9), int)
    expected[1:7, :8] = ids.numpy().repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(place.nearest(ids), expected)
    smaller = Place((1, 2), (0, 0, 1, 2), (0, 0, 3, 4))
    assert smaller.nearest(ids).tolist() == [[5, 7]]


def test_what_becomes_smaller_is_averaged() -> None:
    """A mask of an image that is smaller than the network's input has no stray pixels."""
    checkers = torch.ones(1, 8, 8)
    checkers[:, ::2, 1::2] = checkers[:, 1::2, ::2] = -1
    small = Place((2, 2), (0, 0, 2, 2), (0, 0, 8, 8)).image(checkers)
    assert small.abs().max() < 0.1


def test_a_batch_without_places_or_without_an_image_has_none() -> None:
    image = torch.zeros(2, 3, 8, 8)
    places = {
        "original_size": torch.tensor([[20, 31], [40, 30]]),
        "original_box": torch.tensor([[0, 0, 20, 31], [3, 8, 27, 26]]),
        "network_box": torch.tensor([[0, 0, 8, 8]] * 2),
    }
    for key in ("image", "source"):
        placed = Placed.of({key: image, **places})
        assert placed.places == [PLACES["stretched"], PLACES["cropped"]]
        assert placed.fits(torch.zeros(8, 8))
        assert not placed.fits(torch.zeros(3, 16, 16))
    assert Placed.of(places).places == Placed.of({"image": image}).places == []
    assert Placed.of(image) == Placed(None, [])
