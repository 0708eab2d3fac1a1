"""Motion that is known exactly: moving along it, putting it together, and where it cannot be trusted."""

import numpy as np
import pytest

from nst_ops.temporal.warp import compose, motion_edges, occlusion, resize_flow, warp
from tests.media_factory import moving_frames

HEIGHT, WIDTH = 40, 60


def constant(x, y, height=HEIGHT, width=WIDTH):
    return np.broadcast_to(np.array([x, y], np.float32), (height, width, 2)).copy()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_frame_moved_by_whole_pixels_is_found_again_exactly(dtype):
    frame = moving_frames(1, WIDTH, HEIGHT)[0].astype(dtype)
    moved = np.roll(frame, (2, 3), axis=(0, 1))
    found = warp(moved, constant(3, 2))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found[:-2, :-3], frame[:-2, :-3])


def test_what_lies_outside_repeats_the_border():
    frame = np.arange(WIDTH, dtype=np.float32)[None].repeat(HEIGHT, 0)
    np.testing.assert_array_equal(warp(frame, constant(100, 0)), WIDTH - 1)


def test_shifts_compose_to_their_sum():
    np.testing.assert_allclose(compose(constant(2, -1), constant(0.5, 3)), constant(2.5, 2))


def test_a_zoom_and_its_inverse_compose_to_standstill():
    y, x = np.indices((HEIGHT, WIDTH), np.float32)
    from_middle = np.stack([x - WIDTH / 2, y - HEIGHT / 2], axis=2)
    still = compose(from_middle * np.float32(1 / 1.05 - 1), from_middle * np.float32(0.05))
    assert np.abs(still).max() < 0.02


def test_only_ground_that_a_thing_moves_over_is_occluded():
    # A block of 10 px moves 8 px to the right over ground that stands still.
    forward, backward = constant(0, 0), constant(0, 0)
    forward[15:25, 20:30] = [8, 0]
    backward[15:25, 28:38] = [-8, 0]
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[15:25, 30:38] = True
    np.testing.assert_array_equal(occlusion(forward, backward), expected)


def test_what_leaves_the_frame_is_occluded():
    hidden = occlusion(constant(5, 0), constant(-5, 0))
    assert hidden[:, -5:].all()
    assert not hidden[:, :-5].any()


def test_only_large_errors_of_flow_are_occlusions():
    assert not occlusion(constant(0.3, 0), constant(0.2, 0)).any()
    assert occlusion(constant(1, 0), constant(1, 0)).all()


def test_motion_edges_are_the_outlines_of_what_moves():
    flow = constant(0, 0)
    flow[15:25, 20:30] = [8, 0]
    edges = motion_edges(flow)
    assert edges[14, 20:30].all()
    assert edges[15:25, 19].all()
    assert not edges[17:23, 22:28].any()
    assert not edges[:10].any()


def test_a_flow_at_another_size_is_the_same_motion():
    enlarged = resize_flow(constant(2, -1), 2 * HEIGHT, 3 * WIDTH)
    np.testing.assert_allclose(enlarged, constant(6, -2, 2 * HEIGHT, 3 * WIDTH), rtol=1e-6)
