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
from nst_ops.evaluation.distribution import DistributionDistance, distribution_distance
from nst_ops.evaluation.image_metrics import StyleStatistics
from nst_ops.evaluation.metrics import SOURCE, STYLE_METRICS, ImageResults
from nst_ops.media.style_images import Style
from nst_ops.models.vgg import VGGFeatures, WeightsError, tap_indices


def load_vgg(taps: Iterable[str], weights: str | Path | None = None) -> tuple[VGGFeatures | None, dict[str, str]]:
    """Load VGG19 with those of ``taps`` that its weights serve.

    Args:
        taps: names such as ``relu3_1``.
        weights: a local file with torchvision's keys, or None for torchvision's own, which are
            downloaded once.

    Returns:
        The network, None if it serves no tap; and by tap that it lacks the reason.

    Raises:
        FileNotFoundError: ``weights`` names no file.
        ValueError: VGG19 has no such tap.
    """
    wanted = set(taps)
    known = tap_indices("vgg19")
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

    Args:
        styles: at least one; names are unique.
        vgg: network of the features, on ``device``; None measures colors alone.
        taps: taps of the network at which style is measured, shallow to deep.
        set_taps: taps whose channel means stand for an image where sets are compared.
        device: where to measure.
        seed: seed of random directions and positions.

    Attributes:
        styles: as given.
        average: the set as one target.
        means: by tap of ``set_taps``, the channel means of every style, (K, C) on the CPU.

    Raises:
        ValueError: no styles, or two of one name.
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
        self.styles: list[Style] = []
        self._targets: dict[str, Target] = {}
        means: dict[str, list[Tensor]] = {tap: [] for tap in set_taps}
        for style in styles:
            image = torch.from_numpy(style.pixels_hwc.copy()).to(device).permute(2, 0, 1)[None].float() / 255
            features = vgg(image) if vgg else {}
            statistics = {tap: image_metrics.style_statistics(features[tap], seed) for tap in taps}
            self.styles.append(style)
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

    def nearest(self, features: Mapping[str, Tensor], colors_bpq: Tensor) -> list[str]:
        """Name the style that each image resembles most.

        Compared are channel means and deviations at the deepest tap, or without taps the colors.

        Args:
            features: (B, C, H, W) by tap.
            colors_bpq: (B, P, Q), as from ``color_quantiles``.
        """
        targets = self._targets.values()
        if self.average.taps:
            tap = list(self.average.taps)[-1]
            std, mean = torch.std_mean(features[tap].float(), dim=(2, 3), correction=0)
            looks = torch.cat([mean, std], dim=1)
            known = [torch.cat([t.taps[tap].mean, t.taps[tap].std], dim=1)[0] for t in targets]
        else:
            looks, known = colors_bpq.flatten(1), [target.colors.flatten() for target in targets]
        nearest = torch.cdist(looks, torch.stack(known)).argmin(dim=1).tolist()
        return [self.styles[index].name for index in nearest]


def _channel_means(features: Tensor) -> Tensor:
    """(B, C, H, W) to fp32 (B, C) on the CPU: the vector that stands for an image in a set."""
    return features.float().mean(dim=(2, 3)).cpu()


@dataclass(frozen=True)
class Pair:
    """A stylized image and its source.

    Attributes:
        name: for the report.
        source: (3, H, W) in [0, 1].
        stylized: (3, H, W) in [0, 1], of the same size; sides of at least 16 pixels.
        style: name of its style among the references; otherwise the whole set is its style.
        source_uri, output_uri: for its row of the results.
    """

    name: str
    source: Tensor
    stylized: Tensor
    style: str = ""
    source_uri: str = ""
    output_uri: str = ""


def make_pairs(sources: Tensor, stylized: Tensor, names: Sequence[str] | None = None) -> Iterator[Pair]:
    """Turn batches in memory, both (N, 3, H, W) in [0, 1], into pairs."""
    yield from map(Pair, names or [str(number) for number in range(len(sources))], sources, stylized)


