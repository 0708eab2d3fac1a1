"""Scene cuts between two frames."""

import numpy as np
import pytest

from nst_ops.temporal.scenes import is_scene_cut, scene_distance
from tests.media_factory import moving_frames, natural_image

ASTRONAUT, COFFEE, CAT = (np.asarray(natural_image(name, 160, 90)) for name in ("astronaut", "coffee", "chelsea"))


@pytest.mark.parametrize(("a", "b"), [(ASTRONAUT, COFFEE), (COFFEE, CAT), (CAT, ASTRONAUT)])
def test_another_image_is_another_scene(a, b):
    assert is_scene_cut(a, b)
    assert is_scene_cut(b, a)


def test_motion_light_and_noise_are_no_cuts():
    noise = np.random.default_rng(0).normal(0, 12, ASTRONAUT.shape)
    still = {
        "same": ASTRONAUT,
        "pan": moving_frames(2, 160, 90),
        "dark": ASTRONAUT * 0.6,
        "flash": ASTRONAUT * 0.5 + 127,
        "noise": ASTRONAUT + noise,
    }
    a, b = still.pop("pan")
    assert not is_scene_cut(a, b)
    for name, changed in still.items():
        assert not is_scene_cut(ASTRONAUT, np.clip(changed, 0, 255).astype(np.uint8)), name


def test_distance_is_symmetric_and_within_its_range():
    assert scene_distance(ASTRONAUT, COFFEE) == pytest.approx(scene_distance(COFFEE, ASTRONAUT), abs=0.1)
    assert 0 <= scene_distance(ASTRONAUT, ASTRONAUT) < 0.01
    black = np.zeros_like(ASTRONAUT)
    assert scene_distance(black, black) == 0
    assert 0.5 < scene_distance(black, ASTRONAUT) <= 1


def test_a_threshold_of_one_knows_no_cuts():
    assert not is_scene_cut(np.zeros_like(ASTRONAUT), np.full_like(ASTRONAUT, 255), threshold=1)


def test_frames_of_one_pixel_can_be_compared():
    black, white = np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)
    assert not is_scene_cut(black, black)
    assert 0 <= scene_distance(black, white) <= 1
