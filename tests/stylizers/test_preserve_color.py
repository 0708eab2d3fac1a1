"""Colors of the input, kept on demand."""

import numpy as np

from nst_ops.stylizers.preserve_color import keep_colors


def luma(rgb: np.ndarray) -> np.ndarray:
    return rgb @ np.array([0.299, 0.587, 0.114])


def test_colors_are_the_frames_and_light_and_dark_the_styles() -> None:
    rng = np.random.default_rng(0)
    # Muted colors: the merged ones stay within what RGB can show.
    frames = rng.integers(100, 156, (2, 32, 48, 3), np.uint8)
    stylized = rng.integers(80, 176, (2, 32, 48, 3), np.uint8)
    kept = keep_colors(stylized, frames)
    assert kept.dtype == np.uint8
    assert kept.shape == frames.shape
    np.testing.assert_allclose(luma(kept), luma(stylized), atol=1.01)
    for channel in (0, 2):  # Cr and Cb are scaled R - Y and B - Y
        difference = (kept[..., channel] - luma(kept)) - (frames[..., channel] - luma(frames))
        assert np.abs(difference).max() < 2.01
    np.testing.assert_array_equal(keep_colors(frames, frames), frames)


def test_what_no_color_can_show_stays_in_range() -> None:
    blue = np.full((1, 4, 4, 3), (0, 0, 255), np.uint8)
    white, black = np.full_like(blue, 255), np.zeros_like(blue)
    assert keep_colors(white, blue)[0, 0, 0].tolist() == [226, 226, 255]
    assert keep_colors(black, blue)[0, 0, 0].tolist() == [0, 0, 226]
