"""Anime proportions and the frame of a head."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from nst_ops.anime.arrays import FloatArray, UInt8Array
from nst_ops.anime.faces import Face, find_faces
from nst_ops.anime.geometry import ThinPlateSpline, anime_proportions
from nst_ops.anime.head import HeadFrame, frame_of
from nst_ops.anime.landmarks import CHIN, EYES, FOREHEAD, INNER_LIPS, LEFT_SIDE, OUTER_LIPS, OVAL, RIGHT_SIDE
from nst_ops.anime.networks import FaceNetworks

_MIDLINE = (10, 152, 4, 13, 14, 0, 17)


def _mirrored(points: FloatArray) -> FloatArray:
    """Mirror landmarks at x = 0, and give each the index of its opposite."""
    partner = np.arange(len(points))
    half = len(OVAL) // 2
    pairs = [(OVAL[i], OVAL[-i]) for i in range(1, half)] + [(61, 291), (FOREHEAD, FOREHEAD), (CHIN, CHIN)]
    for name in ("outer", "inner", "iris"):
        pairs.append((getattr(EYES[0], name), getattr(EYES[1], name)))
    for name in ("contour", "brow", "brow_lower"):
        pairs += zip(getattr(EYES[0], name), getattr(EYES[1], name), strict=True)
    lips = len(OUTER_LIPS)
    pairs += [(OUTER_LIPS[i], OUTER_LIPS[(lips // 2 - i) % lips]) for i in range(lips)]
    pairs += [(INNER_LIPS[i], INNER_LIPS[(lips // 2 - i) % lips]) for i in range(lips)]
    for a, b in pairs:
        partner[a], partner[b] = b, a
    return (points * np.float32([-1, 1]))[partner]


@pytest.fixture(scope="module")
def face(portrait: UInt8Array, networks: FaceNetworks) -> Face:
    (face,) = find_faces(portrait, networks)
    return face


def test_a_symmetric_face_stays_symmetric(face: Face) -> None:
    _, points = frame_of(face, 178, 218)
    points[:, 0] -= points[CHIN, 0]
    symmetric = (points + _mirrored(points)) / 2
    assert_allclose(_mirrored(symmetric), symmetric, atol=1e-6)
    frame = HeadFrame(np.zeros(2, np.float32), np.float32([100, 0]), -1.2, -1.8, 1.2, 1.0)
    drawn = anime_proportions(symmetric, frame, softness=0.5).points
    used = [*OVAL, *OUTER_LIPS, *(index for eye in EYES for index in (*eye.contour, *eye.brow))]
    assert_allclose(_mirrored(drawn)[used], drawn[used], atol=2e-4)
    assert_allclose(drawn[[10, 152], 0], 0, atol=2e-4)


def test_anime_faces_have_low_eyes_a_small_mouth_and_a_slim_jaw(face: Face) -> None:
    frame, points = frame_of(face, 178, 218)
    drawn = anime_proportions(points, frame, softness=1.0).points
    assert all(drawn[eye.inner, 1] > points[eye.inner, 1] + 0.01 for eye in EYES)
    assert np.ptp(drawn[[61, 291], 0]) < 0.9 * np.ptp(points[[61, 291], 0])
    jaw = [172, 397]
    assert np.ptp(drawn[jaw, 0]) < 0.95 * np.ptp(points[jaw, 0])
    assert abs(np.ptp(drawn[[LEFT_SIDE, RIGHT_SIDE], 0]) / np.ptp(points[[LEFT_SIDE, RIGHT_SIDE], 0]) - 1) < 0.05


def test_the_way_back_undoes_the_proportions(face: Face) -> None:
    frame, points = frame_of(face, 178, 218)
    proportions = anime_proportions(points, frame, softness=0.5)
    assert np.abs(proportions.backward(proportions.points) - points).max() < 0.03


def test_a_spline_meets_its_targets_and_keeps_straight_what_is_far() -> None:
    rng = np.random.default_rng(0)
    source = rng.uniform(-1, 1, (30, 2)).astype(np.float32)
    shift = np.float32([0.3, -0.2])
    assert_allclose(ThinPlateSpline.fit(source, source + shift)(source * 3), source * 3 + shift, atol=1e-4)
    target = source + rng.normal(0, 0.02, source.shape).astype(np.float32)
    assert np.abs(ThinPlateSpline.fit(source, target)(source) - target).max() < 0.02


@pytest.mark.parametrize(("scale", "degrees"), [(1.0, 0), (2.5, 0), (1.0, 30), (0.5, -70), (3.0, 140)])
def test_head_coordinates_do_not_depend_on_size_and_tilt(face: Face, scale: float, degrees: float) -> None:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32) * scale
    moved = face.points.copy()
    moved[:, :2] = face.points[:, :2] @ turn.T + np.float32([4000, 4000])
    frame, points = frame_of(Face(moved, 1.0), 9000, 9000)
    _, expected = frame_of(face, 178, 218)
    assert_allclose(points, expected, atol=1e-3)
    assert frame.face_height_px == pytest.approx(face.height * scale, rel=1e-4)
    pixels = frame.to_pixels(points, 80.0)
    back = np.concatenate([pixels, np.ones((len(pixels), 1))], 1) @ frame.to_photograph(80.0).T
    assert_allclose(back, moved[:, :2] - 0.0, atol=0.02 * scale * face.height)
