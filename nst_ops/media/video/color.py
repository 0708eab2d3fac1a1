"""Color of videos: tags by ITU-T H.273, and conversion between YUV and RGB by them.

The formats that nearly all videos have are converted by OpenCV, as exactly as by swscale and in a third of the time.
Chroma is taken to lie in the middle of its pixels, both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from nst_ops.media.images import UInt8Array

UNSPECIFIED = 2
LIMITED, FULL = 1, 2
PQ, HLG = 16, 18  # transfer characteristics of high dynamic range
SWS_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # matrix coefficients to what swscale calls them
_EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
# Measured on a 4:2:0 frame and back: Lanczos up and area down lose the least chroma (53 dB in RGB against 49 dB for
# bicubic both ways, 45 dB without the exact flags).
_TO_RGB = Interpolation.LANCZOS | _EXACT
_TO_YUV = Interpolation.AREA | _EXACT
# Shares of red and blue in luma, of the matrices as swscale calls them: ITU-T H.273, table 4.
_RED_BLUE = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
_PLANAR = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p")
# Formats of which ``read_planes`` gives the planes: bits of a code, and by how many more it is shifted.
_BITS = {**dict.fromkeys(_PLANAR, (8, 0)), "nv12": (8, 0), "p010le": (10, 6)}
_BITS |= {f"yuv{sampling}p{bits}le": (bits, 0) for sampling in (420, 422, 444) for bits in (10, 12)}
WRITTEN_PLANES = {f"yuv{sampling}p": 8 for sampling in (420, 422, 444)}
WRITTEN_PLANES |= {f"{name}10le": 10 for name in WRITTEN_PLANES}
"""Bits of the formats that ``frame_of_planes`` makes."""


ToRgb = Callable[[VideoReformatter, VideoFrame, tuple[int, int], int, str], Any]
"""See ``to_rgb``."""


@dataclass(frozen=True)
class Color:
    """H.273 code points of a stream; 2 is unspecified and stays so."""

    matrix: int = UNSPECIFIED
    range: int = 0
    transfer: int = UNSPECIFIED
    primaries: int = UNSPECIFIED

    @property
    def is_hdr(self) -> bool:
        """Whether it is of high dynamic range."""
        return self.transfer in (PQ, HLG)

    @classmethod
    def of(cls, frame: VideoFrame) -> Color:
        """Return the color of a decoded frame; 0, which is reserved, is read as unspecified."""
        points = (frame.colorspace, frame.color_trc, frame.color_primaries)
        matrix, transfer, primaries = (int(point) if point else UNSPECIFIED for point in points)
        if frame.format.is_rgb or frame.format.has_palette:
            return cls(1, LIMITED, transfer, primaries)
        return cls(matrix, int(frame.color_range or 0), transfer, primaries)

    def written(self, height: int, output_height: int) -> Color:
        """Return the tags of the output; constant luminance (10) is decoded like 9 and so must be written as 9.

        An untagged source stays untagged, unless shrinking it would change what a player guesses from its size.
        """
        matrix = sws_matrix(self.matrix, height)
        if self.matrix == UNSPECIFIED and sws_matrix(UNSPECIFIED, output_height) != matrix:
            return replace(self, matrix=1 if matrix == SWS_MATRIX[1] else 6)
        return replace(self, matrix=9) if self.matrix == 10 else self


def sws_matrix(matrix: int, height: int) -> int:
    """Return swscale's name of a matrix; unspecified is BT.709 from 720 lines on, as players guess."""
    if matrix == UNSPECIFIED:
        matrix = 1 if height >= 720 else 6
    return SWS_MATRIX.get(matrix, SWS_MATRIX[6])


def side_data(frame: VideoFrame) -> Mapping[Type, Any]:
    """Return what a decoder attached to a frame, by type; nothing if PyAV does not know one of the types."""
    try:
        return cast("Mapping[Type, Any]", frame.side_data)
    except ValueError:
        return {}


class YuvPlanes(NamedTuple):
    """Planes of a decoded frame, rows with what the decoder has put behind them."""

    luma: NDArray[Any]  # uint8 or uint16, (H, at least W)
    chroma: tuple[NDArray[Any], ...]  # Cb and Cr; or both by turns in one
    width: int
    chroma_width: int
    bits: int  # of a code
    shift: int  # by which codes lie higher
    is_full: bool


