"""The validation grid: style image, content images and results, each where it belongs."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from nst_ops.models.johnson import JohnsonNet
from nst_ops.training.grid import ValidationImages, png_bytes, sheet, stylize, to_pixels, validation_grid

RED, GREEN, BLUE = ([level, *rest] for level, rest in ((1.0, [0, 0]), (0.0, [1, 0]), (0.0, [0, 1])))


def flat(color: list[float], *size: int) -> torch.Tensor:
    """(B, 3, H, W) of one color."""
    return torch.tensor(color).view(1, 3, 1, 1).expand(size[0], 3, *size[1:])


def boxes(pixels: np.ndarray) -> dict[str, tuple[int, int, int, int]]:
    """Left, top, right, bottom of what is red, green and blue."""
    found = {}
    for name, channel in (("red", 0), ("green", 1), ("blue", 2)):
        others = [other for other in range(3) if other != channel]
        there = (pixels[..., channel] > 200) & (pixels[..., others].max(axis=-1) < 50)
        rows, columns = there.any(axis=1).nonzero()[0], there.any(axis=0).nonzero()[0]
        found[name] = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    return found


@pytest.mark.parametrize(("height", "width", "times"), [(32, 32, 4), (48, 64, 3), (128, 160, 1), (640, 512, 1)])
@pytest.mark.parametrize("count", [1, 3])
def test_everything_is_in_its_place(height, width, times, count):
    shown = ValidationImages(flat(GREEN, count, height, width), flat(RED, 1, 50, 100))
    grid = validation_grid(shown, flat(BLUE, count, height, width), "step 250")
    assert grid.dtype == np.uint8
    assert grid.ndim == 3
    box = boxes(grid)
    (left, top, right, bottom), (left2, top2, right2, bottom2) = box["green"], box["blue"]
    assert (left, right) == (left2, right2)
    assert bottom - top == bottom2 - top2 == height * times
    assert right - left >= count * width * times  # and the gaps
    assert top2 > bottom
    assert box["red"][2] < left
    assert (box["red"][1], box["red"][3]) == (top, bottom2)  # the style image beside both rows
    assert box["red"][2] - box["red"][0] == 2 * (bottom2 - top)  # its shape kept
    assert (grid[bottom + 1 : top2 - 1, left:] < 128).any(), "no caption"
    assert (grid[:, -3:] == 255).all(), "cut off at the right"


def test_images_keep_their_order():
    content = torch.stack([torch.full((3, 128, 128), level) for level in (0.2, 0.8)])
    grid = validation_grid(ValidationImages(content, torch.zeros(1, 3, 9, 9)), content)
    levels = grid[60, :, 0].tolist()
    assert levels.count(51) == levels.count(204) == 128
    assert levels.index(51) < levels.index(204)


def test_the_step_is_in_the_caption():
    images = torch.ones(1, 3, 32, 32)
    assert not np.array_equal(
        validation_grid(ValidationImages(images, images), images, "step 1"),
        validation_grid(ValidationImages(images, images), images, "step 2"),
    )


@pytest.mark.parametrize("num_rows", [1, 4, 9])
@pytest.mark.parametrize("side", [32, 128, 200])
def test_rows_of_unlike_length_are_shown_whole(num_rows, side):
    green, blue = (np.full((side, side, 3), color, np.uint8) for color in ([0, 255, 0], [0, 0, 255]))
    rows = {"content": [green] * 3} | {f"row {n} of {'words ' * 20}": [blue] for n in range(num_rows)}
    drawn = sheet(rows, np.full((90, 60, 3), [255, 0, 0], np.uint8))
    shown = (side * 4 if side == 32 else side) ** 2
    assert (drawn == [0, 255, 0]).all(axis=2).sum() == 3 * shown
    assert (drawn == [0, 0, 255]).all(axis=2).sum() == num_rows * shown
    assert (drawn == [255, 0, 0]).all(axis=2).any()
    for edge in (drawn[:2], drawn[-2:], drawn[:, :2], drawn[:, -2:]):
        assert (edge == 255).all(), "cut off at the edge"


def test_stylize_leaves_the_network_as_it_was():
    torch.manual_seed(0)
    net = JohnsonNet(width=4, num_blocks=1).train()
    stylized = stylize(net, torch.rand(3, 3, 32, 40))
    assert stylized.shape == (3, 3, 32, 40)
    assert stylized.dtype == torch.float32
    assert 0 <= stylized.min() <= stylized.max() <= 1
    assert net.training


def test_pixels_of_a_diverged_network_are_pixels():
    image = torch.tensor([float("nan"), float("inf"), 0.5]).view(1, 3, 1, 1)
    assert to_pixels(image).tolist() == [[[[0, 255, 128]]]]


def test_png_gives_the_pixels_back():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    with Image.open(io.BytesIO(png_bytes(pixels))) as image:
        assert image.format == "PNG"
        assert (np.asarray(image) == pixels).all()
