"""Videos to uint8 frames and back, with PyAV, frame by frame.

Kept: the number of frames, each frame's own PTS in the source's time base, orientation, sample aspect ratio, color
matrix, range, transfer and primaries, closed captions, audio, subtitle and telemetry streams (copied packet by packet),
chapters, timecode and metadata.

The way of a video: bytes (``source``), streams (``container``), decoded frames (``decoder``), RGB frames with their
times (``reader``, ``color``, ``hdr``); back through ``writer``, with an encoder of ``encoders``, beside the sound that
``stream_copy`` copies, with the ``captions`` that were in its frames. ``segments`` cuts a long one, ``join`` puts it
together without encoding again. ``structure`` finds holes between packets, ``programs`` tells the streams of a
broadcast apart.
"""
