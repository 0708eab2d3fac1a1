"""Conversion between YUV and RGB by torch, here on the CPU: that of the host to a level, and as true to the image."""

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import VideoReformatter
from media_factory import natural_image

from nst_ops.media.video import color
from nst_ops.media.video.color import FULL, LIMITED, SWS_MATRIX, to_rgb, to_yuv
from nst_ops.media.video.writer import EncodedAs
from nst_ops.pipeline.device_frames import DeviceFrames
from nst_ops.temporal.metrics import psnr

MATRICES = pytest.mark.parametrize("matrix", sorted(set(SWS_MATRIX.values())))
RANGES = pytest.mark.parametrize("color_range", [LIMITED, FULL])
SIZE = (162, 98)
DEVICE = DeviceFrames(torch.device("cpu"))


def image(size=SIZE):
    return np.array(natural_image("astronaut", *size))


def encoded(pixel_format, matrix, color_range, size=SIZE):
    """Convert an image by swscale."""
    frame = VideoReformatter().reformat(
        av.VideoFrame.from_ndarray(image(size), format="rgb24"),
        format=pixel_format,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=FULL,
        dst_color_range=color_range,
        interpolation=color._TO_YUV,
    )
    frame.color_range = color_range
    return frame


def planes(frame):
    dtype = np.uint16 if "10" in frame.format.name else np.uint8
    return [
        np.frombuffer(plane, dtype).reshape(plane.height, -1)[:, : plane.width].astype(int) for plane in frame.planes
    ]


def differs(made, wanted):
    return np.abs(np.asarray(made).astype(int) - np.asarray(wanted))


@MATRICES
@RANGES
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p"])
def test_8_bit_frames_become_what_they_do_on_the_host(matrix, color_range, pixel_format):
    if pixel_format == "yuvj420p":
        color_range = FULL
    frame = encoded(pixel_format, matrix, color_range)
    rgb_hwc = DEVICE.to_rgb(VideoReformatter(), frame, SIZE, matrix)
    assert isinstance(rgb_hwc, torch.Tensor)
    np.testing.assert_array_equal(rgb_hwc, to_rgb(VideoReformatter(), frame, SIZE, matrix))


@MATRICES
@RANGES
@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p12le", "nv12", "p010le"])
def test_other_frames_come_as_near_to_the_image_as_by_swscale(matrix, color_range, pixel_format):
    frame = encoded(pixel_format, matrix, color_range)
    rgb_hwc = DEVICE.to_rgb(VideoReformatter(), frame, SIZE, matrix)
    assert isinstance(rgb_hwc, torch.Tensor)
    expected = to_rgb(VideoReformatter(), frame, SIZE, matrix)
    assert psnr(rgb_hwc.numpy()[None], expected[None]) > (50 if "444" in pixel_format else 42)
    least = min(psnr(expected[None], image()[None]) - 0.5, 60)
    assert psnr(rgb_hwc.numpy()[None], image()[None]) > least


@MATRICES
@RANGES
@pytest.mark.parametrize("size", [SIZE, (161, 97), (1, 1)])
@pytest.mark.parametrize("pixel_format", sorted(color.WRITTEN_PLANES))
def test_frames_for_the_encoder_are_those_of_the_host(matrix, color_range, pixel_format, size):
    wanted = EncodedAs(pixel_format, matrix, color_range)
    rgb_hwc = image(size)
    frame = DEVICE.start_yuv(torch.from_numpy(rgb_hwc), wanted)()
    expected = to_yuv(VideoReformatter(), rgb_hwc, *wanted)
    assert (frame.format.name, frame.width, frame.height) == (pixel_format, expected.width, expected.height)
    for made, other in zip(planes(frame), planes(expected), strict=True):
        assert differs(made, other).max() <= 1


@MATRICES
@RANGES
@pytest.mark.parametrize("pixel_format", sorted(color.WRITTEN_PLANES))
def test_an_image_comes_back_from_the_encoder_as_by_way_of_the_host(matrix, color_range, pixel_format):
    wanted = EncodedAs(pixel_format, matrix, color_range)
    frame = DEVICE.start_yuv(torch.from_numpy(image()), wanted)()
    by_host = to_yuv(VideoReformatter(), image(), *wanted)
    frame.color_range = by_host.color_range = color_range
    back = DEVICE.to_rgb(VideoReformatter(), frame, SIZE, matrix)
    expected = to_rgb(VideoReformatter(), by_host, SIZE, matrix)
    least = min(psnr(expected[None], image()[None]) - 0.5, 60)
    assert psnr(back.numpy()[None], image()[None]) > least


def test_what_it_does_not_know_goes_by_way_of_the_host():
    frame = encoded("yuv420p", 1, LIMITED)
    for size, pixel_format in (((80, 48), "rgb24"), (SIZE, "rgb48le")):
        expected = to_rgb(VideoReformatter(), frame, size, 1, pixel_format)
        np.testing.assert_array_equal(DEVICE.to_rgb(VideoReformatter(), frame, size, 1, pixel_format), expected)
    wanted = EncodedAs("gray", 1, FULL)
    made = DEVICE.start_yuv(torch.from_numpy(image()), wanted)()
    np.testing.assert_array_equal(planes(made)[0], planes(to_yuv(VideoReformatter(), image(), *wanted))[0])
