"""The look as a distribution: a judge that learns to tell real drawings from stylized photographs.

I. Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014. The judge is trained beside
the network, one step of each in turn.

Shapes: B batch, C channels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nst_ops.losses.color import luma
from nst_ops.losses.structure import gaussian_blur, guided_filter
from nst_ops.models.discriminator import PatchDiscriminator

AdversarialKind = Literal["non_saturating", "least_squares"]
View = Literal["color", "coarse", "gray", "surface"]


class AdversarialLoss(nn.Module):
    """Discriminators of drawings, and the losses of both sides.

    Real drawings stand against stylized photographs and, after Y. Chen et al., "CartoonGAN",
    CVPR 2018, against blurred drawings, or lines would not count; after J. Chen et al.,
    "AnimeGAN", ISICA 2019, also against gray ones, or colors would not.

        adversary = AdversarialLoss()
        judge_optimizer = torch.optim.Adam(adversary.parameters(), 4e-4, betas=(0.5, 0.99))

        adversary.discriminator_loss(stylized.detach(), drawings).backward()   # one step of the judge
        (w * adversary.generator_loss(stylized) + ...).backward()              # one of the network

    Clear the judge's gradients before its step: the network's leaves some there.

    Args:
        kind: ``non_saturating`` (Goodfellow, section 3) or ``least_squares`` (X. Mao et al.,
            "Least Squares Generative Adversarial Networks", ICCV 2017, with 0 and 1).
        views: what is looked at, one discriminator each. ``color``: the picture. ``coarse``: at
            half size, so that a patch is twice as large. ``gray``: luma only, for lines and
            texture. ``surface``: after a guided filter, for flat shading; the last two
            after X. Wang, J. Yu, CVPR 2020.
        width: channels of the discriminators' first layer.
        blurred: weight of blurred drawings as fakes.
        gray: weight of gray drawings as fakes, in views with color.
        r1: weight of the gradient penalty ``r1_penalty``; 0 leaves it out. Spectral
            normalization is always on.
        augment: shift and recolor at random whatever is judged (see ``augment``): few
            drawings are otherwise known by heart.

    Raises:
        ValueError: no view, or an unknown one.
    """

    def __init__(
        self,
        kind: AdversarialKind = "non_saturating",
        views: Iterable[View] = ("color",),
        width: int = 32,
        blurred: float = 0.5,
        gray: float = 0.5,
        r1: float = 0.0,
        augment: bool = True,
    ) -> None:
        super().__init__()
        views = tuple(views)
        if not views or set(views) - set(get_args(View)):
            raise ValueError(f"views are {', '.join(get_args(View))}; got {', '.join(views) or 'none'}")
        self.kind = kind
        self.blurred = blurred
        self.gray = gray
        self.r1 = r1
        self.augment = augment
        self.discriminators = nn.ModuleDict(
            {view: PatchDiscriminator(1 if view == "gray" else 3, width) for view in views}
        )

    def generator_loss(self, stylized: Tensor) -> Tensor:
        """How far the judge is from taking ``stylized`` for drawings, averaged over the views.

        Args:
            stylized: (B, 3, H, W) in [0, 1], with gradient; sides at least 29, 58 for ``coarse``.

        Returns:
            A scalar in fp32, at least 0.
        """
        losses = [
            realness_loss(discriminator(see(self._augmented(stylized), view)), True, self.kind)
            for view, discriminator in self._judges()
        ]
        return torch.stack(losses).mean()

    def discriminator_loss(self, stylized: Tensor, drawings: Tensor) -> Tensor:
        """How far the judge is from telling fakes from drawings, averaged over the views.

        Fakes of all sorts weigh together as much as the drawings.

        Args:
            stylized: (B, 3, H, W) in [0, 1]; no gradient is taken through it.
            drawings: (B', 3, H', W') in [0, 1]; sizes may differ from those of ``stylized``.

        Returns:
            A scalar in fp32, at least 0.
        """
        stylized, drawings = stylized.detach().float(), drawings.detach().float()
        losses = []
        for view, discriminator in self._judges():
            fakes = [(1.0, stylized)]
            if self.blurred:
                fakes.append((self.blurred, gaussian_blur(drawings, 1.0)))
            if self.gray and view != "gray":
                fakes.append((self.gray, luma(drawings).expand_as(drawings)))
            weights = sum(weight for weight, _ in fakes)
            real = see(self._augmented(drawings), view)
            loss = realness_loss(discriminator(real), True, self.kind)
            for weight, fake in fakes:
                logits = discriminator(see(self._augmented(fake), view))
                loss = loss + weight / weights * realness_loss(logits, False, self.kind)
            if self.r1:
                loss = loss + self.r1 * r1_penalty(discriminator, real)
            losses.append(loss)
        return torch.stack(losses).mean()

    def _judges(self) -> Iterable[tuple[View, PatchDiscriminator]]:
        return cast(Iterable[tuple[View, PatchDiscriminator]], self.discriminators.items())

    def _augmented(self, pictures: Tensor) -> Tensor:
        return augment(pictures) if self.augment else pictures


def realness_loss(logits: Tensor, real: bool, kind: AdversarialKind) -> Tensor:
    """What it costs to call patches real (or not) that have these logits.

    - ``non_saturating``: ``softplus(-logit)`` for real ones, ``softplus(logit)`` for fakes.
    - ``least_squares``: ``(logit - 1)^2`` for real ones, ``logit^2`` for fakes.

    Args:
        logits: of any shape and float type.
        real: what they should say.
        kind: as above.

    Returns:
        A scalar in fp32, at least 0: the mean over all patches.
    """
    logits = logits.float()
    if kind == "least_squares":
        return (logits - float(real)).square().mean()
    return F.softplus(-logits if real else logits).mean()


def r1_penalty(discriminator: nn.Module, real: Tensor) -> Tensor:
    """Squared slope of the judge at real pictures: R1 of L. Mescheder et al., ICML 2018 (eq. 9).

    The slope is that of the sum of a picture's logits, its square the mean over pixels and
    channels and not their sum: one weight serves all sizes.

    Args:
        discriminator: (B, C, H, W) to logits; each picture's must depend on it alone.
        real: (B, C, H, W), any float type.

    Returns:
        A scalar in fp32, at least 0, with gradient to the discriminator's parameters.
    """
    real = real.detach().float().requires_grad_(True)
    with torch.autocast(real.device.type, enabled=False):  # squares of small slopes leave fp16
        logits = discriminator(real)
    (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return slope.square().mean()


def augment(
    pictures: Tensor, shift: float = 0.06, color: float = 0.15, generator: torch.Generator | None = None
) -> Tensor:
    """Pictures flipped, shifted, lightened and recolored at random, each by itself.

    S. Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", NeurIPS
    2020: done alike to real and fake pictures, gradients flow through it. What a shift
    brings into view is the picture's mirror image, for black bars would count as lines.

    Args:
        pictures: (B, 3, H, W) in [0, 1], any float type.
        shift: at most this share of the sides, to whole pixels.
        color: brightness changes by at most half of this, contrast and saturation by this share.
        generator: on the CPU. Default: torch's own.

    Returns:
        (B, 3, H, W) in fp32, not clamped: a clamp would stop gradients.
    """
    pictures = pictures.float()
    batch, _, height, width = pictures.shape
    draws = torch.rand((3, batch, 1, 1, 1), generator=generator).to(pictures.device)
    brightness, contrast, saturation = color * (2 * draws - 1)
    gray = luma(pictures)
    pictures = gray + (pictures - gray) * (1 + saturation)
    mean = gray.mean(dim=(1, 2, 3), keepdim=True)
    pictures = mean + (pictures - mean) * (1 + contrast) + brightness / 2
    down, across = int(shift * height), int(shift * width)
    padded = F.pad(pictures, (across, across, down, down), mode="reflect")
    top = torch.randint(2 * down + 1, (batch,), generator=generator).tolist()
    left = torch.randint(2 * across + 1, (batch,), generator=generator).tolist()
    flipped = (torch.rand(batch, generator=generator) < 0.5).tolist()
    crops = [padded[b, :, top[b] : top[b] + height, left[b] : left[b] + width] for b in range(batch)]
    return torch.stack([crop.flip(-1) if flipped[b] else crop for b, crop in enumerate(crops)])


def see(pictures: Tensor, view: View) -> Tensor:
    """Pictures (B, 3, H, W) in [0, 1] as a discriminator of ``view`` looks at them, in fp32."""
    pictures = pictures.float()
    if view == "gray":
        return luma(pictures)
    if view == "coarse":
        return F.avg_pool2d(pictures, 2)
    return guided_filter(pictures, eps=0.01) if view == "surface" else pictures
