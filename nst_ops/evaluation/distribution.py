"""Distance between two sets of images, by a feature vector of each image."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution, in float64."""

    mean: Tensor  # (D,)
    covariance: Tensor  # (D, D), symmetric

    @classmethod
    def fit(cls, vectors: Tensor) -> Gaussian:
        """Fit to (N, D) vectors, with the unbiased covariance; raises ValueError if N < 2."""
        if len(vectors) < 2:
            raise ValueError(f"{len(vectors)} vectors have no covariance: at least 2 are needed")
        vectors = vectors.double()
        return cls(vectors.mean(dim=0), torch.cov(vectors.T).reshape(vectors.shape[1], -1))

    def energy(self) -> float:
        """Mean square length of its vectors: the distance of an empty set (all features 0) to it."""
        return float(self.mean.square().sum() + self.covariance.trace())


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Fréchet distance of M. Heusel et al., NeurIPS 2017 (eq. 6), at least 0, in squared units of the vectors.

    ``|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))``, where the trace of the root is that of the symmetric
    ``(S_a^(1/2) S_b S_a^(1/2))^(1/2)``: two symmetric eigendecompositions in float64, with what rounding makes negative
    set to 0. So it is real also for singular covariances, of fewer vectors than dimensions.
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

    ``floor`` is the distance between two halves of the style set; None where it has fewer than 4 images. Few images
    raise it, and halves are fewer than the whole: it is no lower bound. ``warnings`` are reasons to doubt the figures.
    """

    outputs: float
    sources: float  # how far it was to go
    floor: float | None
    raw: float  # ``outputs`` in the squared units of the features
    num_outputs: int
    num_styles: int
    dimension: int
    warnings: list[str] = field(default_factory=list)


def distribution_distance(outputs: Tensor, sources: Tensor, styles: Tensor, seed: int = 0) -> DistributionDistance:
    """Compare sets of images by a vector each, (N, D) or (M, D), such as the channel means of a VGG tap.

    Raises ValueError for fewer than two images in a set, which have no covariance.
    """
    counts = {"stylized": len(outputs), "style": len(styles)}
    for name, count in counts.items():
        if count < 2:
            images = f"{count} {name} image{'s'[: count != 1]}"
            raise ValueError(f"{images} cannot show a distribution: at least 2 are needed")
    style = Gaussian.fit(styles)
    energy = max(style.energy(), 1e-12)
    raw = frechet_distance(Gaussian.fit(outputs), style)
    floor, half, dimension = None, len(styles) // 2, styles.shape[1]
    if half >= 2:
        shuffled = styles[torch.from_numpy(np.random.default_rng(seed).permutation(len(styles)))]
        floor = frechet_distance(Gaussian.fit(shuffled[:half]), Gaussian.fit(shuffled[half : 2 * half])) / energy
    few = [f"{count} {name} images" for name, count in counts.items() if count <= dimension]
    warning = (
        f"{' and '.join(few)} are few for {dimension} dimensions: the distance comes out too large, "
        "compare it only with one of as many images"
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