def read_planes(frame: VideoFrame, size: tuple[int, int]) -> YuvPlanes | None:
    """Return the planes of a decoded frame, which share its memory; None for other formats, and where it is resized."""
    if frame.format.name not in _BITS or not _keeps_size(frame, size):
        return None
    bits, shift = _BITS[frame.format.name]
    dtype = np.dtype(np.uint8 if bits == 8 else "<u2")
    luma, *chroma = (
        np.frombuffer(memoryview(plane), dtype).reshape(-1, plane.line_size // dtype.itemsize)[: plane.height]
        for plane in frame.planes
    )
    return YuvPlanes(luma, tuple(chroma), frame.width, frame.planes[1].width, bits, shift, _is_full(frame))


def frame_of_planes(planes: Sequence[NDArray[Any]], pixel_format: str) -> VideoFrame:
    """Return a frame of Y, Cb and Cr, uint8 or uint16 (H, W), in one of ``WRITTEN_PLANES``."""
    height, width = planes[0].shape
    frame = VideoFrame(width, height, pixel_format)
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(memoryview(plane), values.dtype).reshape(-1, plane.line_size // values.itemsize)
        rows[: plane.height, : values.shape[1]] = values
    return frame


def to_rgb(
    reformatter: VideoReformatter, frame: VideoFrame, size: tuple[int, int], matrix: int, pixel_format: str = "rgb24"
) -> NDArray[Any]:
    """Convert a decoded frame to RGB (H, W, 3) of ``size`` (width, height), its transfer as it was.

    ``matrix`` is swscale's; ``rgb24`` gives uint8, ``rgb48le`` uint16 of full range.
    """
    if pixel_format == "rgb24" and frame.format.name in _PLANAR and _keeps_size(frame, size):
        return _planes_to_rgb(frame, matrix)
    rgb = reformatter.reformat(
        frame,
        width=size[0],
        height=size[1],
        format=pixel_format,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=FULL if frame.color_range == FULL else LIMITED,
        dst_color_range=FULL,
        interpolation=_TO_RGB,
    )
    return np.asarray(rgb.to_ndarray())


def to_yuv(
    reformatter: VideoReformatter, rgb_hwc: UInt8Array, pixel_format: str, matrix: int, color_range: int
) -> VideoFrame:
    """Convert uint8 RGB (H, W, 3) to a frame for an encoder, odd sides padded to even ones."""
    height, width = rgb_hwc.shape[:2]
    if height % 2 or width % 2:
        rgb_hwc = np.pad(rgb_hwc, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    if pixel_format == "yuv420p":
        return _rgb_to_420(rgb_hwc, matrix, is_full=color_range == FULL)
    return reformatter.reformat(
        VideoFrame.from_ndarray(rgb_hwc, format="rgb24"),
        format=pixel_format,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=FULL,
        dst_color_range=FULL if color_range == FULL else LIMITED,
        interpolation=_TO_YUV,
    )


def _planes_to_rgb(frame: VideoFrame, matrix: int) -> UInt8Array:
    """Convert a frame of 8-bit planes and even sides to RGB: chroma is enlarged by cubic interpolation."""
    luma, *chroma = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in frame.planes
    )
    size = frame.width, frame.height
    planes = [luma, *(cv2.resize(plane, size, interpolation=cv2.INTER_CUBIC) for plane in chroma)]
    return np.asarray(cv2.transform(cv2.merge(planes), rgb_of_yuv(matrix, _is_full(frame))), np.uint8)


def _rgb_to_420(rgb_hwc: UInt8Array, matrix: int, is_full: bool) -> VideoFrame:
    """Convert RGB with even sides to ``yuv420p``: chroma is that of the mean of four pixels."""
    height, width = rgb_hwc.shape[:2]
    luma_row, *chroma_rows = yuv_of_rgb(matrix, is_full)
    planes = np.empty((height * 3 // 2, width), np.uint8)  # one below the other, as PyAV takes them
    cv2.transform(rgb_hwc, luma_row[None], planes[:height])
    half_hwc = cv2.resize(rgb_hwc, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    places = planes[height:].reshape(2, height // 2, width // 2)
    for row, place in zip(chroma_rows, places, strict=True):
        cv2.transform(half_hwc, row[None], place)
    return VideoFrame.from_ndarray(planes, format="yuv420p")


def _keeps_size(frame: VideoFrame, size: tuple[int, int]) -> bool:
    # swscale resizes, too, and stretches the chroma of odd sizes as encoders do
    return size == (frame.width, frame.height) and not (size[0] % 2 or size[1] % 2)


def _is_full(frame: VideoFrame) -> bool:
    return bool(frame.color_range == FULL or frame.format.name.startswith("yuvj"))


def rgb_of_yuv(matrix: int, is_full: bool, bits: int = 8) -> NDArray[np.float64]:
    """Return the inverse of ``yuv_of_rgb``, (3, 4) too."""
    to_yuv = yuv_of_rgb(matrix, is_full, bits)
    to_rgb = np.linalg.inv(to_yuv[:, :3])
    return np.hstack([to_rgb, -to_rgb @ to_yuv[:, 3:]])


def yuv_of_rgb(matrix: int, is_full: bool, bits: int = 8) -> NDArray[np.float64]:
    """Return the affine map, (3, 4), of 8-bit RGB to codes of Y, Cb and Cr: ITU-T H.273, section 8.3."""
    red, blue = _RED_BLUE[matrix]
    luma = np.array([red, 1 - red - blue, blue])
    cb = (np.array([0, 0, 1]) - luma) / (2 * (1 - blue))
    cr = (np.array([1, 0, 0]) - luma) / (2 * (1 - red))
    step = 1 << (bits - 8)
    luma_gain, chroma_gain, black = 219 / 255 * step, 224 / 255 * step, 16 * step
    if is_full:
        luma_gain = chroma_gain = ((1 << bits) - 1) / 255
        black = 0
    offsets = [black, 128 * step, 128 * step]
    return np.column_stack([np.stack([luma_gain * luma, chroma_gain * cb, chroma_gain * cr]), offsets])
