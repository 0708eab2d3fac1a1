"""All losses together, as a feed-forward network is trained with them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nst_ops.config import LossConfig
from nst_ops.losses.color import color_loss, luma
from nst_ops.losses.structure import cel_shaded
from nst_ops.losses.style import (
    channel_statistics,
    content_loss,
    gram_loss,
    gram_matrix,
    mean_std_loss,
    total_variation,
)
from nst_ops.losses.temporal import add_noise, motion_equivariance, noise_stability, random_motion, warp
from nst_ops.models.vgg import VGGFeatures

Comparisons = dict[tuple[float, str], float]
"""Scale of the picture and VGG layer, with the weight that this comparison has in its term."""
Targets = dict[tuple[str, float, str], Tensor]
"""By term, scale and layer: (B, C, C) Gram matrices, or (2, B, C) means and deviations."""
_STYLE_TERMS = ("gram", "mean_std")


@dataclass(frozen=True)
class Views:
    """Photographs, and their changed copies, that go through the network at once."""

    photos: Tensor
    """(B, 3, H, W) in [0, 1]."""
    styles: Tensor | None = None
    """(B, 3, H', W') in [0, 1], the style picture of each; None for a network of one style."""
    noisy: Tensor | None = None
    """Likewise, with noise; None if the noise term has no weight."""
    moved: Tensor | None = None
    """Likewise, after the motion ``theta``; None if the motion term has no weight."""
    theta: Tensor | None = None
    """(B, 2, 3), as of ``random_motion``."""
    drawn: Tensor | None = None
    """(B, 3, H, W) in [0, 1], what filters draw of the photographs, as of ``cel_shaded``; None if the
    photographs are whole, so that it can be had from them."""
    in_own_style: bool = False
    """Whether the photographs go through once more, each with itself as style picture."""

    def inputs(self) -> tuple[Tensor, ...]:
        """What the network takes, with K views of every photograph in one forward.

        Returns:
            (K * B, 3, H, W) pictures, the photographs first; and, where there are styles,
            (K * B, 3, H, W) style pictures. In the memory format of the photographs.
        """
        pictures = [view for view in (self.photos, self.noisy, self.moved) if view is not None]
        if self.styles is None:
            return (self._stack(pictures),)
        styles = [self.styles] * len(pictures)
        if self.in_own_style:
            pictures, styles = [*pictures, self.photos], [*styles, self.photos]
        return self._stack(pictures), self._stack(styles)

    def split(self, stylized: Tensor) -> dict[str, Tensor]:
        """The network's answer to ``inputs()`` by view: clean, noisy, moved, own; those that there are."""
        present = {
            "clean": True,
            "noisy": self.noisy is not None,
            "moved": self.moved is not None,
            "own": self.in_own_style,
        }
        names = [name for name, there in present.items() if there]
        return dict(zip(names, stylized.chunk(len(names)), strict=True))

    def _stack(self, pictures: list[Tensor]) -> Tensor:
        channels_last = self.photos.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        return torch.cat(pictures).contiguous(memory_format=layout)


@dataclass(frozen=True)
class LossTerms:
    """What a loss found."""

    total: Tensor
    """The weighted sum to minimize: a scalar in fp32, with gradient."""
    terms: dict[str, Tensor]
    """The terms by name, unweighted: scalars in fp32, detached; only those that have a weight."""


