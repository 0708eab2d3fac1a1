"""Videos to uint8 frames and back, with PyAV, frame by frame.

Kept: the number of frames, each frame's own PTS in the source's time base, rotation, sample aspect ratio, color
matrix, range, transfer and primaries, audio and subtitle streams (copied packet by packet), chapters and metadata.

The way of a video: bytes (``source``), streams (``container``), decoded frames (``decoder``), RGB frames with their
times (``reader``, ``color``); back through ``writer``, with an encoder of ``encoders``, beside the sound that
``stream_copy`` copies. ``segments`` cuts a long one, ``join`` puts it together without encoding again.
"""
