"""Conversion between YUV and RGB by OpenCV: what swscale gives, in a third of the time."""

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from media_factory import natural_image

from nst_ops.media.video import color
from nst_ops.media.video.color import FULL, LIMITED, SWS_MATRIX, to_rgb, to_yuv
from nst_ops.temporal.metrics import psnr

MATRICES = pytest.mark.parametrize("matrix", sorted(set(SWS_MATRIX.values())))
RANGES = pytest.mark.parametrize("color_range", [LIMITED, FULL])


def by_swscale(frame, pixel_format, matrix, color_range, interpolation):
    """Convert from RGB, or to it, with the flags that other formats are converted with."""
    from_rgb = frame.format.is_rgb
    source, target = (FULL, color_range) if from_rgb else (color_range, FULL)
    return VideoReformatter().reformat(
        frame,
        format=pixel_format,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=source,
        dst_color_range=target,
        interpolation=interpolation,
    )


def planes(frame):
    return [
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in frame.planes
    ]


@MATRICES
@RANGES
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p"])
def test_frames_are_converted_as_by_swscale(matrix, color_range, pixel_format):
    if pixel_format == "yuvj420p":
        color_range = FULL
    image = np.array(natural_image("astronaut", 162, 98))
    source = av.VideoFrame.from_ndarray(image, format="rgb24")
    frame = by_swscale(source, pixel_format, matrix, color_range, color._TO_YUV)
    frame.color_range = color_range
    expected = by_swscale(frame, "rgb24", matrix, color_range, color._TO_RGB).to_ndarray()
    rgb_hwc = to_rgb(VideoReformatter(), frame, (162, 98), matrix)
    assert psnr(rgb_hwc, expected) > (60 if pixel_format == "yuv444p" else 42)
    # chroma is enlarged by another kernel, which comes as near to the image
    assert psnr(rgb_hwc, image) > psnr(expected, image) - 0.5


@MATRICES
@RANGES
def test_frames_for_the_encoder_are_those_of_swscale(matrix, color_range):
    image = np.array(natural_image("astronaut", 162, 98))
    source = av.VideoFrame.from_ndarray(image, format="rgb24")
    expected = by_swscale(source, "yuv420p", matrix, color_range, color._TO_YUV)
    frame = to_yuv(VideoReformatter(), image, "yuv420p", matrix, color_range)
    assert frame.format.name == "yuv420p"
    for made, wanted in zip(planes(frame), planes(expected), strict=True):
        assert np.abs(made.astype(int) - wanted).max() <= 2


@pytest.mark.parametrize("size", [(161, 98), (162, 97), (1, 1)])
def test_odd_sizes_keep_their_size(size):
    image = np.array(natural_image("astronaut", *size))
    frame = to_yuv(VideoReformatter(), image, "yuv420p", 1, LIMITED)
    assert (frame.width, frame.height) == tuple(side + side % 2 for side in size)
    again = to_rgb(VideoReformatter(), frame, (frame.width, frame.height), 1)
    assert np.abs(again[: size[1], : size[0]].astype(int) - image).mean() < 6
