"""Measure how steady stylized videos are; frames are uint8 RGB (T, H, W, 3)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from nst_ops.evaluation.evaluator import StyleSet
from nst_ops.evaluation.image_metrics import gram_error
from nst_ops.evaluation.metrics import Metric
from nst_ops.evaluation.run import Row
from nst_ops.media.errors import UnsupportedMediaError
from nst_ops.media.images import UInt8Array
from nst_ops.media.style_images import Style
from nst_ops.models.vgg import VGGFeatures
from nst_ops.temporal.flow import DisFlow
from nst_ops.temporal.metrics import Motion, estimated_motion, high_frequency_energy, luminance_flicker, warping_errors
from nst_ops.temporal.scenes import is_scene_cut

SOURCE = "source"
GAPS = (1, 10)  # frames apart: what flickers, and what drifts away
_CHANGE = "mean squared change along the motion, in [0, 1]; the source's is noise and estimation"
_RATIO = "the same in multiples of the source's: 1 is as steady as filmed"
FIGURES = {
    **{f"warping_error_{gap}": Metric(f"warping error, {gap} apart", _CHANGE, "lower") for gap in GAPS},
    **{f"warping_ratio_{gap}": Metric(f"... to the source's, {gap} apart", _RATIO, "lower") for gap in GAPS},
    "luminance_flicker": Metric(
        "luminance flicker", "how much whole frames jump in brightness beyond the source, in gray levels", "lower"
    ),
    "high_frequency_energy": Metric("high-frequency energy", "fine texture, luma squared in [0, 1]", ""),
    "gram": Metric("Gram error", "feature correlations against the style's: 0 the same, 1 none", "lower"),
}

_SMALLEST = 32  # pixels of a side below which neither motion nor style can be measured
_FEWEST = 3
_STYLE_FRAMES = 4


@dataclass(frozen=True)
class Excerpt:
    """Frames of a source, and how they move: exactly, or as estimated."""

    name: str
    source_thwc: UInt8Array = field(repr=False)
    motion: Motion = field(repr=False)
    cuts: Sequence[int] = ()  # numbers of the frames that begin another scene

    @classmethod
    def estimate(cls, name: str, source_thwc: UInt8Array) -> Excerpt:
        """Estimate motion by DIS flow at the frames' own size; raises UnsupportedMediaError for too few or small."""
        num_frames, height, width = source_thwc.shape[:3]
        if num_frames < _FEWEST:
            raise UnsupportedMediaError(f"{num_frames} frames: flicker shows in {_FEWEST} or more")
        if min(height, width) < _SMALLEST:
            raise UnsupportedMediaError(f"{width}x{height} px: sides below {_SMALLEST} cannot be measured")
        cuts = [t for t in range(1, num_frames) if is_scene_cut(source_thwc[t - 1], source_thwc[t])]
        return cls(name, source_thwc, estimated_motion(source_thwc, DisFlow(), cuts), cuts)


class VideoEvaluator:
    """Measures stylized versions of an excerpt; without ``vgg`` all but the distance to the style at its ``taps``."""

    def __init__(
        self, styles: Iterable[Style], vgg: VGGFeatures | None, taps: Sequence[str], device: torch.device | str = "cpu"
    ) -> None:
        self._vgg, self._taps, self._device = vgg, list(taps) if vgg else [], device
        with torch.inference_mode():
            self._styles = StyleSet(styles, vgg.to(device) if vgg else None, self._taps, device=device)

    def __call__(
        self, excerpt: Excerpt, versions: Mapping[str, UInt8Array], style: str = ""
    ) -> dict[str, dict[str, float]]:
        """Measure the ``FIGURES`` of every version by name, and of the source by ``SOURCE``; nan where one cannot be.

        Where ``style`` is not among the style images, their average is taken.
        """
        every = {SOURCE: excerpt.source_thwc, **versions}
        figures: dict[str, dict[str, float]] = {name: {} for name in every}
        for gap in GAPS:
            errors = warping_errors(every, excerpt.motion, gap)
            for name, error in errors.items():
                figures[name][f"warping_error_{gap}"] = error
                figures[name][f"warping_ratio_{gap}"] = ratio(error, errors[SOURCE])
        for name, frames in every.items():
            figures[name] |= {
                "luminance_flicker": luminance_flicker(frames, excerpt.source_thwc, excerpt.cuts),
                "high_frequency_energy": high_frequency_energy(frames),
                "gram": self._gram(frames, style),
            }
        return figures

    def _gram(self, frames_thwc: UInt8Array, style: str) -> float:
        """Mean Gram error over taps and a few frames, evenly spread; nan without a network."""
        if self._vgg is None:
            return math.nan
        target, errors = self._styles.target(style), []
        with torch.inference_mode():
            for frame in frames_thwc[:: max(1, len(frames_thwc) // _STYLE_FRAMES)]:
                features = self._vgg(torch.from_numpy(frame).to(self._device).permute(2, 0, 1)[None].float() / 255)
                errors += [gram_error(features[tap], target.taps[tap]) for tap in self._taps]
        return float(torch.cat(errors).mean())


def ratio(figure: float, to: float) -> float:
    """``figure / to``; nan where ``to`` is 0."""
    return figure / to if to else math.nan


@dataclass(frozen=True)
class VideoResults:
    """The figures of evaluated videos.

    A row has a video's name, files, style, size, number of frames and the ``FIGURES``; the source's with ``source_``.
    """

    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    def means(self) -> dict[str, float]:
        """Mean of each figure over the videos that have it; nan where none has."""
        means = {}
        for name in [*FIGURES, *(f"{SOURCE}_{figure}" for figure in FIGURES)]:
            known = [row[name] for row in self.rows if math.isfinite(row[name])]
            means[name] = float(np.mean(known)) if known else math.nan
        return means
