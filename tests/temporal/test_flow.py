"""Flow estimators on motion that is known, and on frames of any size."""

import itertools

import cv2
import numpy as np
import pytest

from nst_ops.config.stylize import TemporalConfig
from nst_ops.temporal.flow import DisFlow, ReducedFlow, load_flow, reduced
from tests.media_factory import moving_frames, natural_image


def panned(width, height, x, y):
    around = np.asarray(natural_image("astronaut", width + 20, height + 20))
    first = around[10 : 10 + height, 10 : 10 + width]
    second = around[10 - y : 10 - y + height, 10 - x : 10 - x + width]
    return np.ascontiguousarray(first), np.ascontiguousarray(second)


@pytest.mark.parametrize("side", [320, 160])
def test_dis_finds_a_pan_at_full_and_at_reduced_size(side):
    a, b = panned(320, 180, 4, -2)
    flow = load_flow(TemporalConfig(flow="dis", flow_side=side), "cpu")(a, b)
    assert flow.dtype == np.float32
    error = np.linalg.norm(flow - [4, -2], axis=2)[10:-10, 10:-10]
    assert np.median(error) < 0.15


def test_auto_is_dis_on_the_cpu():
    a, b = panned(160, 90, 2, 1)
    auto, dis = (load_flow(TemporalConfig.model_validate({"flow": flow}), "cpu")(a, b) for flow in ("auto", "dis"))
    np.testing.assert_array_equal(auto, dis)


def test_dis_sees_motion_through_a_change_of_light():
    a, b = panned(320, 180, 3, 1)
    flow = DisFlow()(a, (b * 0.8).astype(np.uint8))
    error = np.linalg.norm(flow - [3, 1], axis=2)[10:-10, 10:-10]
    assert np.median(error) < 0.3


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (8, 8), (16, 16), (300, 16), (16, 300), (480, 2)])
def test_small_and_narrow_frames_have_flow_too(size):
    a, b = moving_frames(2, *size)
    flow = ReducedFlow(DisFlow(), 240)(a, b)
    assert flow.shape == (size[1], size[0], 2)
    assert np.isfinite(flow).all()


def test_flow_depends_neither_on_threads_nor_on_what_came_before():
    frames = moving_frames(4, 160, 90)
    before = cv2.getNumThreads()
    flows = []
    try:
        for threads in (1, 2, 4):
            cv2.setNumThreads(threads)
            estimate = DisFlow()
            flows.append([estimate(a, b) for a, b in itertools.pairwise(frames)])
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(flows[0], flows[1])
    np.testing.assert_array_equal(flows[0], flows[2])
    np.testing.assert_array_equal(flows[0][-1], DisFlow()(frames[-2], frames[-1]))


def test_small_frames_stay_as_they_are():
    frame = moving_frames(1, 64, 36)[0]
    assert reduced(frame, 64) is frame
    assert reduced(frame, 32).shape == (18, 32, 3)
    assert reduced(moving_frames(1, 300, 2)[0], 32).shape == (1, 32, 3)
