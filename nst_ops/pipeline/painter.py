"""Paints the frames of a film, those of a shot by the same statistics if the configuration says so."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from nst_ops.media.images import UInt8Array
from nst_ops.media.video import Frame
from nst_ops.pipeline.overlap import Timings
from nst_ops.pipeline.workbench import Workbench
from nst_ops.stylizers import Style, Stylizer
from nst_ops.temporal.shots import Shot, read_samples, shot_at, survey_shots


class Painter:
    """Stylizes a film in batches.

    Args:
        bench: of the worker.
        style: None for a network that has its own.
        path: of a video, whose shots are looked up there; None for an animation, which has none.
    """

    def __init__(self, bench: Workbench, style: Style | None, path: str | None) -> None:
        self._bench, self._style, self._path = bench, style, path
        self._shots: list[Shot] = []
        self._frozen: tuple[Shot, Stylizer] | None = None
        temporal = bench.config.temporal
        if path and temporal.freeze_statistics:
            self._shots = survey_shots(path, temporal.scene_threshold)

    def stylize(self, frames: Iterator[Frame], timings: Timings) -> Iterator[tuple[Frame, UInt8Array]]:
        """Pairs of source and stylized frame."""
        batch_size = self._bench.config.model.batch_size
        for shot, run in itertools.groupby(frames, key=self._shot):
            while batch := list(itertools.islice(run, batch_size)):
                started = time.perf_counter()
                frames_nhwc = np.stack([frame.rgb_hwc for frame in batch])
                styles = [self._style] * len(batch)
                stylized_nhwc = self._bench.paint(frames_nhwc, styles, self._stylizer(shot))
                timings.stylize_s += time.perf_counter() - started
                yield from zip(batch, stylized_nhwc, strict=True)

    def _shot(self, frame: Frame) -> Shot | None:
        return shot_at(self._shots, frame.pts) if self._shots else None

    def _stylizer(self, shot: Shot | None) -> Stylizer | None:
        """That of the shot, measured when its first frame comes; None for the worker's own."""
        if shot is None or self._path is None:
            return None
        if self._frozen is None or self._frozen[0] != shot:
            stylizer: Any = self._bench.stylizer  # of Johnson's kind: the run has seen to it
            samples_nhwc = read_samples(self._path, shot, self._bench.config.resize.max_side)
            self._frozen = shot, stylizer.frozen(stylizer.measure(samples_nhwc))
        return self._frozen[1]
