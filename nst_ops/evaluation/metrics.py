"""The metrics of images by name, and the results that hold them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from nst_ops.evaluation.distribution import DistributionDistance


class Metric(NamedTuple):
    """A figure that is measured of each image or video."""

    label: str
    meaning: str
    better: Literal["lower", "higher", ""]  # empty where neither way is better


_METRICS = {
    "gram": Metric("Gram error", "feature correlations against the style's: 0 the same, 1 none", "lower"),
    "mean_std": Metric(
        "mean/std error", "feature means and deviations against the style's: 0 the same, 1 none", "lower"
    ),
    "swd": Metric(
        "sliced Wasserstein", "whole distribution of features against the style's: 0 the same, 1 none", "lower"
    ),
    "palette": Metric("palette distance", "colors against the style's, in Lab units", "lower"),
    "content": Metric("content error", "features against the source's: 0 the same, 1 none", "lower"),
    "ssim": Metric("SSIM", "luma against the source's: 1 the same", "higher"),
    "edge_f1": Metric("edge F1", "edges of the source kept, and no others drawn: 1 is all", "higher"),
    "label_kept": Metric("label kept", "a classifier sees the class of the source first: 1 yes, 0 no", "higher"),
    "label_in_top5": Metric("label in top 5", "the class of the source is among the first five: 1 yes, 0 no", "higher"),
    "clip_text": Metric("CLIP similarity", "cosine of image and words, by CLIP", "higher"),
    "clip_direction": Metric(
        "CLIP direction", "cosine of the way from the source and that from 'a photo' to the words", "higher"
    ),
    "color_difference": Metric("color difference", "mean change of a pixel from the source, in Lab units", ""),
}

STYLE_METRICS = ("gram", "mean_std", "swd")
"""Measured at every style tap; without a tap's name it is the mean over the taps measured."""
SOURCE = "source_"  # prefix of the source's own distances to the style, so how far it was to go
_NO_METRICS = ("name", "source_uri", "output_uri", "style", "nearest_style")


def metric(name: str) -> Metric:
    """Describe the metric of a column such as ``gram``, ``gram_relu3_1`` or ``ssim``; raises KeyError for others."""
    kind, _, tap = name.partition("_relu")
    found = _METRICS[kind]
    if tap:
        return found._replace(label=f"{found.label} relu{tap}")
    if kind in STYLE_METRICS:
        return found._replace(meaning=f"{found.meaning}; mean over the taps measured")
    return found


def is_detail(name: str) -> bool:
    """Tell whether a column is one tap of a metric that has a mean over its taps."""
    kind, _, tap = name.partition("_relu")
    return kind in STYLE_METRICS and bool(tap)


class Spread(NamedTuple):
    """A metric over all images: mean, median, 5 % and 95 % quantile."""

    mean: float
    median: float
    p5: float
    p95: float


@dataclass(frozen=True)
class ImageResults:
    """The figures of evaluated images.

    A row has an image's ``name``, ``source_uri``, ``output_uri``, ``style``, ``nearest_style`` and every metric; the
    source's own distances to the style have the prefix ``SOURCE``.
    """

    rows: list[dict[str, Any]]
    distribution: dict[str, DistributionDistance]  # by VGG tap
    not_measured: dict[str, str]  # reasons, by metric
    styles: list[str]
    notes: list[str] = field(default_factory=list)

    def metrics(self) -> list[str]:
        """Names of the metrics that were measured of every image, those of single style taps last."""
        names = self.rows[0] if self.rows else {}
        return sorted((n for n in names if n not in _NO_METRICS and not n.startswith(SOURCE)), key=is_detail)

    def has_source(self, name: str) -> bool:
        """Tell whether a metric was measured of the sources too."""
        return SOURCE + name in self.rows[0]

    def spread(self, name: str) -> Spread:
        """Summarize a metric such as ``ssim`` or ``source_gram``; raises KeyError with the reason if it is missing."""
        if not self.rows or name not in self.rows[0]:
            raise KeyError(f"{name}: {self.not_measured.get(name, 'not measured')}")
        figures = np.array([row[name] for row in self.rows], np.float64)
        p5, median, p95 = np.quantile(figures, (0.05, 0.5, 0.95))
        return Spread(float(figures.mean()), float(median), float(p5), float(p95))

    def ranked(self, by: str) -> list[dict[str, Any]]:
        """Rows by a metric, best first; where neither way is better, the lowest first."""
        return sorted(self.rows, key=lambda row: float(row[by]), reverse=metric(by).better == "higher")

    def remarks(self) -> list[tuple[str, str]]:
        """(what, why): metrics that were not measured, doubts about figures, notes."""
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.not_measured.items():
            by_reason.setdefault(reason, []).append(name)
        remarks = [(", ".join(names), f"not measured: {reason}") for reason, names in by_reason.items()]
        for tap, distance in self.distribution.items():
            floor = "unknown" if distance.floor is None else f"{distance.floor:.3g}"
            doubts = [f"between two halves of the style set it is {floor}", *distance.warnings]
            remarks.append((f"Fréchet distance {tap}", "; ".join(doubts)))
        return remarks + [("note", note) for note in self.notes]

    def summary(self) -> dict[str, Any]:
        """All but the rows, ready for JSON."""
        metrics = self.metrics()
        return {
            "images": len(self.rows),
            "styles": self.styles,
            "metrics": {name: self.spread(name)._asdict() for name in metrics},
            "sources_to_style": {n: self.spread(SOURCE + n)._asdict() for n in metrics if self.has_source(n)},
            "distribution": {tap: asdict(distance) for tap, distance in self.distribution.items()},
            "not_measured": self.not_measured,
            "notes": self.notes,
        }
