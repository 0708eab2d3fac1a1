"""Judge stylized pictures against their photographs and the style, in memory, without Ray."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nst_ops.evaluation import image_metrics
from nst_ops.evaluation.distribution import DistributionDistance, distribution_distance
from nst_ops.evaluation.image_report import Report
from nst_ops.evaluation.metrics import OF_STYLE, SOURCE
from nst_ops.evaluation.references import StyleSet, Target, channel_means
from nst_ops.models.vgg import VGGFeatures
from nst_ops.stylizers import Style


@dataclass(frozen=True)
class Taps:
    """VGG19 layers at which pictures are judged."""

    style: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    content: tuple[str, ...] = ("relu3_1", "relu4_2")
    distribution: tuple[str, ...] = ("relu2_2", "relu3_4")

    def all(self) -> set[str]:
        """Each tap once."""
        return {*self.style, *self.content, *self.distribution}


@dataclass(frozen=True)
class Pair:
    """A photograph and what became of it.

    Attributes:
        name: for the report.
        source: (3, H, W) in [0, 1].
        stylized: (3, H, W) in [0, 1], of the same size; sides of at least 16 pixels.
        style: name of its style among the references, or empty: then the whole set is its style.
        uris: ``source_uri`` and ``output_uri``, for its row of the report.
    """

    name: str
    source: Tensor
    stylized: Tensor
    style: str = ""
    uris: tuple[str, str] = ("", "")


def judge(
    pairs: Iterable[Pair],
    styles: Sequence[Style],
    vgg: VGGFeatures | None,
    taps: Taps | None = None,
    *,
    lacking: Mapping[str, str] | None = None,
    batch_size: int = 4,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Measure every pair, and all of them together.

    Args:
        pairs: read once; neighbors of one size and style are judged in batches.
        styles: reference pictures, at the size whose statistics count.
        vgg: as of ``load_judge``; None leaves out all that needs features.
        taps: where to look; what ``vgg`` does not serve is reported as not measured.
        lacking: why taps are not served, by tap.
        batch_size: pairs in a batch.
        device: where to work; ``vgg`` is moved there.
        seed: of random directions and positions.
        progress: called with ``style`` or ``pair`` after each.

    Raises:
        ValueError: no styles, two of one name, or a pair of different or too small sizes.
    """
    taps = taps or Taps()
    served = set(vgg.to(device).taps.values()) if vgg else set()
    reasons = {
        tap: (lacking or {}).get(tap, "no VGG that serves it was given") for tap in taps.all() - served
    }
    of_style, of_content, of_set = (
        [tap for tap in group if tap in served] for group in (taps.style, taps.content, taps.distribution)
    )
    with torch.inference_mode():
        references = StyleSet(styles, vgg, of_style, of_set, device, seed, lambda: progress("style"))
        measure = _Measure(references, vgg, of_content, device, seed)
        for batch in _batches(pairs, references, batch_size):
            measure(batch)
            for _ in batch:
                progress("pair")
    distribution, not_measured = _distribution(measure, references, of_set, seed)
    for kind, group in (
        (OF_STYLE, taps.style),
        (("content",), taps.content),
        (("frechet",), taps.distribution),
    ):
        not_measured |= {f"{name}_{tap}": reasons[tap] for name in kind for tap in group if tap in reasons}
    return Report(measure.rows, distribution, not_measured, [style.name for style in references.styles])


def pairs_of(sources: Tensor, stylized: Tensor, names: Sequence[str] | None = None) -> Iterator[Pair]:
    """Batches in memory, both (N, 3, H, W) in [0, 1], as pairs."""
    numbered = names or [str(number) for number in range(len(sources))]
    yield from map(Pair, numbered, sources, stylized)


def _batches(pairs: Iterable[Pair], references: StyleSet, batch_size: int) -> Iterator[list[Pair]]:
    """Runs of neighbors of one size and one style."""

    def alike(pair: Pair) -> tuple[torch.Size, str]:
        if pair.source.shape != pair.stylized.shape or pair.source.dim() != 3:
            raise ValueError(
                f"{pair.name}: photograph {tuple(pair.source.shape)} and stylized picture "
                f"{tuple(pair.stylized.shape)} are not both (3, H, W) of one size"
            )
        if min(pair.source.shape[1:]) < image_metrics.SMALLEST:
            raise ValueError(f"{pair.name}: sides below {image_metrics.SMALLEST} pixels cannot be judged")
        return pair.source.shape, pair.style if pair.style in references else ""

    for _, run in itertools.groupby(pairs, key=alike):
        while batch := list(itertools.islice(run, batch_size)):
            yield batch


