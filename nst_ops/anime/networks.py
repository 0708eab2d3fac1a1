"""The four networks that see a face: detector, landmarks, iris, person mask; MediaPipe's, see models/LICENSE.mediapipe.

They run in LiteRT on one thread: the same numbers on every machine of one kind, and one picture per core at a time.
"""

from __future__ import annotations

import functools
import lzma
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nst_ops.anime.arrays import FloatArray, UInt8Array, sample
from nst_ops.anime.landmarks import EYES, NUM_LANDMARKS

MODELS = Path(__file__).with_name("models")
_DETECTOR_SIDE, _LANDMARKS_SIDE, _IRIS_SIDE, _PERSON_SIDE = 128, 192, 64, 256


class MissingExtraError(ValueError):
    """The packages of the extra are not installed."""


def require_runtime() -> None:
    """Check that the runtime of the networks is installed; raises MissingExtraError with the command that does it."""
    try:
        import ai_edge_litert  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("model.kind anime needs ai-edge-litert: pip install 'nst-ops[anime]'") from error


class FaceNetworks:
    """The four networks; one thread at a time may call them."""

    def __init__(self) -> None:
        require_runtime()
        self._detector = _load("face_detection_short_range.tflite")
        self._landmarks = _load("face_landmark.tflite")
        self._iris = _load("iris_landmark.tflite")
        self._person = _load("selfie_segmentation.tflite")
        self._anchors = _detector_anchors()

    def detect(self, square_hwc: UInt8Array) -> tuple[FloatArray, FloatArray]:
        """Detect faces in a square image of any size.

        Returns scores, (N,), in 0 to 1, and for each of the N anchors 8 points, (N, 8, 2), in 0 to 1 of the side: two
        corners of the box, both eyes, nose, mouth, both ears.
        """
        image = cv2.resize(square_hwc, (_DETECTOR_SIDE, _DETECTOR_SIDE), interpolation=cv2.INTER_AREA)
        raw, logits = _run(self._detector, image.astype(np.float32) / 127.5 - 1)
        points = raw.reshape(-1, 8, 2) / _DETECTOR_SIDE
        points[:, 0] += self._anchors
        points[:, 2:] += self._anchors[:, None]
        center, half = points[:, 0].copy(), points[:, 1] / 2
        points[:, 0], points[:, 1] = center - half, center + half
        return _sigmoid(logits.reshape(-1)), points

    def landmarks(
        self, image_hwc: UInt8Array, center: FloatArray, side: float, angle: float
    ) -> tuple[FloatArray, float]:
        """Find the 468 landmarks of a face in a square of the image, turned by ``angle`` radians.

        Returns them, (468, 3), x, y and depth in pixels of the image, and the probability that a face is there.
        """
        crop, to_image = _crop(image_hwc, center, side, angle, _LANDMARKS_SIDE)
        raw, logit = _run(self._landmarks, crop.astype(np.float32) / 255)
        return _place(raw.reshape(-1, 3), to_image), float(_sigmoid(logit.reshape(-1))[0])

    def refine_eyes(self, image_hwc: UInt8Array, points: FloatArray) -> FloatArray:
        """Replace the contours of the eyes and add the irises: (468, 3) to (478, 3)."""
        refined = np.concatenate([points, np.zeros((NUM_LANDMARKS - len(points), 3), np.float32)])
        for eye in EYES:
            corners = points[[eye.outer, eye.inner], :2]
            along = (corners[1] - corners[0]) * -eye.side
            side = 2.3 * float(np.linalg.norm(along))
            angle = float(np.arctan2(along[1], along[0]))
            crop, to_image = _crop(image_hwc, corners.mean(0), side, angle, _IRIS_SIDE)
            if eye.side > 0:  # the network knows one eye; the other is its mirror image
                crop = crop[:, ::-1]
            contours, iris = (out.reshape(-1, 3) for out in _run(self._iris, crop.astype(np.float32) / 255))
            if eye.side > 0:
                contours[:, 0], iris[:, 0] = _IRIS_SIDE - contours[:, 0], _IRIS_SIDE - iris[:, 0]
            contour = list(eye.contour)
            refined[contour, :2] = _place(contours[:16], to_image)[:, :2]
            refined[eye.iris : eye.iris + 5] = _place(iris, to_image)
        return refined

    def person(self, image_hwc: UInt8Array) -> FloatArray:
        """Return the probability, (H, W), that a pixel belongs to a person."""
        height, width, _ = image_hwc.shape
        image = cv2.resize(image_hwc, (_PERSON_SIDE, _PERSON_SIDE), interpolation=cv2.INTER_AREA)
        (mask,) = _run(self._person, image.astype(np.float32) / 255)
        whole = cv2.resize(mask.reshape(_PERSON_SIDE, _PERSON_SIDE), (width, height), interpolation=cv2.INTER_LINEAR)
        return np.clip(np.asarray(whole, np.float32), 0, 1)


@functools.cache
def _read(name: str) -> bytes:
    return lzma.decompress((MODELS / f"{name}.xz").read_bytes())


def _load(name: str) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=_read(name), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def _run(interpreter: Any, image_hwc: FloatArray) -> list[FloatArray]:
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image_hwc[None].astype(np.float32))
    interpreter.invoke()
    return [np.array(interpreter.get_tensor(out["index"])[0]) for out in interpreter.get_output_details()]


def _sigmoid(logits: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -60, 60))), np.float32)


def _detector_anchors() -> FloatArray:
    """Centers of the detector's anchors, (896, 2): two per cell of a 16x16 grid, six per cell of an 8x8 grid."""
    grids = []
    for cells, per_cell in ((16, 2), (8, 6)):
        y, x = np.mgrid[0:cells, 0:cells]
        grids.append(np.repeat(np.stack([x.ravel(), y.ravel()], 1), per_cell, axis=0) / cells + 0.5 / cells)
    return np.concatenate(grids).astype(np.float32)


def _crop(image_hwc: UInt8Array, center: Any, side: float, angle: float, side_px: int) -> tuple[UInt8Array, FloatArray]:
    """Cut a turned square out of an image; return it, and the (2, 3) map from its pixels to the image's."""
    cos, sin = np.cos(angle) * side / side_px, np.sin(angle) * side / side_px
    matrix = np.array([[cos, -sin, 0], [sin, cos, 0]], np.float32)
    matrix[:, 2] = np.asarray(center) - matrix[:, :2] @ [side_px / 2, side_px / 2]
    return sample(image_hwc, matrix, side_px, side_px, cv2.BORDER_CONSTANT), matrix


def _place(points: FloatArray, to_image: FloatArray) -> FloatArray:
    """Map points of a crop, (N, 3), to the image; depth takes the scale."""
    placed = points.astype(np.float32)
    placed[:, :2] = points[:, :2] @ to_image[:, :2].T + to_image[:, 2]
    placed[:, 2] *= float(np.hypot(to_image[0, 0], to_image[1, 0]))
    return placed
