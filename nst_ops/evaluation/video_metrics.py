"""Measure how steady stylized videos are: flicker, drift, texture and style, frame against frame.

Shapes: T frames, H and W pixels; frames are uint8 RGB (T, H, W, 3).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from nst_ops.evaluation.evaluator import StyleSet
from nst_ops.evaluation.image_metrics import gram_error
from nst_ops.evaluation.metrics import Metric
from nst_ops.media.errors import UnsupportedMediaError
from nst_ops.media.images import UInt8Array
from nst_ops.media.style_images import Style
from nst_ops.models.vgg import VGGFeatures
from nst_ops.temporal.flow import DisFlow
from nst_ops.temporal.metrics import Motion, estimated_motion, high_frequency_energy, luminance_flicker, warping_errors
from nst_ops.temporal.scenes import is_scene_cut

SOURCE = "source"
GAPS = (1, 10)
"""Frames apart: what flickers, and what drifts away."""
FIGURES = {
    **{
        f"warping_error_{gap}": Metric(
            f"warping error, {gap} apart",
            "mean squared change along the motion, in [0, 1]; the source's is noise and estimation",
            "lower",
        )
        for gap in GAPS
    },
    **{
        f"warping_ratio_{gap}": Metric(
            f"... to the source's, {gap} apart",
            "the same in multiples of the source's: 1 is as steady as filmed",
            "lower",
        )
        for gap in GAPS
    },
    "luminance_flicker": Metric(
        "luminance flicker", "how much whole frames jump in brightness beyond the source, in gray levels", "lower"
    ),
    "high_frequency_energy": Metric("high-frequency energy", "fine texture, luma squared in [0, 1]", ""),
    "gram": Metric("Gram error", "feature correlations against the style's: 0 the same, 1 none", "lower"),
}

_SMALLEST = 32
"""Pixels of a side below which neither motion nor style can be measured."""
_FEWEST = 3
_STYLE_FRAMES = 4


@dataclass(frozen=True)
class Excerpt:
    """Frames of a source, and how they move.

    Attributes:
        name: for tables.
        source_thwc: uint8 RGB (T, H, W, 3).
        motion: exact or estimated.
        cuts: numbers of the frames that begin another scene.
    """

    name: str
    source_thwc: UInt8Array = field(repr=False)
    motion: Motion = field(repr=False)
    cuts: Sequence[int] = ()

    @classmethod
    def estimate(cls, name: str, source_thwc: UInt8Array) -> Excerpt:
        """Estimate the motion of real frames: flow by DIS at their own size.

        Raises:
            UnsupportedMediaError: they are too few or too small.
        """
        num_frames, height, width = source_thwc.shape[:3]
        if num_frames < _FEWEST:
            raise UnsupportedMediaError(f"{num_frames} frames: flicker shows in {_FEWEST} or more")
        if min(height, width) < _SMALLEST:
            raise UnsupportedMediaError(f"{width}x{height} px: sides below {_SMALLEST} cannot be measured")
        cuts = [t for t in range(1, num_frames) if is_scene_cut(source_thwc[t - 1], source_thwc[t])]
        return cls(name, source_thwc, estimated_motion(source_thwc, DisFlow(), cuts), cuts)


class VideoEvaluator:
    """Measures stylized versions of an excerpt.

    Args:
        styles: reference style images.
        vgg: network of the features; None leaves out the distance to the style.
        taps: its taps at which that is measured.
        device: where to work.
    """

    def __init__(
        self, styles: Iterable[Style], vgg: VGGFeatures | None, taps: Sequence[str], device: torch.device | str = "cpu"
    ) -> None:
        self._vgg, self._taps, self._device = vgg, list(taps) if vgg else [], device
        with torch.inference_mode():
            self._styles = StyleSet(styles, vgg.to(device) if vgg else None, self._taps, device=device)

    def __call__(
        self, excerpt: Excerpt, versions: Mapping[str, UInt8Array], style: str = ""
    ) -> dict[str, dict[str, float]]:
        """Measure the source and every version.

        Args:
            excerpt: the source.
            versions: stylized frames (T, H, W, 3) by name.
            style: name of their style; where it is not among the images, their average is taken.

        Returns:
            The ``FIGURES`` of each version, and of the source by ``SOURCE``. nan stands for what cannot
            be measured.
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
                image = torch.from_numpy(frame).to(self._device).permute(2, 0, 1)[None].float() / 255
                features = self._vgg(image)
                errors += [gram_error(features[tap], target.taps[tap]) for tap in self._taps]
        return float(torch.cat(errors).mean())


def ratio(figure: float, to: float) -> float:
    """``figure / to``; nan where ``to`` is 0."""
    return figure / to if to else math.nan


def mean_of_known(figures: Iterable[float]) -> float:
    """Mean of the finite figures; nan where there is none."""
    known = [figure for figure in figures if math.isfinite(figure)]
    return float(np.mean(known)) if known else math.nan