class PerceptualLoss(nn.Module):
    """Content, style, smoothness and steadiness of stylized pictures, after J. Johnson et al., ECCV 2016.

    The style is compared at one or more scales: a picture reduced to a half shows each tap
    strokes twice as large, which stands in for deeper taps at a quarter of their cost
    (L. Gatys et al., "Controlling Perceptual Factors in Neural Style Transfer", CVPR 2017).
    ``config.gram.scales`` and ``config.gram.gray`` serve both terms of style, Gram and mean/std.

    In relative and absolute units the weights of taps and scales are shares of 1; in others they
    are factors, used as they are. A term without weight is not computed.

        views = loss.views(photos)
        loss(network(*views.inputs()), views).total.backward()

    Args:
        vgg: feature network with every tap of ``config.taps()``, already on its device.
        style: (S, 3, H, W) paintings in [0, 1], on the same device; of several, the mean of their
            statistics is the target. Its size decides the size of the strokes: a painting twice
            as large gives strokes twice as large. None if every photograph has its own (``Views``).
        config: terms, weights and units.

    Raises:
        ValueError: the painting is too small for a scale and tap, or ``vgg`` lacks a tap.
    """

    def __init__(self, vgg: VGGFeatures, style: Tensor | None, config: LossConfig) -> None:
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
        each = [] if style is None else [self._targets(painting[None]) for painting in style]
        self._kept = list(each[0]) if each else None
        for key in self._kept or []:
            mean = torch.stack([of[key] for of in each]).mean(dim=0)
            self.register_buffer(_buffer(*key), mean, persistent=False)

    @property
    def style_targets(self) -> Targets | None:
        """The painting's statistics; None if every photograph has its own."""
        return None if self._kept is None else {key: self.get_buffer(_buffer(*key)) for key in self._kept}

    def views(
        self,
        photos: Tensor,
        generator: torch.Generator | None = None,
        styles: Tensor | None = None,
        drawn: Tensor | None = None,
    ) -> Views:
        """What to put through the network: the photographs and, where those terms have weight, changed ones.

        Args:
            photos: (B, 3, H, W) in [0, 1].
            generator: of noise and motion, on the CPU or on the device of ``photos``.
            styles: (B, 3, H', W') in [0, 1], the style picture of each photograph, for a network
                that takes one; (H', W') is (H, W) if the identity term has weight.
            drawn: as of ``Views``.
        """
        noise, motion = self.config.noise, self.config.motion
        noisy = moved = theta = None
        if noise.weight:
            noisy = add_noise(photos, noise.amplitude, noise.share, generator)
        if motion.weight:
            theta = random_motion(len(photos), motion.max_shift, motion.max_zoom, generator, photos.device)
            moved = warp(photos, theta)
        own = bool(self.config.identity.weight)
        return Views(photos, styles, noisy, moved, theta, drawn, own)

    def forward(self, stylized: Tensor, views: Views) -> LossTerms:
        """Judge ``stylized = network(*views.inputs())``, (K * B, 3, H, W) in [0, 1], by every term."""
        of = views.split(stylized)
        terms = self._picture_terms(of["clean"], views.photos, views.styles, views.drawn)
        if "noisy" in of:
            terms["noise"] = noise_stability(of["clean"], of["noisy"])
        if "moved" in of and views.theta is not None:
            terms["motion"] = motion_equivariance(of["clean"], of["moved"], views.theta)
        if "own" in of:
            terms["identity"] = F.l1_loss(of["own"].float(), views.photos)
        return self._weigh(terms)

    def score(self, stylized: Tensor, photos: Tensor, styles: Tensor | None = None) -> LossTerms:
        """Judge stylized photographs, both (B, 3, H, W) in [0, 1], by what can be seen of one picture.

        All terms but noise, motion, identity and the adversarial one. ``styles`` as of ``views``.
        """
        return self._weigh(self._picture_terms(stylized, photos, styles))

    def _picture_terms(
        self, stylized: Tensor, photos: Tensor, styles: Tensor | None, drawn: Tensor | None = None
    ) -> dict[str, Tensor]:
        config = self.config
        targets = self.style_targets if styles is None else self._targets(styles)
        if targets is None:
            raise ValueError("a loss without a painting needs the style picture of each photograph")
        if config.cel.weight and drawn is None:
            drawn = cel_shaded(photos, config.cel)
        reference = drawn if config.content.of == "drawing" and drawn is not None else photos
        if config.gram.gray == config.content.gray:  # one pass for both
            pictures = _gray(stylized) if config.gram.gray else stylized
            seen = style_seen = self._features(pictures, self.comparisons, "picture")
        else:
            gray = {True: _gray(stylized), False: stylized}
            seen = self._features(gray[config.content.gray], ("content",), "picture")
            style_seen = self._features(gray[config.gram.gray], _STYLE_TERMS, "picture")
        with torch.no_grad():
            reference = _gray(reference) if config.content.gray else reference
            kept = self._features(reference, ("content",), "photograph")
        losses: dict[str, list[Tensor]] = {"content": [], "gram": [], "mean_std": []}
        for (scale, tap), weight in self.comparisons["content"].items():
            loss = content_loss(seen[scale][tap], kept[scale][tap], config.content.units)
            losses["content"].append(weight * loss)
        for (scale, tap), weight in self.comparisons["gram"].items():
            target = targets["gram", scale, tap]
            losses["gram"].append(weight * gram_loss(style_seen[scale][tap], target, config.gram.units))
        for (scale, tap), weight in self.comparisons["mean_std"].items():
            mean, std = targets["mean_std", scale, tap]
            losses["mean_std"].append(
                weight * mean_std_loss(style_seen[scale][tap], mean, std, config.mean_std.units)
            )
        terms = {name: torch.stack(parts).sum() for name, parts in losses.items() if parts}
        if config.variation.weight:
            terms["variation"] = total_variation(stylized, config.variation.units)
        if drawn is not None:
            terms["cel"] = color_loss(stylized, drawn)
        return terms

    @torch.no_grad()
    def _targets(self, styles: Tensor) -> Targets:
        """What (B, 3, H', W') style pictures have that stylized ones should have."""
        seen = self._features(_gray(styles) if self.config.gram.gray else styles, _STYLE_TERMS, "painting")
        grams: Targets = {
            ("gram", scale, tap): gram_matrix(seen[scale][tap]) for scale, tap in self.comparisons["gram"]
        }
        statistics: Targets = {
            ("mean_std", scale, tap): torch.stack(channel_statistics(seen[scale][tap]))
            for scale, tap in self.comparisons["mean_std"]
        }
        return grams | statistics

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


def _comparisons(
    weight: float, taps: Mapping[str, float], scales: Mapping[float, float], units: str
) -> Comparisons:
    """Every scale and tap of a term with its weight; none for a term without weight."""
    product = {
        (scale, tap): s * t for scale, s in scales.items() for tap, t in taps.items() if weight and s * t
    }
    whole = sum(product.values()) if units in ("relative", "absolute") else 1.0
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


def _gray(pictures: Tensor) -> Tensor:
    """The luma as three equal channels."""
    return luma(pictures.float()).expand_as(pictures)
