"""Scene cuts and shots. A cut is a function of two neighboring frames alone, so it is the same in any segment."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from nst_ops.config.stylize import Hdr
from nst_ops.media.images import UInt8Array
from nst_ops.media.video.container import demux, open_whole, video_stream
from nst_ops.media.video.reader import VideoReader
from nst_ops.media.video.segments import Segment
from nst_ops.media.video.source import MediaSource
from nst_ops.temporal.operations import Array, operations_of

_THUMBNAIL = (64, 36)
_KEYFRAME = (128, 72)  # size at which keyframes are read
_REACH = (10, 6)  # pixels of a thumbnail that a pan may cover between two frames
_BINS = 8
_FLAT = 1.0  # gray levels of standard deviation


def is_scene_cut(previous_hwc: UInt8Array, next_hwc: UInt8Array, threshold: float = 0.35) -> bool:
    """Return whether a new scene begins between two neighboring frames: ``scene_distance`` above ``threshold``.

    From 1 on nothing is a cut.
    """
    return threshold < 1 and scene_distance(previous_hwc, next_hwc) > threshold


def scene_distance(previous_hwc: UInt8Array, next_hwc: UInt8Array) -> float:
    """Return how different two frames, uint8 sRGB of one size, look, in [0, 1].

    It is the geometric mean of a difference in color and one in layout: a flash or a fade changes the first, a fast pan
    or a passing thing the second, a cut both.
    """
    a, b = thumbnail(previous_hwc), thumbnail(next_hwc)
    # the share of the pixels whose color the other frame does not have
    color_difference = 1 - float(np.minimum(_colors(a), _colors(b)).sum())
    return float(np.sqrt(color_difference * _layout_difference(a, b)))


def thumbnail(frame_hwc: Array) -> UInt8Array:
    """Return what scenes are told apart by, on the host wherever the frame is: of a thumbnail the same again."""
    # Area averages take out noise, and make the cost the same for every size.
    width, height = _THUMBNAIL
    if not isinstance(frame_hwc, np.ndarray):
        operations = operations_of(frame_hwc)
        if frame_hwc.shape[0] >= height and frame_hwc.shape[1] >= width:  # else there is little to copy
            frame_hwc = operations.shrunk(frame_hwc, height, width)
        frame_hwc = operations.to_host(frame_hwc)
    return np.asarray(cv2.resize(frame_hwc, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _colors(rgb_hwc: UInt8Array) -> npt.NDArray[np.float32]:
    lab = cv2.cvtColor(rgb_hwc, cv2.COLOR_RGB2Lab)
    counts = cv2.calcHist([lab], [0, 1, 2], None, [_BINS] * 3, [0, 256] * 3)
    return np.asarray(counts / counts.sum(), np.float32)


def _layout_difference(a: UInt8Array, b: UInt8Array) -> float:
    """Return 1 less the correlation of the brightness of two frames, at the best shift."""
    brightness_a, brightness_b = (cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (a, b))
    contrasts = float(brightness_a.std()), float(brightness_b.std())
    if min(contrasts) < _FLAT:  # has no layout to correlate
        return float(max(contrasts) >= _FLAT)
    x, y = _REACH
    surrounded = cv2.copyMakeBorder(brightness_b, y, y, x, x, cv2.BORDER_REFLECT_101)
    correlations = cv2.matchTemplate(surrounded, brightness_a, cv2.TM_CCOEFF_NORMED)
    return float(np.clip(1 - correlations.max(), 0, 1))


@dataclass(frozen=True)
class Shot:
    """Frames between two scene cuts."""

    start_pts: int
    """PTS of its first keyframe, in the video's time base."""
    sample_pts: tuple[int, ...]
    """PTS of keyframes spread over it."""


def survey_shots(source: MediaSource, threshold: float = 0.35, max_samples: int = 4) -> list[Shot]:
    """Find the shots of a video, in order; every packet is read, but only keyframes are decoded.

    There are none where no keyframe has a time. Keyframes after the clock has stepped back belong to the last.

    Args:
        source: the video.
        threshold: see ``is_scene_cut``; 1 for one shot.
        max_samples: keyframes to name of each shot.

    Raises:
        UnreadableVideoError: it does not open, or holds no video stream.
    """
    reformatter, (width, height) = VideoReformatter(), _KEYFRAME
    shots: list[list[int]] = []
    before: UInt8Array | None = None
    for frame in _decode_keyframes(source):
        pts = frame.pts if frame.pts is not None else frame.dts
        if pts is None or (shots and pts <= shots[-1][-1]):
            continue
        small = reformatter.reformat(frame, width, height, format="rgb24", interpolation=Interpolation.AREA)
        thumbnail_hwc = np.asarray(small.to_ndarray(), np.uint8)
        if before is None or is_scene_cut(before, thumbnail_hwc, threshold):
            shots.append([])
        shots[-1].append(pts)
        before = thumbnail_hwc
    return [Shot(times[0], _spread(times, max_samples)) for times in shots]


def shot_at(shots: Sequence[Shot], pts: int) -> Shot:
    """Return the shot that the frame at ``pts`` belongs to; those before the first keyframe belong to the first."""
    return shots[max(0, bisect_right(shots, pts, key=lambda shot: shot.start_pts) - 1)]


def read_samples(source: MediaSource, shot: Shot, max_side: int | None = None, hdr: Hdr = "tonemap") -> UInt8Array:
    """Read the frames that a shot is sampled by, (N, H, W, 3), as ``VideoReader`` gives them, with its errors."""
    frames = []
    for pts in shot.sample_pts:
        alone = Segment(number=0, count=2, lead_pts=pts, start_pts=pts, end_pts=pts + 1, num_frames=1)
        with VideoReader(source, max_side, keep_damaged=True, segment=alone, hdr=hdr) as reader:
            frames.append(next(reader.frames()).rgb_hwc)
    return np.stack(frames)


def _decode_keyframes(source: MediaSource) -> Iterator[VideoFrame]:
    """Yield every keyframe, as far as the file can be read."""
    with open_whole(source) as container:
        stream = video_stream(container)
        stream.codec_context.skip_frame = "NONKEY"
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = 2  # as many as the reader's
        packets = demux(container, stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, FFmpegError):
                return  # the reader says what is wrong with the file
            try:
                frames = packet.decode()
            except FFmpegError:
                continue
            yield from (frame for frame in frames if frame.key_frame)


def _spread(times: Sequence[int], count: int) -> tuple[int, ...]:
    """Choose at most ``count`` times, each in the middle of its share."""
    count = min(count, len(times))
    return tuple(times[(2 * i + 1) * len(times) // (2 * count)] for i in range(count))
