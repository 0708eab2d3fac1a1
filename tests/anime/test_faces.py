"""Faces are found with their landmarks, whatever their size, place and tilt."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from nst_ops.anime.arrays import UInt8Array
from nst_ops.anime.faces import find_faces
from nst_ops.anime.landmarks import CHIN, EYES
from nst_ops.anime.networks import FaceNetworks


def test_landmarks_lie_on_the_features(photograph: UInt8Array, networks: FaceNetworks) -> None:
    (face,) = find_faces(photograph, networks)
    left, right = (face.points[eye.iris, :2] for eye in EYES)
    assert np.linalg.norm(left - [203, 100]) < 8  # seen in the picture
    assert np.linalg.norm(right - [249, 105]) < 8
    assert np.linalg.norm(face.points[CHIN, :2] - [219, 177]) < 10
    assert abs(face.yaw) < 20


@pytest.mark.parametrize("side", [128, 300, 1500])
def test_size_does_not_matter(photograph: UInt8Array, networks: FaceNetworks, side: int) -> None:
    (expected,) = find_faces(photograph, networks)
    scaled = cv2.resize(photograph, (side, side), interpolation=cv2.INTER_AREA)
    (face,) = find_faces(np.asarray(scaled), networks)
    off = face.points[:, :2] * (512 / side) - expected.points[:, :2]
    assert np.median(np.linalg.norm(off, axis=1)) < 0.03 * expected.height


@pytest.mark.parametrize("degrees", [-25, 25])
def test_tilt_does_not_matter(photograph: UInt8Array, networks: FaceNetworks, degrees: float) -> None:
    (expected,) = find_faces(photograph, networks)
    turn = cv2.getRotationMatrix2D((224, 120), degrees, 1.0)
    turned = cv2.warpAffine(photograph, turn, (512, 512), borderMode=cv2.BORDER_REFLECT)
    faces = find_faces(np.asarray(turned), networks)
    moved = expected.points[:, :2] @ turn[:, :2].T + turn[:, 2]
    offs = [np.median(np.linalg.norm(face.points[:, :2] - moved, axis=1)) for face in faces]
    assert min(offs) < 0.05 * expected.height


def test_small_faces_of_a_large_picture_are_found(portrait: UInt8Array, networks: FaceNetworks) -> None:
    crowd = np.tile(portrait, (4, 6, 1))
    faces = find_faces(crowd, networks)
    assert len(faces) == 24
    cells = {(int(face.points[CHIN, 0] // 178), int(face.points[CHIN, 1] // 218)) for face in faces}
    assert len(cells) == 24


def test_pictures_without_a_face(networks: FaceNetworks) -> None:
    assert find_faces(np.zeros((40, 60, 3), np.uint8), networks) == []
    rng = np.random.default_rng(0)
    assert find_faces(rng.integers(0, 256, (200, 300, 3), dtype=np.uint8), networks) == []
