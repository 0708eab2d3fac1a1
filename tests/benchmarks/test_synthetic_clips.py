"""Clips with known motion: flow, masks and what happens in them, against arithmetic done by hand."""

import numpy as np
import pytest
from media_factory import natural_image

from benchmarks.synthetic_clips import Clip, Layer, draw_texture, make_clips
from nst_ops.temporal.warp import warp

SIZE = (96, 64)


@pytest.fixture(scope="module")
def clips() -> dict[str, Clip]:
    return {clip.name: clip for clip in make_clips(size=SIZE, num_frames=12)}


def test_a_seed_decides_the_suite(clips: dict[str, Clip]) -> None:
    again = make_clips(size=SIZE, num_frames=12)
    other = make_clips(size=SIZE, num_frames=12, seed=1)
    for clip, same, different in zip(clips.values(), again, other, strict=True):
        assert clip.frames_thwc.shape == (12, 64, 96, 3)
        assert clip.frames_thwc.dtype == np.uint8
        np.testing.assert_array_equal(clip.frames_thwc, same.frames_thwc)
        assert (clip.frames_thwc != different.frames_thwc).mean() > 0.5


def test_a_pan_moves_every_pixel_by_its_velocity(clips: dict[str, Clip]) -> None:
    flow, valid = clips["fast pan"].motion(5, 3)
    np.testing.assert_allclose(flow, np.broadcast_to((9.2, -3.4), flow.shape), atol=1e-4)
    # What was out of view two frames earlier: 9.2 columns at the right, 3.4 rows at the top.
    assert valid[4:, :86].all()
    assert not valid[:3].any()
    assert not valid[:, 87:].any()


def test_a_zoom_leads_away_from_the_middle(clips: dict[str, Clip]) -> None:
    flow, valid = clips["zoom"].motion(2, 7)
    x, y = np.meshgrid(np.arange(96) - 47.5, np.arange(64) - 31.5)
    np.testing.assert_allclose(flow, (1.01**5 - 1) * np.stack([x, y], -1), atol=1e-4)
    assert not valid[0].any()
    assert valid[4:-4, 6:-6].all()


@pytest.mark.parametrize("name", ["pan", "fast pan", "zoom", "sprites", "cut"])
def test_a_frame_looked_up_along_the_flow_is_the_other_one(clips: dict[str, Clip], name: str) -> None:
    clip = clips[name]
    for frame, other in ((4, 3), (3, 4), (2, 5)):
        flow, valid = clip.motion(frame, other)
        assert valid.mean() > 0.7
        moved = warp(clip.frames_thwc[other].astype(np.float32), flow)
        wrong = np.abs(moved - clip.frames_thwc[frame])[valid]
        assert np.sqrt(np.square(wrong).mean()) < 2.5  # gray levels, of interpolation
    still = np.abs(clip.frames_thwc[2].astype(np.float32) - clip.frames_thwc[5])
    assert np.sqrt(np.square(still).mean()) > 3


def test_the_mask_of_a_sprite_is_where_it_is_or_was() -> None:
    background = np.full((200, 200, 3), 40, np.uint8)
    sprite = np.full((60, 60, 3), 200, np.uint8)
    poses = np.tile(np.eye(2, 3), (2, 1, 1))
    moving = poses.copy()
    moving[1, 0, 2] = 6.0
    layers = (Layer(background, poses), Layer(sprite, moving, radius_px=10.0))
    clip = Clip("one", np.zeros((2, 41, 61, 3), np.uint8), (layers,), (0, 0))
    flow, valid = clip.motion(1, 0)
    row = 20  # through the middle of the sprite, whose rim is 12.5 px to the right and 7.5 to the left
    now = (np.arange(61) - 36 <= 12.5) & (np.arange(61) - 36 >= -7.5)
    np.testing.assert_array_equal(flow[row, :, 0], np.where(now, -6.0, 0.0))
    before = np.roll(now, -6)
    uncovered = before & ~now
    assert uncovered.sum() == 6
    assert not valid[row][uncovered].any()
    # Pixels across its rim, now or where the background is followed to, show both.
    wanted = ~uncovered & ~_beside_edges(now) & ~(_beside_edges(before) & ~now)
    np.testing.assert_array_equal(valid[row], wanted)


def _beside_edges(mask: np.ndarray) -> np.ndarray:
    edges = np.flatnonzero(np.diff(mask.astype(int)))
    return np.isin(np.arange(len(mask)), [*edges, *(edges + 1)])


def test_nothing_is_found_again_across_a_cut(clips: dict[str, Clip]) -> None:
    clip = clips["cut"]
    assert clip.cuts == [6]
    assert not clip.motion(6, 5)[1].any()
    assert not clip.motion(2, 9)[1].any()
    assert clip.motion(7, 6)[1].mean() > 0.9
    assert all(other.cuts == [] for name, other in clips.items() if name != "cut")


def test_noise_and_exposure_are_as_configured(clips: dict[str, Clip]) -> None:
    noisy = clips["noise"].frames_thwc.astype(np.float64)
    assert noisy.std(axis=0, ddof=1).mean() == pytest.approx(4.0, rel=0.05)
    plain, exposed = (clips[name].frames_thwc[9].astype(np.float64) for name in ("pan", "exposure"))
    gain = 1 - 0.25 * np.sin(2 * np.pi * 9 / 48)
    np.testing.assert_allclose(exposed, plain * gain, atol=1.01)


def test_a_clip_can_be_made_from_any_image() -> None:
    image = np.asarray(natural_image("coffee", 50, 70))
    pan = make_clips(image, SIZE, num_frames=4)[0]
    assert pan.frames_thwc.shape == (4, 64, 96, 3)
    middle = pan.frames_thwc[2].mean(axis=(0, 1))
    np.testing.assert_allclose(middle, image[20:50, 10:40].mean(axis=(0, 1)), atol=15)


def test_the_texture_has_detail_of_all_sizes() -> None:
    texture = draw_texture((128, 128)).mean(axis=2)
    spectrum = np.abs(np.fft.fft2(texture - texture.mean()))
    bands = [spectrum[0, low:high].mean() for low, high in ((1, 4), (8, 16), (32, 64))]
    assert bands[0] > 3 * bands[1] > 6 * bands[2] > 0