class _Measure:
    """Measures batches; keeps a row of each picture, and what comparing the sets needs."""

    def __init__(
        self,
        references: StyleSet,
        vgg: VGGFeatures | None,
        content_taps: Sequence[str],
        device: torch.device | str,
        seed: int,
    ) -> None:
        self.references, self.vgg, self.content_taps = references, vgg, content_taps
        self.device, self.seed = device, seed
        self.rows: list[dict[str, Any]] = []
        self.means: dict[str, tuple[list[Tensor], list[Tensor]]] = {tap: ([], []) for tap in references.means}

    def __call__(self, batch: list[Pair]) -> None:
        sources = torch.stack([pair.source for pair in batch]).to(self.device)
        stylized = torch.stack([pair.stylized for pair in batch]).to(self.device)
        target = self.references.target(batch[0].style)
        before = self.vgg(sources) if self.vgg else {}
        after = self.vgg(stylized) if self.vgg else {}
        measured = {
            **self._to_style(after, stylized, target),
            **{
                f"content_{tap}": image_metrics.content_error(after[tap], before[tap])
                for tap in self.content_taps
            },
            "ssim": image_metrics.ssim(stylized, sources),
            "edge_f1": image_metrics.edge_f1(stylized, sources),
            "color_difference": image_metrics.color_difference(stylized, sources),
            **{SOURCE + name: figures for name, figures in self._to_style(before, sources, target).items()},
        }
        nearest = self.references.nearest(after, image_metrics.color_quantiles(stylized, self.seed))
        columns = {name: figures.tolist() for name, figures in measured.items()}
        for number, pair in enumerate(batch):
            own = pair.style in self.references
            self.rows.append(
                {
                    "name": pair.name,
                    "source_uri": pair.uris[0],
                    "output_uri": pair.uris[1],
                    "style": pair.style if own else "",
                    "nearest_style": pair.style if own else nearest[number].name,
                    **{name: figures[number] for name, figures in columns.items()},
                }
            )
        for tap, (outputs, photos) in self.means.items():
            outputs.append(channel_means(after[tap]))
            photos.append(channel_means(before[tap]))

    def _to_style(self, features: dict[str, Tensor], pictures: Tensor, target: Target) -> dict[str, Tensor]:
        measured: dict[str, Tensor] = {}
        for tap, known in target.taps.items():
            measured[f"gram_{tap}"] = image_metrics.gram_error(features[tap], known)
            measured[f"mean_std_{tap}"] = image_metrics.mean_std_error(features[tap], known)
            measured[f"swd_{tap}"] = image_metrics.sliced_wasserstein(features[tap], known, self.seed)
        for kind in OF_STYLE if target.taps else ():
            measured[kind] = torch.stack([measured[f"{kind}_{tap}"] for tap in target.taps]).mean(dim=0)
        return measured | {"palette": image_metrics.palette_distance(pictures, target.colors, self.seed)}


def _distribution(
    measure: _Measure, references: StyleSet, taps: Sequence[str], seed: int
) -> tuple[dict[str, DistributionDistance], dict[str, str]]:
    """By tap the distance of the sets, or why there is none.

    Where every picture has a style of its own, the set is that of the styles used.
    """
    used = {row["style"] for row in measure.rows}
    chosen = [i for i, each in enumerate(references.styles) if "" in used or each.name in used]
    distances, reasons = {}, {}
    for tap in taps:
        outputs, photos = (
            torch.cat(vectors) if vectors else torch.empty(0) for vectors in measure.means[tap]
        )
        try:
            distances[tap] = distribution_distance(outputs, photos, references.means[tap][chosen], seed)
        except ValueError as error:
            reasons[f"frechet_{tap}"] = str(error)
    return distances, reasons
