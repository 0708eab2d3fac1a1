"""The perceptual loss: a table of terms, and their weighted sum as a feed-forward network is trained with it.

To add a term: a function, an entry in the table (``register``), and a section of its name in ``LossConfig``
unless the entry has a weight of its own. A term without weight is not computed.

Shapes: B batch, K views of each content image, S style images, H and W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nst_ops.config import LossConfig
from nst_ops.losses.color import color_loss, luma
from nst_ops.losses.structure import cel_shaded
from nst_ops.losses.style import content_loss, gram_loss, gram_matrix, mean_std_loss, total_variation
from nst_ops.losses.temporal import add_noise, motion_equivariance, noise_stability, random_motion, warp
from nst_ops.models.adain import channel_statistics
from nst_ops.models.vgg import VGGFeatures, smallest_side

Comparisons = dict[tuple[float, str], float]
"""Scale of the image and VGG layer, with the weight that this comparison has in its term."""
Targets = dict[tuple[str, float, str], Tensor]
"""Results of ``FeatureTerm.target`` by term, scale and VGG layer."""


@dataclass(frozen=True)
class Views:
    """Content images and their changed copies, which go through the network at once."""

    content: Tensor
    """(B, 3, H, W) in [0, 1]."""
    style: Tensor | None = None
    """(B, 3, H', W') in [0, 1], the style image of each; None for a network of one style."""
    noisy: Tensor | None = None
    """(B, 3, H, W), the content images with noise; None if the noise term has no weight."""
    moved: Tensor | None = None
    """(B, 3, H, W), the content images after ``theta``; None if the motion term has no weight."""
    theta: Tensor | None = None
    """(B, 2, 3), the motion as ``random_motion`` returns it."""
    drawing: Tensor | None = None
    """(B, 3, H, W) in [0, 1], ``cel_shaded`` of the content images; None to have it made from them, which
    needs them whole."""
    in_own_style: bool = False
    """True to put the content images through once more, each with itself as style image."""

    def inputs(self) -> tuple[Tensor, ...]:
        """Return the network's inputs, K views of every content image in one forward, the unchanged ones first.

        These are (K * B, 3, H, W) images and, where there are styles, as many style images, in the memory format of the
        content images.
        """
        images = [view for view in (self.content, self.noisy, self.moved) if view is not None]
        if self.style is None:
            return (self._stack(images),)
        styles = [self.style] * len(images)
        if self.in_own_style:
            images, styles = [*images, self.content], [*styles, self.content]
        return self._stack(images), self._stack(styles)

    def split(self, stylized: Tensor) -> dict[str, Tensor]:
        """Split the output for ``inputs()`` by view: clean, noisy, moved, own; those that there are."""
        there = {"noisy": self.noisy is not None, "moved": self.moved is not None, "own": self.in_own_style}
        names = ["clean", *(name for name in there if there[name])]
        return dict(zip(names, stylized.chunk(len(names)), strict=True))

    def _stack(self, images: list[Tensor]) -> Tensor:
        channels_last = self.content.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        return torch.cat(images).contiguous(memory_format=layout)


@dataclass(frozen=True)
class FeatureTerm:
    """A term that compares VGG features, at the taps of its section and, for style, at ``gram.scales``."""

    name: str
    """Name of the term, and of its section in ``LossConfig``."""
    target: Callable[[Tensor], Tensor]
    """From (B, C, H, W) features of the target images to what is compared."""
    loss: Callable[[Tensor, Tensor, Any], Tensor]
    """From features of the stylized images, target and ``units`` of the section to a scalar in fp32."""
    of_style: bool = True
    """True if the target is the style image, False if it is the content image."""


@dataclass(frozen=True)
class ImageTerm:
    """A term that compares images."""

    name: str
    """Name of the term, and of its section in ``LossConfig``."""
    loss: Callable[[Mapping[str, Tensor], Views, Any], Tensor]
    """From stylized images by view (see ``Views.split``), what they were made from, and the section of the
    term to a scalar in fp32."""
    needs: str = "clean"
    """View of the stylized images without which the term is left out."""
    weight: float | None = None
    """Weight of a term that has no section in ``LossConfig``."""


Term = FeatureTerm | ImageTerm

TERMS: dict[str, Term] = {}
"""The terms of the loss by name, in the order of reports."""


def register(term: Term) -> Term:
    """Add ``term`` to every ``PerceptualLoss`` made from now on, in this process; returns it."""
    TERMS[term.name] = term
    return term


register(FeatureTerm("content", lambda features: features, content_loss, of_style=False))
register(FeatureTerm("gram", gram_matrix, gram_loss))
register(
    FeatureTerm(
        "mean_std",
        lambda features: torch.stack(channel_statistics(features)),
        lambda features, target, units: mean_std_loss(features, target[0], target[1], units),
    )
)
register(ImageTerm("variation", lambda y, views, config: total_variation(y["clean"], config.units)))
register(ImageTerm("cel", lambda y, views, config: color_loss(y["clean"], cast(Tensor, views.drawing))))
register(ImageTerm("noise", lambda y, views, config: noise_stability(y["clean"], y["noisy"]), "noisy"))
register(
    ImageTerm(
        "motion", lambda y, views, _: motion_equivariance(y["clean"], y["moved"], cast(Tensor, views.theta)), "moved"
    )
)
register(ImageTerm("identity", lambda y, views, config: F.l1_loss(y["own"].float(), views.content), "own"))


@dataclass(frozen=True)
class LossTerms:
    """Value of a loss and of its terms."""

    total: Tensor
    """The weighted sum to minimize: a scalar in fp32, with gradient."""
    terms: dict[str, Tensor]
    """The terms by name, unweighted: scalars in fp32, detached; only those that have a weight."""


class PerceptualLoss(nn.Module):
    """Weighted sum of ``TERMS`` over stylized images, after J. Johnson et al., ECCV 2016.

    The style is compared at one or more scales: an image reduced to a half shows each tap strokes twice as large, which
    stands in for deeper taps at a quarter of their cost (L. Gatys et al., "Controlling Perceptual Factors in Neural
    Style Transfer", CVPR 2017). ``config.gram.scales`` and ``config.gram.gray`` serve all terms of style. In relative
    and absolute units the weights of taps and scales are shares of 1; in others they are factors, used as they are.

        views = loss.views(content)
        loss(network(*views.inputs()), views).total.backward()

    Args:
        vgg: feature network with every tap of ``config.taps()``, already on its device.
        style: (S, 3, H, W) style images in [0, 1], on the same device; the mean of their statistics is the target.
            Their size decides the size of the strokes: twice as large gives strokes twice as large. None if every
            content image has its own style (``Views``).
        config: weights, taps and units of the terms.

    Raises:
        ValueError: the style image is too small for a scale and tap, or ``vgg`` lacks a tap.
    """

    def __init__(self, vgg: VGGFeatures, style: Tensor | None, config: LossConfig) -> None:
        super().__init__()
        self.vgg = vgg
        self.config = config
        self._sections: dict[str, Any] = {name: getattr(config, name, None) for name in TERMS}
        weights = {name: _weight(term, self._sections[name]) for name, term in TERMS.items()}
        self._weights = {name: weight for name, weight in weights.items() if weight}
        active = [TERMS[name] for name in self._weights]
        self._feature_terms = {term.name: term for term in active if isinstance(term, FeatureTerm)}
        self._image_terms = [term for term in active if isinstance(term, ImageTerm)]
        self.comparisons = {
            name: _comparisons(self._sections[name], config.gram.scales if term.of_style else {1.0: 1.0})
            for name, term in self._feature_terms.items()
        }
        missing = config.taps() - set(vgg.taps.values())
        if missing:
            raise ValueError(f"the feature network was built without the taps {', '.join(sorted(missing))}")
        each = [] if style is None else [self._targets(image[None], of_style=True) for image in style]
        self._style_keys = list(each[0]) if each else None
        for key in self._style_keys or []:
            mean = torch.stack([targets[key] for targets in each]).mean(dim=0)
            self.register_buffer(_buffer(*key), mean, persistent=False)

    @property
    def style_targets(self) -> Targets | None:
        """Statistics of the style images; None if every content image has its own style."""
        if self._style_keys is None:
            return None
        return {key: self.get_buffer(_buffer(*key)) for key in self._style_keys}

    def views(
        self,
        content: Tensor,
        generator: torch.Generator | None = None,
        style: Tensor | None = None,
        drawing: Tensor | None = None,
    ) -> Views:
        """Return what to put through the network: content images and the changed copies that terms need.

        Content, style and drawing are as in ``Views``; (H', W') of the style is (H, W) if the identity term has weight.
        Noise and motion are drawn by ``generator``, on the CPU or on the device of ``content``.
        """
        noise, motion = self.config.noise, self.config.motion
        noisy = moved = theta = None
        if noise.weight:
            noisy = add_noise(content, noise.amplitude, noise.share, generator)
        if motion.weight:
            theta = random_motion(len(content), motion.max_shift, motion.max_zoom, generator, content.device)
            moved = warp(content, theta)
        own = bool(self.config.identity.weight)
        return Views(content, style, noisy, moved, theta, drawing, own)

    def forward(self, stylized: Tensor, views: Views) -> LossTerms:
        """Return the loss of ``stylized = network(*views.inputs())``, (K * B, 3, H, W) in [0, 1]."""
        return self._sum(views.split(stylized), views)

    def score(self, stylized: Tensor, content: Tensor, style: Tensor | None = None) -> LossTerms:
        """Return the loss of stylized content images, both (B, 3, H, W) in [0, 1], without changed copies.

        Terms that need other views than the clean one are left out. ``style`` as in ``views``.
        """
        return self._sum({"clean": stylized}, Views(content, style))

    def _sum(self, stylized: Mapping[str, Tensor], views: Views) -> LossTerms:
        if self.config.cel.weight and views.drawing is None:
            views = replace(views, drawing=cel_shaded(views.content, self.config.cel))
        terms = self._feature_losses(stylized["clean"], views)
        for term in self._image_terms:
            if term.needs in stylized:
                terms[term.name] = term.loss(stylized, views, self._sections[term.name])
        total = torch.stack([self._weights[name] * term for name, term in terms.items()]).sum()
        return LossTerms(total, {name: term.detach() for name, term in terms.items()})

    def _feature_losses(self, stylized: Tensor, views: Views) -> dict[str, Tensor]:
        targets = self.style_targets if views.style is None else self._targets(views.style, of_style=True)
        if targets is None:
            raise ValueError("a loss without a style image needs the style image of each content image")
        content = views.content
        if self.config.content.of == "drawing" and views.drawing is not None:
            content = views.drawing
        targets = targets | self._targets(content, of_style=False)
        by_gray: dict[bool, list[str]] = {}  # terms that see the same images share their passes
        for name, term in self._feature_terms.items():
            by_gray.setdefault(self._is_gray(term.of_style), []).append(name)
        images = {gray: _gray(stylized) if gray else stylized for gray in by_gray}
        losses = {}
        for gray, names in by_gray.items():
            seen = self._features(images[gray], names, "stylized image")
            for name in names:
                loss, units = self._feature_terms[name].loss, self._sections[name].units
                parts = [
                    weight * loss(seen[scale][tap], targets[name, scale, tap], units)
                    for (scale, tap), weight in self.comparisons[name].items()
                ]
                losses[name] = torch.stack(parts).sum()
        return {name: losses[name] for name in self._feature_terms}

    @torch.no_grad()
    def _targets(self, images: Tensor, of_style: bool) -> Targets:
        """Return what stylized images should have of (B, 3, H', W') style or content images."""
        terms = {name: term for name, term in self._feature_terms.items() if term.of_style == of_style}
        images = _gray(images) if self._is_gray(of_style) else images
        seen = self._features(images, terms, "style image" if of_style else "content image")
        return {
            (name, scale, tap): term.target(seen[scale][tap])
            for name, term in terms.items()
            for scale, tap in self.comparisons[name]
        }

    def _is_gray(self, of_style: bool) -> bool:
        return self.config.gram.gray if of_style else self.config.content.gray

    def _features(self, images: Tensor, terms: Iterable[str], what: str) -> dict[float, dict[str, Tensor]]:
        """Return activations by scale and tap: one pass per scale, no deeper than the terms look."""
        order = list(self.vgg.taps.values())  # shallow to deep
        deepest: dict[float, str] = {}
        for scale, tap in (key for term in terms for key in self.comparisons[term]):
            deepest[scale] = max(deepest.get(scale, tap), tap, key=order.index)
        return {scale: self.vgg(_rescale(images, scale, tap, what), until=tap) for scale, tap in deepest.items()}


def _weight(term: Term, section: Any) -> float:
    own = term.weight if isinstance(term, ImageTerm) else None
    return float(section.weight if own is None else own)


def _comparisons(section: Any, scales: Mapping[float, float]) -> Comparisons:
    """Return every scale and tap of a term with its weight."""
    product = {(scale, tap): s * t for scale, s in scales.items() for tap, t in section.taps.items() if s * t}
    whole = sum(product.values()) if section.units in ("relative", "absolute") else 1.0
    return {key: part / whole for key, part in product.items()}


def _rescale(images: Tensor, scale: float, tap: str, what: str) -> Tensor:
    """Return images in fp32 at ``scale``, if the layer ``tap`` can see anything in them."""
    height, width = images.shape[-2:]
    needed = smallest_side(tap)
    if min(math.floor(height * scale), math.floor(width * scale)) < needed:
        larger = "style_side" if what == "style image" else "image_size"
        raise ValueError(
            f"the {what} of {width} x {height} pixels is too small for {tap} at scale {scale:g}, "
            f"which needs {math.ceil(needed / scale)} at least: raise {larger} or drop the scale"
        )
    images = images.float()
    return images if scale == 1 else F.interpolate(images, scale_factor=scale, mode="bilinear", antialias=True)


def _buffer(term: str, scale: float, tap: str) -> str:
    return f"{term}_{tap}_at_{scale:g}".replace(".", "_")  # no dots in the name of a buffer


def _gray(images: Tensor) -> Tensor:
    """Return the luma as three equal channels."""
    return luma(images.float()).expand_as(images)
