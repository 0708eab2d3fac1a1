"""Anime: faces are found and drawn, frame by frame, on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from nst_ops.anime.drawing import draw_photograph
from nst_ops.anime.networks import FaceNetworks, require_runtime
from nst_ops.config.stylize import AnimeConfig
from nst_ops.media.images import UInt8Array
from nst_ops.media.style_images import Style


class AnimeStylizer:
    """Stylizer that draws the heads of each frame; several threads may call it at once.

    Args:
        config: how heads and ground are drawn.

    Raises:
        ValueError: the packages of the extra are not installed.
    """

    def __init__(self, config: AnimeConfig) -> None:
        require_runtime()
        self.config = config
        self._of_thread = threading.local()

    def __call__(self, frames_nhwc: UInt8Array, styles: Sequence[Style] = ()) -> UInt8Array:
        """See ``Stylizer``."""
        if not hasattr(self._of_thread, "networks"):  # one of them serves one thread
            self._of_thread.networks = FaceNetworks()
        drawn = [draw_photograph(frame_hwc, self.config, self._of_thread.networks) for frame_hwc in frames_nhwc]
        self._of_thread.notes = [notes for _, notes in drawn]
        return np.stack([drawing_hwc for drawing_hwc, _ in drawn])

    @property
    def last_notes(self) -> list[list[str]]:
        """For each frame of this thread's last call, what of it is not as wished: no face, a profile."""
        notes: list[list[str]] = self._of_thread.notes
        return notes
