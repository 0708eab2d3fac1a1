"""The VGG that judges: VGG19, as far as the weights at hand go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nst_ops.models.vgg import VGGFeatures, WeightsError, tap_indices


def load_judge(
    taps: Iterable[str], weights: str | Path | None = None
) -> tuple[VGGFeatures | None, dict[str, str]]:
    """VGG19 with those of ``taps`` that its weights serve, and why the others are not measured.

    Args:
        taps: names such as ``relu3_1``.
        weights: a local file with torchvision's keys, or None for torchvision's own, which are
            downloaded once.

    Returns:
        The network, None if it serves no tap; and a reason for every tap that it lacks.

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
    if not wanted:
        return None, {}
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
class Gaussian:
    """The normal distribution that is fitted to a set of vectors.

    Attributes:
        mean: float64 (D,).
        covariance: float64 (D, D), symmetric.
    """

    mean: Tensor
    covariance: Tensor

    @classmethod
    def fit(cls, vectors: Tensor) -> Gaussian:
        """Of (N, D) vectors, N at least 2, with the unbiased covariance.

        Raises:
            ValueError: fewer than two vectors, which have no covariance.
        """
        if len(vectors) < 2:
            raise ValueError(f"{len(vectors)} vectors have no covariance: at least 2 are needed")
        vectors = vectors.double()
        return cls(vectors.mean(dim=0), torch.cov(vectors.T).reshape(vectors.shape[1], -1))

    def energy(self) -> float:
        """Mean square length of its vectors: the distance of an empty set (all features 0) to it."""
        return float(self.mean.square().sum() + self.covariance.trace())


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """``|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))``: M. Heusel et al., NeurIPS 2017 (eq. 6).

    The trace of the root is that of the symmetric ``(S_a^(1/2) S_b S_a^(1/2))^(1/2)``: two
    symmetric eigendecompositions in float64, with what rounding makes negative set to 0. So it
    is real also for singular covariances, of fewer vectors than dimensions.

    Returns:
        The squared distance, at least 0, in squared units of the vectors.
    """
    values, vectors = torch.linalg.eigh(a.covariance)
    root_a = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    product = root_a @ b.covariance @ root_a
    trace_of_root = torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(0).sqrt().sum()
    apart = (a.mean - b.mean).square().sum()
    distance = apart + a.covariance.trace() + b.covariance.trace() - 2 * trace_of_root
    return max(0.0, float(distance))


@dataclass(frozen=True)
class DistributionDistance:
    """Fréchet distances to the style set, as shares of the style set's energy: 1 is an empty set.

    Attributes:
        outputs: of the stylized pictures.
        sources: of the photographs: how far it was to go.
        floor: between two halves of the style set; None where there are fewer than 4 pictures.
            Few pictures raise it, and halves are fewer than the whole: it is no lower bound.
        raw: ``outputs`` in the squared units of the features.
        num_outputs, num_styles, dimension: how many vectors were compared, and their length.
        warnings: what is wrong with the figures.
    """

    outputs: float
    sources: float
    floor: float | None
    raw: float
    num_outputs: int
    num_styles: int
    dimension: int
    warnings: list[str] = field(default_factory=list)


def distribution_distance(
    outputs: Tensor, sources: Tensor, styles: Tensor, seed: int = 0
) -> DistributionDistance:
    """Compare sets of pictures by a vector each, such as the channel means of a VGG tap.

    Args:
        outputs: (N, D), of the stylized pictures.
        sources: (N, D), of the photographs.
        styles: (M, D), of the style pictures.
        seed: of the halves.

    Raises:
        ValueError: fewer than two pictures in a set, which have no covariance.
    """
    for name, vectors in (("stylized", outputs), ("style", styles)):
        if len(vectors) < 2:
            pictures = f"{len(vectors)} {name} picture{'s'[: len(vectors) != 1]}"
            raise ValueError(f"{pictures} cannot show a distribution: at least 2 are needed")
    style = Gaussian.fit(styles)
    energy = max(style.energy(), 1e-12)
    raw = frechet_distance(Gaussian.fit(outputs), style)
    floor, half, dimension = None, len(styles) // 2, styles.shape[1]
    if half >= 2:
        shuffled = styles[torch.from_numpy(np.random.default_rng(seed).permutation(len(styles)))]
        first, second = Gaussian.fit(shuffled[:half]), Gaussian.fit(shuffled[half : 2 * half])
        floor = frechet_distance(first, second) / energy
    few = [
        f"{count} {name} pictures"
        for name, count in (("stylized", len(outputs)), ("style", len(styles)))
        if count <= dimension
    ]
    warning = (
        f"{' and '.join(few)} are few for {dimension} dimensions: the distance comes out too large, "
        "compare it only with one of as many pictures"
    )
    return DistributionDistance(
        outputs=raw / energy,
        sources=frechet_distance(Gaussian.fit(sources), style) / energy,
        floor=floor,
        raw=raw,
        num_outputs=len(outputs),
        num_styles=len(styles),
        dimension=dimension,
        warnings=[warning] if few else [],
    )
