"""Size of strokes, and blends with the input."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from nst_ops.media.images import UInt8Array
from nst_ops.stylizers.working_size import at_full_size, at_working_size, blend


@pytest.fixture(scope="module")
def frame() -> UInt8Array:
    """A frame with sharp edges, (1, 240, 320, 3)."""
    canvas = np.full((240, 320, 3), (60, 90, 120), np.uint8)
    for i in range(12):
        cv2.circle(canvas, (25 * i, 20 * i), 30, (200 - 15 * i, 40 + 10 * i, 90), -1)
        cv2.line(canvas, (0, 20 * i), (320, 10 * i), (240, 240, 230), 1)
    return canvas[None]


def error(a: UInt8Array, b: UInt8Array) -> float:
    return float(np.sqrt(np.mean((a.astype(float) - b) ** 2)))


@pytest.mark.parametrize(("side", "size"), [(160, (120, 160)), (100, (75, 100)), (640, (480, 640))])
def test_the_working_size_is_that_of_the_longer_side(frame: UInt8Array, side: int, size: tuple[int, int]) -> None:
    assert at_working_size(frame, side).shape == (1, *size, 3)


def test_the_size_that_there_is_costs_nothing(frame: UInt8Array) -> None:
    assert at_working_size(frame, 320) is frame
    assert at_working_size(frame, None) is frame
    assert at_full_size(frame, frame, frame) is frame


@pytest.mark.parametrize(
    "recolor", [lambda x: x, lambda x: 255 - x, lambda x: x[..., ::-1] // 2], ids=["same", "negative", "dark"]
)
def test_edges_come_back_that_plain_resizing_loses(
    frame: UInt8Array, recolor: Callable[[UInt8Array], UInt8Array]
) -> None:
    small, exact = at_working_size(frame, 80), recolor(frame)
    stylized = np.ascontiguousarray(recolor(small))
    plain = cv2.resize(stylized[0], (320, 240), interpolation=cv2.INTER_CUBIC)
    assert error(at_full_size(stylized, small, frame)[0], exact[0]) < 0.75 * error(plain, exact[0])


def test_strokes_that_are_not_in_the_source_stay(frame: UInt8Array) -> None:
    flat = np.full_like(frame, 128)
    strokes = np.random.default_rng(0).integers(0, 256, (1, 60, 80, 3), np.uint8)
    plain = cv2.resize(strokes[0], (320, 240), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(at_full_size(strokes, at_working_size(flat, 80), flat)[0], plain)
    assert error(at_working_size(at_full_size(strokes, at_working_size(frame, 80), frame), 80), strokes) < 30


def test_a_blend_runs_from_the_input_to_the_style(frame: UInt8Array) -> None:
    stylized = 255 - frame
    assert np.array_equal(blend(stylized, frame, 0), frame)
    assert blend(stylized, frame, 1) is stylized
    assert np.abs(blend(stylized, frame, 0.25).astype(float) - (0.25 * stylized + 0.75 * frame)).max() <= 0.5
