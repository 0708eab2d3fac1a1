"""Videos to uint8 frames and back, with PyAV, frame by frame.

Kept: the number of frames, each frame's own PTS in the source's time base, rotation, sample aspect ratio,
color matrix, range, transfer and primaries, audio and subtitle streams (copied packet by packet), chapters
and metadata. A long video can be read and written in segments that are joined without encoding again.

The way of a video: bytes (``source``), streams (``container``), decoded frames (``decoder``), RGB frames
with their times (``reader``, ``color``); back through ``writer``, with an encoder of ``encoders``, beside
the sound that ``stream_copy`` copies. ``segments`` cuts a long one, ``join`` puts it together.
"""

from nst_ops.media.video.container import (
    Frame,
    VideoHeader,
    VideoInfo,
    container_takes,
    count_packets,
    even_size,
    read_header,
)
from nst_ops.media.video.join import join_segments
from nst_ops.media.video.reader import AnimationReader, VideoReader
from nst_ops.media.video.segments import PacketIndex, Segment, Selection, cut_segments, read_index
from nst_ops.media.video.writer import FRAME_TABLE, FrameFolderWriter, VideoWriter

__all__ = [
    "FRAME_TABLE",
    "AnimationReader",
    "Frame",
    "FrameFolderWriter",
    "PacketIndex",
    "Segment",
    "Selection",
    "VideoHeader",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "container_takes",
    "count_packets",
    "cut_segments",
    "even_size",
    "join_segments",
    "read_header",
    "read_index",
]
