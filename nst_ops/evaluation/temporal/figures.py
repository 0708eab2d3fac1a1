"""The figures of a clip and of what became of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from nst_ops.evaluation.metrics import Metric
from nst_ops.evaluation.style import gram_error
from nst_ops.evaluation.styles import StyleSet
from nst_ops.evaluation.temporal.excerpts import Excerpt
from nst_ops.media.images import UInt8Array
from nst_ops.models.vgg import VGGFeatures
from nst_ops.stylizers import Style
from nst_ops.temporal.metrics import high_frequency_energy, luminance_flicker, warping_errors

SOURCE = "source"
GAPS = (1, 10)
"""Frames apart: what flickers, and what drifts away."""

FIGURES = {
    **{
        f"warping_error_{gap}": Metric(
            f"warping error, {gap} apart",
            "mean squared change along the motion, in [0, 1]; of the source it is what no painter adds",
            "lower",
        )
        for gap in GAPS
    },
    **{
        f"warping_ratio_{gap}": Metric(
            f"... to the source's, {gap} apart",
            "how often the source's own: 1 is as still as filmed",
            "lower",
        )
        for gap in GAPS
    },
    "luminance_flicker": Metric(
        "luminance flicker",
        "how much whole frames jump in brightness beyond the source, in grey levels",
        "lower",
    ),
    "high_frequency_energy": Metric("high-frequency energy", "fine texture, luma squared in [0, 1]", ""),
    "gram": Metric("Gram error", "feature correlations against the style's: 0 the same, 1 none", "lower"),
}

_STYLE_FRAMES = 4


class Gauge:
    """Measures versions of a clip.

    Args:
        styles: pictures of the style.
        vgg: network of the features; None leaves out the distance to the style.
        taps: its taps at which that is measured.
        device: where to work.
    """

    def __init__(
        self,
        styles: Sequence[Style],
        vgg: VGGFeatures | None,
        taps: Sequence[str],
        device: torch.device | str = "cpu",
    ) -> None:
        self._vgg, self._taps, self._device = vgg, list(taps) if vgg else [], device
        with torch.inference_mode():
            self._styles = StyleSet(styles, vgg.to(device) if vgg else None, self._taps, device=device)

    def __call__(
        self, excerpt: Excerpt, versions: Mapping[str, UInt8Array], style: str = ""
    ) -> dict[str, dict[str, float]]:
        """Measure.

        Args:
            excerpt: the source.
            versions: frames (T, H, W, 3) of what became of it, by name.
            style: the name of its style; where it is not among the pictures, their average.

        Returns:
            Of each version the figures of ``FIGURES``; and the source's own, by ``source``, which has
            no distance to the style. nan stands for what cannot be measured.
        """
        every = {SOURCE: excerpt.source_thwc, **versions}
        figures: dict[str, dict[str, float]] = {name: {} for name in every}
        for gap in GAPS:
            errors = warping_errors(every, excerpt.motion, gap)
            for name, error in errors.items():
                figures[name][f"warping_error_{gap}"] = error
                figures[name][f"warping_ratio_{gap}"] = ratio(error, errors[SOURCE])
        for name, frames in every.items():
            of_frames = figures[name]
            of_frames["luminance_flicker"] = luminance_flicker(frames, excerpt.source_thwc, excerpt.cuts)
            of_frames["high_frequency_energy"] = high_frequency_energy(frames)
            of_frames["gram"] = self.gram(frames, style)
        return figures

    def gram(self, frames_thwc: UInt8Array, style: str = "") -> float:
        """Mean Gram error over taps and a few frames, evenly spread; nan without a network."""
        if self._vgg is None:
            return math.nan
        chosen = frames_thwc[:: max(1, len(frames_thwc) // _STYLE_FRAMES)]
        target = self._styles.target(style)
        errors = []
        with torch.inference_mode():
            for frame in chosen:
                picture = torch.from_numpy(frame).to(self._device).permute(2, 0, 1)[None].float() / 255
                features = self._vgg(picture)
                errors += [gram_error(features[tap], target.taps[tap]) for tap in self._taps]
        return float(torch.cat(errors).mean())


def ratio(figure: float, to: float) -> float:
    """A share; nan of nothing."""
    return figure / to if to else math.nan
