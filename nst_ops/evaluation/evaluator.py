"""Compare stylized images with their sources and the style, in memory.

Shapes: B images, C channels, P random directions, Q quantiles; a feature map is (B, C, H, W).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nst_ops.config.evaluate import TapsConfig
from nst_ops.evaluation import image_metrics
from nst_ops.evaluation.classifier import Classifier, labels_kept
from nst_ops.evaluation.distribution import DistributionDistance, distribution_distance
from nst_ops.evaluation.image_metrics import StyleStatistics
from nst_ops.evaluation.metrics import SOURCE, STYLE_METRICS, ImageResults
from nst_ops.evaluation.text_score import TextScore
from nst_ops.media.style_images import Style
from nst_ops.models.vgg import VGGFeatures, WeightsError, tap_indices

Features = Mapping[str, Tensor]  # by tap


def load_vgg(taps: Iterable[str], weights: str | Path | None = None) -> tuple[VGGFeatures | None, dict[str, str]]:
    """Load VGG19 with those of ``taps``, such as ``relu3_1``, that its weights serve; None if they serve none.

    Beside it stands the reason for each tap that it lacks. ``weights`` is a local file with torchvision's keys; None
    downloads torchvision's own once. Raises FileNotFoundError if there is no such file, ValueError for an unknown tap.
    """
    wanted, known = set(taps), tap_indices("vgg19")
    if unknown := wanted - known.keys():
        raise ValueError(f"vgg19 has no taps {sorted(unknown)}; known: {', '.join(known)}")
    if weights is not None and not Path(weights).is_file():
        raise FileNotFoundError(f"no VGG weights at {weights}")
    reason = ""
    for tap in sorted(wanted, key=known.__getitem__, reverse=True):
        served = {other for other in wanted if known[other] <= known[tap]}
        try:
            vgg = VGGFeatures("vgg19", served, weights)
        except WeightsError as error:
            reason = str(error)
        except OSError as error:  # of the download
            reason = f"no weights given, and torchvision's cannot be fetched ({error})"
            break
        else:
            reason = f"{weights} ends before it: of the taps asked for it serves those up to {tap}"
            return vgg, dict.fromkeys(wanted - served, reason)
    return None, dict.fromkeys(wanted, reason)


@dataclass(frozen=True)
class Target:
    """A style to compare with: its statistics by tap, and the quantiles of its colors (P, Q)."""

    taps: dict[str, StyleStatistics]
    colors: Tensor


class StyleSet:
    """Reference styles, measured once: 2 MB of statistics each with the deepest taps of a VGG19.

    Style is measured at ``taps``, shallow to deep, or without ``vgg`` by colors alone; ``average`` is the set as one
    target. At ``set_taps`` channel means stand for an image where sets are compared: ``means`` has them by tap, (K, C)
    on the CPU. ``seed`` draws directions and positions. Raises ValueError for no styles, or two of one name.
    """

    def __init__(
        self,
        styles: Iterable[Style],
        vgg: VGGFeatures | None,
        taps: Sequence[str],
        set_taps: Sequence[str] = (),
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        self.styles = list(styles)
        self._targets: dict[str, Target] = {}
        means: dict[str, list[Tensor]] = {tap: [] for tap in set_taps}
        for style in self.styles:
            image = torch.from_numpy(style.pixels_hwc.copy()).to(device).permute(2, 0, 1)[None].float() / 255
            features = vgg(image) if vgg else {}
            statistics = {tap: image_metrics.style_statistics(features[tap], seed) for tap in taps}
            self._targets[style.name] = Target(statistics, image_metrics.color_quantiles(image, seed)[0])
            for tap in set_taps:
                means[tap].append(_channel_means(features[tap])[0])
        if len(self._targets) < max(len(self.styles), 1):
            raise ValueError("two style images have one name" if self.styles else "there are no style images")
        self.means = {tap: torch.stack(vectors) for tap, vectors in means.items()}
        targets = self._targets.values()
        self.average = Target(
            {tap: image_metrics.average([target.taps[tap] for target in targets]) for tap in taps},
            image_metrics.pool(torch.stack([target.colors for target in targets])),
        )

    def __contains__(self, name: str) -> bool:
        return name in self._targets

    def target(self, name: str) -> Target:
        """The style of that name alone; where there is none, the average of the set."""
        return self._targets.get(name, self.average)

    def nearest(self, features: Features, colors_bpq: Tensor) -> list[str]:
        """Name the style nearest to each image in means and deviations at the deepest tap, or without taps in color."""
        targets = self._targets.values()
        if self.average.taps:
            tap = list(self.average.taps)[-1]
            std, mean = torch.std_mean(features[tap].float(), dim=(2, 3), correction=0)
            looks = torch.cat([mean, std], dim=1)
            known = [torch.cat([t.taps[tap].mean, t.taps[tap].std], dim=1)[0] for t in targets]
        else:
            looks, known = colors_bpq.flatten(1), [target.colors.flatten() for target in targets]
        return [self.styles[index].name for index in torch.cdist(looks, torch.stack(known)).argmin(dim=1).tolist()]


def _channel_means(features: Tensor) -> Tensor:
    """(B, C, H, W) to fp32 (B, C) on the CPU: the vector that stands for an image in a set."""
    return features.float().mean(dim=(2, 3)).cpu()


@dataclass(frozen=True)
class Pair:
    """A stylized image and its source, both (3, H, W) in [0, 1] of one size; sides of at least 16 pixels."""

    name: str
    source: Tensor
    stylized: Tensor
    style: str = ""  # name of its style among the references; otherwise the whole set is its style
    source_uri: str = ""
    output_uri: str = ""


def make_pairs(sources: Tensor, stylized: Tensor, names: Sequence[str] | None = None) -> Iterator[Pair]:
    """Turn batches in memory, both (N, 3, H, W) in [0, 1], into pairs."""
    yield from map(Pair, names or [str(number) for number in range(len(sources))], sources, stylized)


class Evaluator:
    """Measures stylized images against their sources and style images, these at the size whose statistics count.

    ``vgg`` and the reasons for the taps ``missing`` are those of ``load_vgg``; without a network all that needs
    features is left out, without a ``classifier`` the labels, without a ``text_score`` the words. ``batch_size``
    counts pairs; ``seed`` draws directions, positions and halves. Raises ValueError for no styles, or two of one name.
    """

    def __init__(
        self,
        styles: Iterable[Style],
        vgg: VGGFeatures | None,
        taps: TapsConfig | None = None,
        *,
        missing: Mapping[str, str] | None = None,
        classifier: Classifier | None = None,
        text_score: TextScore | None = None,
        batch_size: int = 4,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        taps = taps or TapsConfig()
        served = set(vgg.to(device).taps.values()) if vgg else set()
        self._vgg, self._device, self._batch_size, self._seed = vgg, device, batch_size, seed
        self._classifier, self._text_score = classifier, text_score
        style_taps, self._content_taps, set_taps = (
            [tap for tap in group if tap in served] for group in (taps.style, taps.content, taps.distribution)
        )
        metrics = [*itertools.product(STYLE_METRICS, taps.style), *(("content", tap) for tap in taps.content)]
        self._not_measured = {
            f"{name}_{tap}": (missing or {}).get(tap, "no VGG that serves it was given")
            for name, tap in [*metrics, *(("frechet", tap) for tap in taps.distribution)]
            if tap not in served
        }
        with torch.inference_mode():
            self._styles = StyleSet(styles, vgg, style_taps, set_taps, device, seed)

    def __call__(self, pairs: Iterable[Pair]) -> ImageResults:
        """Measure every pair and all together, neighbors of one size and style in batches.

        Raises ValueError for a pair of different or too small sizes.
        """
        rows: list[dict[str, Any]] = []
        means: dict[str, list[tuple[Tensor, Tensor]]] = {tap: [] for tap in self._styles.means}
        with torch.inference_mode():
            for _, alike in itertools.groupby(pairs, key=self._size_and_style):
                while batch := list(itertools.islice(alike, self._batch_size)):
                    before = torch.stack([pair.source for pair in batch]).to(self._device)
                    after = torch.stack([pair.stylized for pair in batch]).to(self._device)
                    features_before, features_after = (self._vgg(x) if self._vgg else {} for x in (before, after))
                    rows += self._measure(batch, before, after, features_before, features_after)
                    for tap, vectors in means.items():
                        vectors.append((_channel_means(features_before[tap]), _channel_means(features_after[tap])))
        distances, not_measured = self._compare_sets(means, {row["style"] for row in rows})
        return ImageResults(rows, distances, self._not_measured | not_measured, [s.name for s in self._styles.styles])

    def _size_and_style(self, pair: Pair) -> tuple[torch.Size, str]:
        """What all pairs of a batch have in common."""
        if pair.source.shape != pair.stylized.shape or pair.source.dim() != 3:
            raise ValueError(
                f"{pair.name}: source {tuple(pair.source.shape)} and stylized image {tuple(pair.stylized.shape)} "
                "are not both (3, H, W) of one size"
            )
        if min(pair.source.shape[1:]) < image_metrics.SMALLEST:
            raise ValueError(f"{pair.name}: sides below {image_metrics.SMALLEST} pixels cannot be measured")
        return pair.source.shape, pair.style if pair.style in self._styles else ""

    def _measure(
        self, batch: list[Pair], before: Tensor, after: Tensor, features_before: Features, features_after: Features
    ) -> list[dict[str, Any]]:
        """Rows of a batch of one size and style; images are (B, 3, H, W), features by tap."""
        target = self._styles.target(batch[0].style)
        measured = self._to_style(features_after, after, target)
        for tap in self._content_taps:
            measured[f"content_{tap}"] = image_metrics.content_error(features_after[tap], features_before[tap])
        for metric in (image_metrics.ssim, image_metrics.edge_f1, image_metrics.color_difference):
            measured[metric.__name__] = metric(after, before)
        if self._classifier:
            measured |= labels_kept(self._classifier(after), self._classifier(before))
        if self._text_score:
            measured |= self._text_score(after, before)
        source_to_style = self._to_style(features_before, before, target)
        measured |= {SOURCE + name: values for name, values in source_to_style.items()}
        columns = {name: values.tolist() for name, values in measured.items()}
        nearest = self._styles.nearest(features_after, image_metrics.color_quantiles(after, self._seed))
        rows = []
        for number, pair in enumerate(batch):
            own = pair.style if pair.style in self._styles else ""
            row = {"name": pair.name, "source_uri": pair.source_uri, "output_uri": pair.output_uri}
            row |= {"style": own, "nearest_style": own or nearest[number]}
            rows.append(row | {name: values[number] for name, values in columns.items()})
        return rows

    def _to_style(self, features: Features, images: Tensor, target: Target) -> dict[str, Tensor]:
        """Distances of (B, 3, H, W) images to a style, (B,) by metric."""
        measured: dict[str, Tensor] = {}
        for tap, known in target.taps.items():
            measured[f"gram_{tap}"] = image_metrics.gram_error(features[tap], known)
            measured[f"mean_std_{tap}"] = image_metrics.mean_std_error(features[tap], known)
            measured[f"swd_{tap}"] = image_metrics.sliced_wasserstein(features[tap], known, self._seed)
        for kind in STYLE_METRICS if target.taps else ():
            measured[kind] = torch.stack([measured[f"{kind}_{tap}"] for tap in target.taps]).mean(dim=0)
        return measured | {"palette": image_metrics.palette_distance(images, target.colors, self._seed)}

    def _compare_sets(
        self, means: Mapping[str, Sequence[tuple[Tensor, Tensor]]], used: set[str]
    ) -> tuple[dict[str, DistributionDistance], dict[str, str]]:
        """Return the distance of the sets by tap, and where there is none the reason by metric."""
        # where every image has a style of its own, only those are the style set
        chosen = [i for i, style in enumerate(self._styles.styles) if "" in used or style.name in used]
        distances, reasons = {}, {}
        for tap, vectors in means.items():
            sources, outputs = map(torch.cat, zip(*vectors, strict=True)) if vectors else (torch.empty(0),) * 2
            try:
                distances[tap] = distribution_distance(outputs, sources, self._styles.means[tap][chosen], self._seed)
            except ValueError as error:
                reasons[f"frechet_{tap}"] = str(error)
        return distances, reasons
