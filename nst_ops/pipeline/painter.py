"""Paints the frames of a film, those of a shot by the same statistics if the configuration says so."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nst_ops.media.images import UInt8Array
from nst_ops.media.video import Frame
from nst_ops.media.video.source import MediaSource
from nst_ops.pipeline.overlap import Timings
from nst_ops.pipeline.workbench import Workbench
from nst_ops.stylizers import Style, Stylizer
from nst_ops.temporal.scenes import Shot, read_samples, shot_at, survey_shots

Pair = tuple[Frame, UInt8Array]
"""Source and stylized frame."""


class Painter:
    """Stylizes a film in batches, each in every style.

    Args:
        bench: of the worker.
        styles: None for a network that has its own.
        source: of a video, whose shots are looked up there; None for an animation, which has none.
    """

    def __init__(self, bench: Workbench, styles: Sequence[Style | None], source: MediaSource | None) -> None:
        self._bench, self._styles, self._source = bench, styles, source
        self._shots: list[Shot] = []
        self._frozen: tuple[Shot, Stylizer] | None = None
        temporal = bench.config.temporal
        if source and temporal.freeze_statistics:
            self._shots = survey_shots(source, temporal.scene_threshold)

    def stylize(self, frames: Iterator[Frame], timings: Sequence[Timings]) -> Iterator[tuple[int, Pair]]:
        """The number of a style and a pair in it, batch by batch; each style has its own timings."""
        batch_size = self._bench.config.model.batch_size
        for shot, run in itertools.groupby(frames, key=self._shot):
            while batch := list(itertools.islice(run, batch_size)):
                frames_nhwc = np.stack([frame.rgb_hwc for frame in batch])
                for number, style in enumerate(self._styles):
                    started = time.perf_counter()
                    styles = [style] * len(batch)
                    stylized_nhwc = self._bench.paint(frames_nhwc, styles, self._stylizer(shot))
                    timings[number].stylize_s += time.perf_counter() - started
                    for pair in zip(batch, stylized_nhwc, strict=True):
                        yield number, pair

    def _shot(self, frame: Frame) -> Shot | None:
        return shot_at(self._shots, frame.pts) if self._shots else None

    def _stylizer(self, shot: Shot | None) -> Stylizer | None:
        """That of the shot, measured when its first frame comes; None for the worker's own."""
        if shot is None or self._source is None:
            return None
        if self._frozen is None or self._frozen[0] != shot:
            stylizer: Any = self._bench.stylizer  # of Johnson's kind: the run has seen to it
            samples_nhwc = read_samples(self._source, shot, self._bench.config.resize.max_side)
            self._frozen = shot, stylizer.frozen(stylizer.measure(samples_nhwc))
        return self._frozen[1]
