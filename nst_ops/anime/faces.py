"""Find the faces of a photograph: detector over the whole and over tiles, then landmarks and irises of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nst_ops.anime.arrays import FloatArray, UInt8Array, vector
from nst_ops.anime.landmarks import CHIN, FOREHEAD, LEFT_SIDE, RIGHT_SIDE
from nst_ops.anime.networks import FaceNetworks

MAX_FACES = 64  # of one photograph, the largest first
MIN_FACE_PX = 10.0  # height below which a face has no features to draw
_MIN_SCORE = 0.5  # of a detection in a tile; landmarks decide whether it is a face
_MIN_SCORE_WHOLE = 0.3
_MIN_PRESENCE = 0.5  # of the network of landmarks
_MIN_OVERLAP = 0.3  # intersection over union of boxes that are the same face
_TILE_SIDES_PX = 192  # tiles smaller than this have no faces that the whole does not show
_MAX_LEVELS = 3  # whole picture, halves, quarters


@dataclass(frozen=True)
class Face:
    """A face of a photograph. Pixels of the photograph; x to the right, y down."""

    points: FloatArray
    """Landmarks, (478, 3): x, y and depth."""
    presence: float
    """Probability that it is a face."""

    @property
    def height(self) -> float:
        """Distance from the top of the forehead to the chin."""
        return float(np.linalg.norm(self.points[FOREHEAD, :2] - self.points[CHIN, :2]))

    @property
    def yaw(self) -> float:
        """Turn of the head in degrees; 0 looks into the camera, positive to the right of the picture."""
        across = self.points[RIGHT_SIDE] - self.points[LEFT_SIDE]
        return float(np.degrees(np.arctan2(across[2], np.hypot(across[0], across[1]))))


def find_faces(image_hwc: UInt8Array, networks: FaceNetworks) -> list[Face]:
    """Return the faces of a photograph, at most ``MAX_FACES``, the smallest first."""
    scores, points = _detections(image_hwc, networks)
    faces: list[Face] = []
    for index in _distinct(scores, points):
        face = _landmarks(image_hwc, points[index], networks)
        if face and face.height >= MIN_FACE_PX and not any(_same(face, other) for other in faces):
            faces.append(face)
    return sorted(faces, key=lambda face: face.height)[-MAX_FACES:]


def _detections(image_hwc: UInt8Array, networks: FaceNetworks) -> tuple[FloatArray, FloatArray]:
    """Detect in tiles; return scores, (N,), and points, (N, 8, 2), in pixels of the image."""
    all_scores: list[FloatArray] = []
    all_points: list[FloatArray] = []
    for x, y, side in _tiles(image_hwc.shape[1], image_hwc.shape[0]):
        tile = _square(image_hwc, x, y, side)
        scores, points = networks.detect(tile)
        whole = side >= max(image_hwc.shape[:2])
        found = scores > (_MIN_SCORE_WHOLE if whole else _MIN_SCORE)
        all_scores.append(scores[found])
        all_points.append(points[found] * side + vector([x, y]))
    return np.concatenate(all_scores), np.concatenate(all_points)


def _tiles(width: int, height: int) -> Iterator[tuple[int, int, int]]:
    """Yield x, y and side of squares: around the whole, then overlapping ones of half the side, and so on."""
    longest = max(width, height)
    yield (width - longest) // 2, (height - longest) // 2, longest
    wide = round(longest * 1.6)  # a face that fills the picture looks like one with room around it
    yield (width - wide) // 2, (height - wide) // 2, wide
    for level in range(1, _MAX_LEVELS):
        side = longest >> level
        if side < _TILE_SIDES_PX:
            return
        for y in _starts(height, side):
            for x in _starts(width, side):
                yield x, y, side


def _starts(length: int, side: int) -> list[int]:
    """Return where tiles of a side begin that overlap by a third or more and reach both ends."""
    if length <= side:
        return [(length - side) // 2]
    count = int(np.ceil((length - side) / (side * 2 / 3))) + 1
    return [round(start) for start in np.linspace(0, length - side, count)]


def _square(image_hwc: UInt8Array, x: int, y: int, side: int) -> UInt8Array:
    """Cut a square out, black where it reaches over the image."""
    height, width, _ = image_hwc.shape
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + side, width), min(y + side, height)
    square = np.zeros((side, side, 3), np.uint8)
    square[top - y : bottom - y, left - x : right - x] = image_hwc[top:bottom, left:right]
    return square


def _distinct(scores: FloatArray, points: FloatArray) -> list[int]:
    """Return one detection of each face, the surest, in falling order of how sure they are."""
    corners = points[:, :2].reshape(-1, 4)
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if all(_overlap(corners[index], corners[other]) < _MIN_OVERLAP for other in kept):
            kept.append(int(index))
            if len(kept) == 2 * MAX_FACES:
                break
    return kept


def _overlap(a: FloatArray, b: FloatArray) -> float:
    """Return the intersection over union of two boxes (left, top, right, bottom)."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if (sides <= 0).any():
        return 0.0
    common = float(np.prod(sides))
    return common / float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common)


def _landmarks(image_hwc: UInt8Array, detected: FloatArray, networks: FaceNetworks) -> Face | None:
    """Find the landmarks in the box of a detection, then again in the box of those landmarks."""
    center, side = detected[:2].mean(0), 1.5 * float(np.max(detected[1] - detected[0]))
    across = detected[3] - detected[2]
    points = np.zeros((0, 3), np.float32)
    presence = 0.0
    for _ in range(2):
        if side < 4:
            return None
        points, presence = networks.landmarks(image_hwc, center, side, float(np.arctan2(across[1], across[0])))
        if presence < _MIN_PRESENCE:
            return None
        low, high = points[:, :2].min(0), points[:, :2].max(0)
        center, side = (low + high) / 2, 1.5 * float(np.max(high - low))
        across = points[263, :2] - points[33, :2]
    return Face(networks.refine_eyes(image_hwc, points), presence)


def _same(face: Face, other: Face) -> bool:
    """Whether the boxes of two faces share more than a third of the smaller one."""
    boxes = [(each.points[:, :2].min(0), each.points[:, :2].max(0)) for each in (face, other)]
    common = np.minimum(boxes[0][1], boxes[1][1]) - np.maximum(boxes[0][0], boxes[1][0])
    smaller = min(float(np.prod(high - low)) for low, high in boxes)
    return bool((common > 0).all() and float(np.prod(common)) > smaller / 3)
