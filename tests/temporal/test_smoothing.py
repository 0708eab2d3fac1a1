"""Smoothers: as many frames out as in, the same in any segment, still, sharp, and without ghosts."""

import weakref

import cv2
import numpy as np
import pytest

from benchmarks.synthetic_clips import make_clips
from nst_ops.config.stylize import TemporalConfig
from nst_ops.temporal.metrics import high_frequency_energy, warping_errors
from nst_ops.temporal.smoothing import load_smoother
from tests.media_factory import moving_frames, natural_image

MODES = ["none", "gate", "ema", "window"]
SIZE = (64, 48)


def smooth(source, stylized, **settings):
    smoother = load_smoother(TemporalConfig.model_validate({"flow": "dis", **settings}), "cpu")
    finished = []
    for frames in zip(source, stylized, strict=True):
        finished += smoother.push(*frames)
    return finished + smoother.flush()


def flickering(frames, amplitude=25, seed=0):
    """Strokes that come and go: texture of a few pixels, another one in every frame."""
    draw = np.random.default_rng(seed)
    noise = [cv2.GaussianBlur(draw.normal(0, 3 * amplitude, f.shape), (0, 0), 1.0) for f in frames]
    return [np.clip(f + n, 0, 255).astype(np.uint8) for f, n in zip(frames, noise, strict=True)]


@pytest.fixture(scope="module")
def clip():
    source = moving_frames(14, *SIZE)
    return source, flickering(source)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_frames", [0, 1, 2, 4, 7])
def test_as_many_frames_come_out_as_go_in(mode, num_frames):
    source = moving_frames(num_frames, *SIZE)
    finished = smooth(source, source, mode=mode)
    assert [frame.shape for frame in finished] == [frame.shape for frame in source]
    assert all(frame.dtype == np.uint8 for frame in finished)
    for frame, expected in zip(finished, source, strict=True):
        assert np.abs(frame.astype(int) - expected).mean() < 8  # in order


def test_none_leaves_every_frame_as_it_is(clip):
    source, stylized = clip
    np.testing.assert_array_equal(smooth(source, stylized, mode="none"), stylized)


@pytest.mark.parametrize("radius", [1, 2])
def test_a_window_is_exact_wherever_the_video_is_cut(clip, radius):
    source, stylized = clip
    whole = smooth(source, stylized, radius=radius)
    for cut in range(1, len(source)):
        low, high = max(0, cut - radius), cut + radius
        first = smooth(source[:high], stylized[:high], radius=radius)[:cut]
        second = smooth(source[low:], stylized[low:], radius=radius)[cut - low :]
        np.testing.assert_array_equal(first + second, whole)


@pytest.mark.parametrize("mode", ["gate", "ema"])
def test_a_blend_is_exact_to_a_gray_level_in_any_segment(clip, mode):
    source, stylized = clip
    settings = {"mode": mode, "weight": 0.3}
    lead = load_smoother(TemporalConfig.model_validate(settings), "cpu").lead
    assert lead < len(source) - 2
    whole = np.array(smooth(source, stylized, **settings), int)
    for cut in range(lead + 1, len(source)):
        second = smooth(source[cut - lead :], stylized[cut - lead :], **settings)[lead:]
        assert np.abs(whole[cut:] - second).max() <= 1


@pytest.mark.parametrize("mode", ["gate", "ema"])
def test_the_warm_up_lets_the_worst_memory_fade(mode):
    # Nothing moves, so everything is kept that can be: from black against from white.
    source = [np.asarray(natural_image("coffee", *SIZE))] * 40
    settings = {"mode": mode, "weight": 0.7}
    lead = load_smoother(TemporalConfig.model_validate(settings), "cpu").lead
    after = flickering(source[: lead + 3])
    black, white = (
        smooth(source[: lead + 3], [np.full_like(source[0], level), *after[1:]], **settings) for level in (0, 255)
    )
    assert np.abs(black[2].astype(int) - white[2]).max() > 10
    assert np.abs(np.array(black[lead:], int) - white[lead:]).max() <= 1


