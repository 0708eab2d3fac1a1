"""Indices into the 478 landmarks of a face: MediaPipe's face mesh, then five points of each iris."""

from __future__ import annotations

from dataclasses import dataclass

from nst_ops.anime.arrays import FloatArray

NUM_LANDMARKS = 478
FOREHEAD, CHIN = 10, 152
LEFT_SIDE, RIGHT_SIDE = 234, 454  # of the picture
NOSE_TIP = 4
MOUTH_LEFT, MOUTH_RIGHT = 61, 291
INNER_LIPS_LEFT, INNER_LIPS_RIGHT, INNER_LIPS_TOP, INNER_LIPS_BOTTOM = 78, 308, 13, 14

_RIGHT_HALF = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377)
_LEFT_HALF = (152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)
OVAL = _RIGHT_HALF + _LEFT_HALF
OUTER_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
CHEEKS = (50, 280, 205, 425)
FACE_SKIN = (50, 280, 205, 425, 101, 330, 195, 5, 9, 36, 266)


class FaceMeasures:
    """Measures of a face by its landmarks."""

    points: FloatArray
    """Landmarks, (478, 2), in head coordinates."""

    @property
    def width(self) -> float:
        """Width of the face in face heights."""
        return float(self.points[RIGHT_SIDE, 0] - self.points[LEFT_SIDE, 0])

    @property
    def middle(self) -> float:
        """Where the middle of the face lies, x."""
        return float(self.points[RIGHT_SIDE, 0] + self.points[LEFT_SIDE, 0]) / 2


@dataclass(frozen=True)
class EyeIndices:
    """Landmarks of one eye and its brow; the contour runs from the outer corner along the lower lid, then the upper."""

    side: int
    """-1 for the eye on the left of the picture, 1 for the other."""
    contour: tuple[int, ...]
    outer: int
    inner: int
    upper: tuple[int, int, int]
    lower: tuple[int, int, int]
    iris: int
    brow: tuple[int, ...]
    brow_lower: tuple[int, ...]


EYES = (
    EyeIndices(
        -1,
        (33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173),
        33,
        133,
        (159, 158, 160),
        (145, 153, 144),
        468,
        (70, 63, 105, 66, 107),
        (46, 53, 52, 65, 55),
    ),
    EyeIndices(
        1,
        (263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398),
        263,
        362,
        (386, 385, 387),
        (374, 380, 373),
        473,
        (300, 293, 334, 296, 336),
        (276, 283, 282, 295, 285),
    ),
)