class Evaluator:
    """Measures stylized images against their sources and reference styles.

    Args:
        styles: reference style images, at the size whose statistics count.
        vgg: as from ``load_vgg``, moved to ``device``; None leaves out all that needs features.
        taps: where features are compared; taps that ``vgg`` does not serve are reported as not measured.
        missing: reasons why taps are not served, by tap.
        batch_size: pairs that the network takes at once.
        device: where to work.
        seed: seed of random directions, positions and halves.

    Raises:
        ValueError: no styles, or two of one name.
    """

    def __init__(
        self,
        styles: Iterable[Style],
        vgg: VGGFeatures | None,
        taps: TapsConfig | None = None,
        *,
        missing: Mapping[str, str] | None = None,
        batch_size: int = 4,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        taps = taps or TapsConfig()
        served = set(vgg.to(device).taps.values()) if vgg else set()
        self._vgg, self._device, self._batch_size, self._seed = vgg, device, batch_size, seed
        self._content_taps = [tap for tap in taps.content if tap in served]
        self._not_measured: dict[str, str] = {}
        for metrics, group in (
            (STYLE_METRICS, taps.style),
            (("content",), taps.content),
            (("frechet",), taps.distribution),
        ):
            for name, tap in itertools.product(metrics, group):
                if tap not in served:
                    reason = (missing or {}).get(tap, "no VGG that serves it was given")
                    self._not_measured[f"{name}_{tap}"] = reason
        with torch.inference_mode():
            style_taps, set_taps = (
                [tap for tap in group if tap in served] for group in (taps.style, taps.distribution)
            )
            self._styles = StyleSet(styles, vgg, style_taps, set_taps, device, seed)

    def __call__(self, pairs: Iterable[Pair]) -> ImageResults:
        """Measure every pair, and all of them together.

        Args:
            pairs: read once; neighbors of one size and style are measured in batches.

        Raises:
            ValueError: a pair of different or too small sizes.
        """
        rows: list[dict[str, Any]] = []
        means: dict[str, list[tuple[Tensor, Tensor]]] = {tap: [] for tap in self._styles.means}
        with torch.inference_mode():
            for _, alike in itertools.groupby(pairs, key=self._size_and_style):
                while batch := list(itertools.islice(alike, self._batch_size)):
                    before = torch.stack([pair.source for pair in batch]).to(self._device)
                    after = torch.stack([pair.stylized for pair in batch]).to(self._device)
                    features_before = self._vgg(before) if self._vgg else {}
                    features_after = self._vgg(after) if self._vgg else {}
                    rows += self._measure(batch, before, after, features_before, features_after)
                    for tap, vectors in means.items():
                        vectors.append((_channel_means(features_before[tap]), _channel_means(features_after[tap])))
        distances, not_measured = self._compare_sets(means, {row["style"] for row in rows})
        names = [style.name for style in self._styles.styles]
        return ImageResults(rows, distances, self._not_measured | not_measured, names)

    def _size_and_style(self, pair: Pair) -> tuple[torch.Size, str]:
        """What all pairs of a batch have in common."""
        if pair.source.shape != pair.stylized.shape or pair.source.dim() != 3:
            raise ValueError(
                f"{pair.name}: source {tuple(pair.source.shape)} and stylized image "
                f"{tuple(pair.stylized.shape)} are not both (3, H, W) of one size"
            )
        if min(pair.source.shape[1:]) < image_metrics.SMALLEST:
            raise ValueError(f"{pair.name}: sides below {image_metrics.SMALLEST} pixels cannot be measured")
        return pair.source.shape, pair.style if pair.style in self._styles else ""

    def _measure(
        self,
        batch: list[Pair],
        before: Tensor,
        after: Tensor,
        features_before: Mapping[str, Tensor],
        features_after: Mapping[str, Tensor],
    ) -> list[dict[str, Any]]:
        """Rows of a batch of one size and style; images are (B, 3, H, W), features by tap."""
        target = self._styles.target(batch[0].style)
        to_source = {
            f"content_{tap}": image_metrics.content_error(features_after[tap], features_before[tap])
            for tap in self._content_taps
        }
        to_source |= {
            "ssim": image_metrics.ssim(after, before),
            "edge_f1": image_metrics.edge_f1(after, before),
            "color_difference": image_metrics.color_difference(after, before),
        }
        to_style = self._to_style(features_after, after, target)
        source_to_style = self._to_style(features_before, before, target)
        measured = to_style | to_source | {SOURCE + name: values for name, values in source_to_style.items()}
        columns = {name: values.tolist() for name, values in measured.items()}
        nearest = self._styles.nearest(features_after, image_metrics.color_quantiles(after, self._seed))
        rows = []
        for number, pair in enumerate(batch):
            own = pair.style if pair.style in self._styles else ""
            row = {"name": pair.name, "source_uri": pair.source_uri, "output_uri": pair.output_uri}
            row |= {"style": own, "nearest_style": own or nearest[number]}
            rows.append(row | {name: values[number] for name, values in columns.items()})
        return rows

    def _to_style(self, features: Mapping[str, Tensor], images: Tensor, target: Target) -> dict[str, Tensor]:
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
        """By tap the distance of the sets; and by metric the reason where there is none.

        Where every image has a style of its own, the style set is that of the styles ``used``.
        """
        chosen = [i for i, style in enumerate(self._styles.styles) if "" in used or style.name in used]
        distances, reasons = {}, {}
        for tap, vectors in means.items():
            sources, outputs = map(torch.cat, zip(*vectors, strict=True)) if vectors else (torch.empty(0),) * 2
            try:
                styles = self._styles.means[tap][chosen]
                distances[tap] = distribution_distance(outputs, sources, styles, self._seed)
            except ValueError as error:
                reasons[f"frechet_{tap}"] = str(error)
        return distances, reasons