@pytest.mark.parametrize("mode", ["ema", "window"])
def test_flicker_goes_and_texture_stays(mode):
    video = make_clips(size=(160, 96), num_frames=12)[0]
    stylized = np.stack(flickering(video.frames_thwc))
    finished = np.stack(smooth(video.frames_thwc, stylized, mode=mode))
    errors = warping_errors({"single": stylized, "smooth": finished}, video.motion)
    assert errors["smooth"] < 0.75 * errors["single"]
    assert high_frequency_energy(finished) > 0.9 * high_frequency_energy(stylized)
    softer = np.stack(smooth(video.frames_thwc, stylized, mode=mode, detail=0))
    errors = warping_errors({"single": stylized, "smooth": softer}, video.motion)
    assert errors["smooth"] < 0.35 * errors["single"]
    assert high_frequency_energy(softer) < high_frequency_energy(finished)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_mixed_across_a_scene_cut(mode):
    first = [np.asarray(natural_image("coffee", *SIZE))] * 4
    second = [np.asarray(natural_image("astronaut", *SIZE))] * 4
    stylized = flickering([*first, *second])
    together = smooth([*first, *second], stylized, mode=mode)
    apart = smooth(first, stylized[:4], mode=mode) + smooth(second, stylized[4:], mode=mode)
    np.testing.assert_array_equal(together, apart)


@pytest.mark.parametrize("mode", ["gate", "ema", "window"])
def test_brightness_follows_the_source_without_lag(mode):
    still = np.asarray(natural_image("coffee", 160, 96))
    gains = [1.0, 1.0, 1.0, 0.8, 1.0, 0.85, 0.7, 0.85, 1.0, 1.0]
    source = [(still * gain).astype(np.uint8) for gain in gains]
    stylized = flickering(source, amplitude=10)
    finished = smooth(source, stylized, mode=mode, detail=0)
    lag = [a.mean() - b.mean() for a, b in zip(finished, stylized, strict=True)]
    assert np.abs(lag).max() < 2.5  # of steps of 25
    noise = [np.std(a.astype(float) - b) for a, b in zip(finished, source, strict=True)]
    single = [np.std(a.astype(float) - b) for a, b in zip(stylized, source, strict=True)]
    assert np.mean(noise[2:-2]) < 0.9 * np.mean(single[2:-2])


@pytest.mark.parametrize("mode", ["gate", "ema", "window"])
def test_a_thing_that_flies_past_leaves_no_ghost(mode):
    ground = np.asarray(natural_image("coffee", 160, 96)) // 2
    source = []
    for n in range(10):
        frame = ground.copy()
        cv2.circle(frame, (20 + 13 * n, 48), 12, (250, 240, 40), -1)
        source.append(frame)
    finished = smooth(source, source, mode=mode)
    for frame, expected in zip(finished, source, strict=True):
        wrong = np.abs(frame.astype(int) - expected).max(axis=2) > 40
        assert wrong.mean() < 0.005


@pytest.mark.parametrize("mode", MODES)
def test_a_still_video_stays_as_it_is(mode):
    still = [np.asarray(natural_image("coffee", *SIZE))] * 5
    for frame in smooth(still, still, mode=mode):
        assert np.abs(frame.astype(int) - still[0]).max() <= 1


@pytest.mark.parametrize("mode", ["gate", "ema", "window"])
def test_results_do_not_depend_on_threads(clip, mode):
    before = cv2.getNumThreads()
    results = []
    try:
        for threads in (1, 3):
            cv2.setNumThreads(threads)
            results.append(smooth(*clip, mode=mode))
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (200, 3)])
def test_frames_of_any_size_pass(mode, size):
    frames = moving_frames(4, *size)
    assert [frame.shape for frame in smooth(frames, frames, mode=mode)] == [f.shape for f in frames]


def test_only_the_frames_of_the_window_are_held():
    smoother = load_smoother(TemporalConfig(radius=2), "cpu")
    held = []
    for frame in moving_frames(12, *SIZE):
        stylized = frame.copy()
        held.append(weakref.ref(stylized))
        smoother.push(frame, stylized)
    del stylized
    assert sum(each() is not None for each in held) <= 5
