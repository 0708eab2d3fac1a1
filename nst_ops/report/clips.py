"""Short clips of stylized videos that every browser plays, beside their source."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import cv2
import numpy as np

from nst_ops.config import VideoConfig
from nst_ops.media.video import Frame, Selection, VideoReader, VideoWriter
from nst_ops.media.video.source import MediaSource

CLIP_S = 5.0
_SIDE = 480
_CONFIG = VideoConfig(crf=24, preset="veryfast")  # H.264 of 8 bit, 4:2:0


def write_clip(path: str, stylized: MediaSource, source: MediaSource | None, selection: Selection) -> None:
    """Write the first seconds of a stylized video as MP4, upright.

    Args:
        path: local file to write.
        stylized: video to show.
        source: what it was made from, to stand at its left; None to show it alone.
        selection: what of the source was stylized.

    Raises:
        MediaError: one of the two cannot be read.
        OSError: one of the two is not there.
    """
    with ExitStack() as readers:
        after = readers.enter_context(VideoReader(stylized, _SIDE, True, Selection(duration_s=CLIP_S)))
        turns = round(after.info.rotation / 90) % 4
        frames = after.frames()
        lefts: Iterator[Frame | None] = itertools.repeat(None)
        if source is not None:
            span = replace(selection, duration_s=min(CLIP_S, selection.duration_s or CLIP_S))
            lefts = readers.enter_context(VideoReader(source, _SIDE, True, span)).frames()
        shown = (_shown(left, right, turns) for left, right in zip(lefts, frames, strict=False))
        first = next(shown)
        height, width = first.rgb_hwc.shape[:2]
        aspect = after.info.sample_aspect_ratio
        aspect = 1 / aspect if aspect and turns % 2 else aspect
        info = replace(after.info, rotation=0, sample_aspect_ratio=aspect)
        with VideoWriter(path, "mp4", info, (width, height), None, _CONFIG) as writer:
            for frame in itertools.chain([first], shown):
                writer.write(frame)


def _shown(left: Frame | None, right: Frame, turns: int) -> Frame:
    """The frame upright, beside its source if there is one."""
    picture_hwc = np.rot90(right.rgb_hwc, turns)
    if left is not None:
        size = picture_hwc.shape[1], picture_hwc.shape[0]
        upright_hwc = np.ascontiguousarray(np.rot90(left.rgb_hwc, turns))
        left_hwc = cv2.resize(upright_hwc, size, interpolation=cv2.INTER_AREA)
        picture_hwc = np.concatenate([left_hwc, picture_hwc], axis=1)
    return Frame(right.pts, right.duration, np.ascontiguousarray(picture_hwc))
