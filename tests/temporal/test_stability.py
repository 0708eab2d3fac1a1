"""Figures of stillness, where the answer is known beforehand."""

import math

import cv2
import numpy as np
import pytest

from benchmarks.stylizer_metrics import noise_gain, shift_error
from benchmarks.synthetic_clips import Clip, draw_texture, make_clips
from nst_ops.temporal.flow import DisFlow
from nst_ops.temporal.metrics import (
    estimated_motion,
    high_frequency_energy,
    luminance_flicker,
    psnr,
    reliable,
    warping_error,
    warping_errors,
)

SIZE = (96, 64)


@pytest.fixture(scope="module")
def clips() -> dict[str, Clip]:
    return {clip.name: clip for clip in make_clips(size=SIZE, num_frames=12)}


def still(frame: int, other: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((64, 96, 2), np.float32), np.ones((64, 96), bool)


def noise(sigma: float, num_frames: int = 12, seed: int = 0) -> np.ndarray:
    frames = np.random.default_rng(seed).normal(128, sigma, (num_frames, 64, 96, 3))
    return frames.round().clip(0, 255).astype(np.uint8)


def shifted(frame: int, other: int) -> tuple[np.ndarray, np.ndarray]:
    """The motion of ``pan``: 3 pixels to the right in each frame."""
    flow, mask = still(frame, other)
    flow[..., 0] = 3 * (other - frame)
    at = np.arange(96) + 3 * (other - frame)
    return flow, mask & (at >= 0) & (at < 96)


@pytest.fixture(scope="module")
def pan() -> np.ndarray:
    texture = draw_texture((160, 64))
    return np.stack([texture[:, 60 - 3 * t : 156 - 3 * t] for t in range(12)])


@pytest.mark.parametrize("gap", [1, 10])
def test_what_moves_as_one_piece_has_no_warping_error(pan: np.ndarray, gap: int) -> None:
    assert warping_error(pan, shifted, gap) == 0
    assert warping_error(pan, still, gap) > 1e-3


@pytest.mark.parametrize("gap", [1, 10])
def test_independent_noise_has_twice_its_variance(gap: int) -> None:
    error = warping_error(noise(8.0), still, gap)
    assert error == pytest.approx(2 * (8**2 + 1 / 12) / 255**2, rel=0.02)


def test_errors_are_counted_only_where_the_mask_says() -> None:
    frames = noise(8.0)
    frames[:, 32:] = 77

    def above(frame: int, other: int) -> tuple[np.ndarray, np.ndarray]:
        flow, mask = still(frame, other)
        return flow, mask & (np.arange(64) < 32)[:, None]

    def below(frame: int, other: int) -> tuple[np.ndarray, np.ndarray]:
        flow, mask = still(frame, other)
        return flow, mask & (np.arange(64) >= 32)[:, None]

    assert warping_error(frames, below) == 0
    assert warping_error(frames, above) == pytest.approx(2 * warping_error(frames, still))


def test_a_clip_of_which_nothing_can_be_compared_gives_nan(clips: dict[str, Clip]) -> None:
    frames = noise(8.0, num_frames=3)
    assert math.isnan(warping_error(frames, still, gap=3))
    assert math.isnan(warping_error(frames[:1], still))
    cut = clips["cut"]
    assert math.isnan(warping_error(cut.frames_thwc, cut.motion, gap=8))


def test_versions_of_a_clip_share_the_motion(pan: np.ndarray) -> None:
    asked = []

    def motion(frame: int, other: int) -> tuple[np.ndarray, np.ndarray]:
        asked.append((frame, other))
        return shifted(frame, other)

    errors = warping_errors({"pan": pan, "noise": noise(8.0)}, motion, gap=4)
    assert asked == [(t, t - 4) for t in range(4, 12)]
    assert errors["pan"] == 0 < errors["noise"]


def test_estimated_motion_is_that_of_the_clip(clips: dict[str, Clip]) -> None:
    for name in ("pan", "fast pan", "zoom", "sprites"):
        clip = clips[name]
        flow, mask = estimated_motion(clip.frames_thwc, DisFlow())(5, 4)
        exact, valid = clip.motion(5, 4)
        assert mask.mean() > 0.45, name
        assert (mask & valid).sum() > 0.94 * mask.sum(), name  # what is hidden is hardly ever trusted
        assert np.median(np.abs(flow - exact)[mask]) < 0.1, name


def test_estimated_motion_ends_at_a_cut(clips: dict[str, Clip]) -> None:
    clip = clips["cut"]
    motion = estimated_motion(clip.frames_thwc, DisFlow(), clip.cuts)
    assert not motion(6, 5)[1].any()
    assert not motion(3, 8)[1].any()
    assert motion(5, 4)[1].any()
    assert motion(7, 6)[1].any()


def test_a_flow_is_trusted_where_it_leads_home_and_is_smooth() -> None:
    forward = np.zeros((40, 60, 2), np.float32)
    forward[..., 0] = 2
    assert reliable(forward, -forward)[:, 3:-6].all()
    assert not reliable(forward, -forward)[:, -4:].any()  # leads out of view
    backward = -forward
    backward[:, 32:] = 0.5  # does not lead home
    assert not reliable(forward, backward)[:, 30 - 3 : -1].any()
    assert reliable(forward, backward)[:, : 30 - 4].all()
    edge = np.zeros((40, 60, 2), np.float32)
    edge[20:, :, 1] = 0.6
    trusted = reliable(edge, np.where(edge > 0, -edge, 0).astype(np.float32))
    assert not trusted[17:23].any()
    assert trusted[5:15, 5:-5].all()


def test_psnr_is_that_of_the_mean_square() -> None:
    gray = np.full((3, 8, 8, 3), 100, np.uint8)
    assert psnr(gray, gray) == math.inf
    assert psnr(gray + np.uint8(5), gray) == pytest.approx(20 * math.log10(255 / 5))
    with pytest.raises(ValueError, match="zip"):
        psnr(gray, gray[:2])


def test_flicker_is_the_deviation_of_a_brightness_that_jumps() -> None:
    generator = np.random.default_rng(0)
    source = np.repeat(draw_texture(SIZE)[None], 400, axis=0) // 2 + 64
    jumps = generator.normal(0, 6, 400)
    frames = (source + jumps[:, None, None, None]).round().clip(0, 255).astype(np.uint8)
    assert luminance_flicker(frames, source) == pytest.approx(6, rel=0.1)
    assert luminance_flicker(source, source) == 0


def test_what_the_source_does_and_what_drifts_is_no_flicker(clips: dict[str, Clip]) -> None:
    source = clips["exposure"].frames_thwc
    darker = (source * 0.5).astype(np.uint8)
    drifting = (source.astype(np.float64) * 0.5 + np.arange(12)[:, None, None, None]).astype(np.uint8)
    assert luminance_flicker(source, source) == 0
    assert luminance_flicker(drifting, darker) < 0.05
    assert luminance_flicker(noise(0, 12), source) > 0.01


def test_a_cut_is_no_flicker() -> None:
    source = np.full((8, 4, 4, 3), 100, np.uint8)
    frames = source.copy()
    frames[4:] = 180
    assert luminance_flicker(frames, source) > 10
    assert luminance_flicker(frames, source, cuts=[4]) == 0
    assert math.isnan(luminance_flicker(frames[:2], source[:2]))


def test_blur_takes_high_frequencies_and_noise_brings_them() -> None:
    texture = draw_texture(SIZE)[None]
    blurred = cv2.GaussianBlur(texture[0], (0, 0), 1.5)[None]
    own = high_frequency_energy(texture)
    assert high_frequency_energy(blurred) < 0.3 * own
    assert high_frequency_energy(np.full_like(texture, 90)) == pytest.approx(0, abs=1e-9)
    grain = np.random.default_rng(0).normal(0, 6, (*texture.shape[:3], 1))
    assert high_frequency_energy((texture + grain).clip(0, 255).astype(np.uint8)) > 1.2 * own


def test_waves_of_8_pixels_keep_about_half_their_energy() -> None:
    wave = 128 + 64 * np.sin(2 * np.pi * np.arange(96) / 8)
    frames = np.broadcast_to(wave[None, None, :, None], (1, 64, 96, 3)).round().astype(np.uint8)
    passed = high_frequency_energy(frames) / (np.var(wave) / 255**2)
    gaussian = math.exp(-0.5 * (2 * math.pi / 8 * 1.5) ** 2)
    assert passed == pytest.approx((1 - gaussian) ** 2, rel=0.05)


def test_noise_gain_is_the_factor_of_a_stylizer_that_magnifies() -> None:
    frames = noise(10.0, num_frames=2) // 2 + 64
    assert noise_gain(lambda x: x, frames) == 1
    magnified = noise_gain(lambda x: (x.astype(np.int64) * 3 - 256).clip(0, 255).astype(np.uint8), frames, 1.0)
    assert magnified == pytest.approx(3)
    assert noise_gain(lambda x: np.zeros_like(x), frames) == 0


def test_shift_error_of_a_stylizer_that_knows_places() -> None:
    image = draw_texture((160, 120))
    assert shift_error(lambda x: x, image) == 0

    def of_pixels(frames: np.ndarray) -> np.ndarray:
        return 255 - cv2.GaussianBlur(frames[0], (5, 5), 1)[None]

    assert shift_error(of_pixels, image) == 0  # the margin holds what the frame's edge does

    def of_places(frames: np.ndarray) -> np.ndarray:
        columns = np.arange(frames.shape[2]) % 2 * 10
        return np.broadcast_to(columns[None, None, :, None], frames.shape).astype(np.uint8)

    assert shift_error(of_places, image, [(1, 0)]) == pytest.approx(10)
    assert shift_error(of_places, image, [(2, 0)]) == 0
    assert shift_error(of_places, image, [(1, 0), (2, 0)]) == pytest.approx(10 / math.sqrt(2))
