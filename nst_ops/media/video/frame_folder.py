"""A video as a folder of numbered pictures and a table of their times."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from PIL import Image

from nst_ops.media.video.container import Frame, VideoInfo

FRAME_TABLE = "frames.csv"
"""Columns: ``name`` and ``sha256`` of the picture, ``pts_s`` and ``duration_s`` on the source's clock."""


class FrameFolderWriter:
    """Writes frames as ``000000.png``, ``000001.png``, ..., upright, and ``frames.csv`` beside them.

    The same interface as ``VideoWriter``. Frames have their own size, odd ones included.

    Args:
        folder: an empty folder.
        info: the source, as its reader described it.
    """

    def __init__(self, folder: str, info: VideoInfo) -> None:
        self.notes = list(info.notes)
        if info.audio_codecs:
            self.notes.append("its sound is left out: pictures hold none")
        if info.sample_aspect_ratio not in (None, 1):
            self.notes.append(f"its pixels are {info.sample_aspect_ratio} times as wide as high")
        self._folder = Path(folder)
        self._info = info
        self._num_frames = 0
        self._file = (self._folder / FRAME_TABLE).open("w", encoding="utf-8", newline="")
        self._table = csv.writer(self._file, lineterminator="\n")
        self._table.writerow(["name", "sha256", "pts_s", "duration_s"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, frame: Frame) -> None:
        """Write one frame."""
        name = f"{self._num_frames:06d}.png"
        upright_hwc = np.rot90(frame.rgb_hwc, round(self._info.rotation / 90))
        # The lowest level takes a third of the time and an eighth more room.
        encoded = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(upright_hwc)).save(encoded, format="PNG", compress_level=1)
        (self._folder / name).write_bytes(encoded.getbuffer())
        sha256 = hashlib.sha256(encoded.getbuffer()).hexdigest()
        times = (float(time * self._info.time_base) for time in (frame.pts, frame.duration))
        self._table.writerow([name, sha256, *times])
        self._num_frames += 1
