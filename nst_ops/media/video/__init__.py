"""Videos to uint8 frames and back, with PyAV, frame by frame.

Kept: the number of frames, each frame's own PTS in the source's time base, rotation, sample
aspect ratio, colour matrix, range, transfer and primaries, audio and subtitle streams
(copied packet by packet), chapters and metadata. Written: H.264, 4:2:0, 8 bit.
"""

from nst_ops.media.video.animation import AnimationReader
from nst_ops.media.video.container import (
    Frame,
    VideoHeader,
    VideoInfo,
    container_takes,
    count_packets,
    even_size,
    read_header,
)
from nst_ops.media.video.reader import VideoReader
from nst_ops.media.video.writer import VideoWriter

__all__ = [
    "AnimationReader",
    "Frame",
    "VideoHeader",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "container_takes",
    "count_packets",
    "even_size",
    "read_header",
]
