"""All losses together, as a feed-forward network is trained with them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nst_ops.config import LossConfig
from nst_ops.losses.content import content_loss
from nst_ops.losses.style import channel_statistics, gram_loss, gram_matrix, mean_std_loss
from nst_ops.losses.temporal import add_noise, motion_equivariance, noise_stability, random_motion, warp
from nst_ops.losses.variation import total_variation
from nst_ops.models.vgg import VGGFeatures

Comparisons = dict[tuple[float, str], float]
"""Scale of the picture and VGG layer, with the weight that this comparison has in its term."""


@dataclass(frozen=True)
class Views:
    """Photographs, and their changed copies, that go through the network at once."""

    photos: Tensor
    """(B, 3, H, W) in [0, 1]."""
    noisy: Tensor | None = None
    """Likewise, with noise; None if the noise term has no weight."""
    moved: Tensor | None = None
    """Likewise, after the motion ``theta``; None if the motion term has no weight."""
    theta: Tensor | None = None
    """(B, 2, 3), as of ``random_motion``."""

    def batch(self) -> Tensor:
        """(K * B, 3, H, W) in the memory format of the photographs, those first: one forward for all."""
        views = [view for view in (self.photos, self.noisy, self.moved) if view is not None]
        channels_last = self.photos.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        return torch.cat(views).contiguous(memory_format=layout)

    def split(self, stylized: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The network's answer to ``batch()`` as those of the photographs, the noisy and the moved."""
        views = iter(stylized.chunk(len(stylized) // len(self.photos)))
        clean = next(views)
        noisy = next(views) if self.noisy is not None else None
        moved = next(views) if self.moved is not None else None
        return clean, noisy, moved


@dataclass(frozen=True)
class LossTerms:
    """What a loss found."""

    total: Tensor
    """The weighted sum to minimise: a scalar in fp32, with gradient."""
    terms: dict[str, Tensor]
    """The terms by name, unweighted: scalars in fp32, detached; only those that have a weight."""


class PerceptualLoss(nn.Module):
    """Content, style, smoothness and steadiness of stylized pictures, after J. Johnson et al., ECCV 2016.

    The style is compared at one or more scales: a picture reduced to a half shows each tap
    strokes twice as large, which stands in for deeper taps at a quarter of their cost
    (L. Gatys et al., "Controlling Perceptual Factors in Neural Style Transfer", CVPR 2017).
    ``config.gram.scales`` serves both terms of style, Gram and mean/std.

    In relative units the weights of taps and scales are shares that sum to 1; in others they
    are factors, used as they are. A term without weight is not computed.

        views = loss.views(photos)
        loss(network(views.batch()), views).total.backward()

    Args:
        vgg: feature network with every tap of ``config.taps()``, already on its device.
        style: (1, 3, H, W) painting in [0, 1], on the same device. Its size decides the size
            of the strokes: a painting twice as large gives strokes twice as large.
        config: terms, weights and units.

    Raises:
        ValueError: the painting is too small for a scale and tap, or ``vgg`` lacks a tap.
    """

    def __init__(self, vgg: VGGFeatures, style: Tensor, config: LossConfig) -> None:
        super().__init__()
        self.vgg = vgg
        self.config = config
        content, gram, mean_std = config.content, config.gram, config.mean_std
        self.comparisons: dict[str, Comparisons] = {
            "content": _comparisons(content.weight, content.taps, {1.0: 1.0}, content.units),
            "gram": _comparisons(gram.weight, gram.taps, gram.scales, gram.units),
            "mean_std": _comparisons(mean_std.weight, mean_std.taps, gram.scales, mean_std.units),
        }
        missing = config.taps() - set(vgg.taps.values())
        if missing:
            raise ValueError(f"the feature network was built without the taps {', '.join(sorted(missing))}")
        with torch.no_grad():
            seen = self._features(style, ("gram", "mean_std"), "painting")
            for scale, tap in self.comparisons["gram"]:
                self._keep("gram", scale, tap, gram_matrix(seen[scale][tap]))
            for scale, tap in self.comparisons["mean_std"]:
                self._keep("mean_std", scale, tap, torch.stack(channel_statistics(seen[scale][tap])))

    def views(self, photos: Tensor, generator: torch.Generator | None = None) -> Views:
        """What to put through the network: the photographs and, where those terms have weight, changed ones.

        Args:
            photos: (B, 3, H, W) in [0, 1].
            generator: of noise and motion, on the CPU or on the device of ``photos``.
        """
        noise, motion = self.config.noise, self.config.motion
        noisy = moved = theta = None
        if noise.weight:
            noisy = add_noise(photos, noise.amplitude, noise.share, generator)
        if motion.weight:
            theta = random_motion(len(photos), motion.max_shift, motion.max_zoom, generator, photos.device)
            moved = warp(photos, theta)
        return Views(photos, noisy, moved, theta)

    def forward(self, stylized: Tensor, views: Views) -> LossTerms:
        """Judge ``stylized = network(views.batch())``, (K * B, 3, H, W) in [0, 1], by every term."""
        clean, noisy, moved = views.split(stylized)
        terms = self._picture_terms(clean, views.photos)
        if noisy is not None:
            terms["noise"] = noise_stability(clean, noisy)
        if moved is not None and views.theta is not None:
            terms["motion"] = motion_equivariance(clean, moved, views.theta)
        return self._weigh(terms)

    def judge(self, stylized: Tensor, photos: Tensor) -> LossTerms:
        """Judge stylized photographs, both (B, 3, H, W) in [0, 1], by all terms but noise and motion."""
        return self._weigh(self._picture_terms(stylized, photos))

    def _picture_terms(self, stylized: Tensor, photos: Tensor) -> dict[str, Tensor]:
        config = self.config
        seen = self._features(stylized, self.comparisons, "picture")
        with torch.no_grad():
            kept = self._features(photos, ("content",), "photograph")
        losses: dict[str, list[Tensor]] = {"content": [], "gram": [], "mean_std": []}
        for (scale, tap), weight in self.comparisons["content"].items():
            loss = content_loss(seen[scale][tap], kept[scale][tap], config.content.units)
            losses["content"].append(weight * loss)
        for (scale, tap), weight in self.comparisons["gram"].items():
            target = self._kept("gram", scale, tap)
            losses["gram"].append(weight * gram_loss(seen[scale][tap], target, config.gram.units))
        for (scale, tap), weight in self.comparisons["mean_std"].items():
            mean, std = self._kept("mean_std", scale, tap)
            losses["mean_std"].append(
                weight * mean_std_loss(seen[scale][tap], mean, std, config.mean_std.units)
            )
        terms = {name: torch.stack(parts).sum() for name, parts in losses.items() if parts}
        if config.variation.weight:
            terms["variation"] = total_variation(stylized, config.variation.units)
        return terms

    def _weigh(self, terms: dict[str, Tensor]) -> LossTerms:
        total = torch.stack([getattr(self.config, name).weight * term for name, term in terms.items()]).sum()
        return LossTerms(total, {name: term.detach() for name, term in terms.items()})

    def _features(self, pictures: Tensor, terms: Iterable[str], what: str) -> dict[float, dict[str, Tensor]]:
        """Activations by scale and tap: one pass per scale, no deeper than the terms look."""
        order = list(self.vgg.taps.values())  # shallow to deep
        deepest: dict[float, str] = {}
        for scale, tap in (key for term in terms for key in self.comparisons[term]):
            deepest[scale] = max(deepest.get(scale, tap), tap, key=order.index)
        return {
            scale: self.vgg(_rescale(pictures, scale, tap, what), until=tap) for scale, tap in deepest.items()
        }

    def _keep(self, term: str, scale: float, tap: str, target: Tensor) -> None:
        self.register_buffer(_buffer(term, scale, tap), target, persistent=False)

    def _kept(self, term: str, scale: float, tap: str) -> Tensor:
        return self.get_buffer(_buffer(term, scale, tap))


def _comparisons(
    weight: float, taps: Mapping[str, float], scales: Mapping[float, float], units: str
) -> Comparisons:
    """Every scale and tap of a term with its weight; none for a term without weight."""
    product = {
        (scale, tap): s * t for scale, s in scales.items() for tap, t in taps.items() if weight and s * t
    }
    whole = sum(product.values()) if units == "relative" else 1.0
    return {key: part / whole for key, part in product.items()}


def _rescale(pictures: Tensor, scale: float, tap: str, what: str) -> Tensor:
    """Pictures in fp32 at ``scale``, if the layer ``tap`` can see anything in them."""
    height, width = pictures.shape[-2:]
    # a layer of block n has seen n - 1 halvings, and reflection takes two pixels at least
    needed = 2 ** int(tap[len("relu")])
    if min(math.floor(height * scale), math.floor(width * scale)) < needed:
        larger = "style_side" if what == "painting" else "image_size"
        raise ValueError(
            f"the {what} of {width} x {height} pixels is too small for {tap} at scale {scale:g}, "
            f"which needs {math.ceil(needed / scale)} at least: raise {larger} or drop the scale"
        )
    pictures = pictures.float()
    if scale == 1:
        return pictures
    return F.interpolate(pictures, scale_factor=scale, mode="bilinear", antialias=True)


def _buffer(term: str, scale: float, tap: str) -> str:
    return f"{term}_{tap}_at_{scale:g}".replace(".", "_")  # no dots in the name of a buffer
