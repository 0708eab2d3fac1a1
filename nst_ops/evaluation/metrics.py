"""The metrics by name: what each means, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher", ""]


@dataclass(frozen=True)
class Metric:
    """A figure of each picture.

    Attributes:
        label: for tables.
        meaning: in a phrase.
        better: which way; empty where neither is.
    """

    label: str
    meaning: str
    better: Better


_METRICS = {
    "gram": Metric("Gram error", "feature correlations against the style's: 0 the same, 1 none", "lower"),
    "mean_std": Metric(
        "mean/std error", "feature means and deviations against the style's: 0 the same, 1 none", "lower"
    ),
    "swd": Metric(
        "sliced Wasserstein",
        "whole distribution of features against the style's: 0 the same, 1 none",
        "lower",
    ),
    "palette": Metric("palette distance", "colors against the style's, in Lab units", "lower"),
    "content": Metric("content error", "features against the photograph's: 0 the same, 1 none", "lower"),
    "ssim": Metric("SSIM", "luma against the photograph's: 1 the same", "higher"),
    "edge_f1": Metric("edge F1", "edges of the photograph kept, and no others drawn: 1 is all", "higher"),
    "color_difference": Metric(
        "color difference", "mean change of a pixel from the photograph, in Lab units", ""
    ),
}

OF_STYLE = ("gram", "mean_std", "swd")
"""Measured at every style tap; without a tap's name it is the mean over the taps measured."""
TO_STYLE = (*OF_STYLE, "palette")
"""Measured of the photograph too: how far it was to go."""
SOURCE = "source_"
"""Prefix of what is measured of the photograph."""


IDENTIFYING = ("name", "source_uri", "output_uri", "style", "nearest_style")
"""Columns of a row that are no metrics."""


def metric(name: str) -> Metric:
    """The metric of a column such as ``gram``, ``gram_relu3_1`` or ``ssim``.

    Raises:
        KeyError: there is none.
    """
    kind, _, tap = name.partition("_relu")
    of_kind = _METRICS[kind]
    if tap:
        return Metric(f"{of_kind.label} relu{tap}", of_kind.meaning, of_kind.better)
    if kind in OF_STYLE:
        return Metric(of_kind.label, f"{of_kind.meaning}; mean over the taps measured", of_kind.better)
    return of_kind


def is_detail(name: str) -> bool:
    """Whether it is one tap of a metric that has a mean over its taps."""
    kind, _, tap = name.partition("_relu")
    return kind in OF_STYLE and bool(tap)
