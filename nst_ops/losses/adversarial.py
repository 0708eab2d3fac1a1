"""The adversarial loss: discriminators that learn to tell stylized content images from style images.

I. Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014. The discriminators are trained beside the network,
one step of each in turn. Shapes: B batch, C channels, H and W pixels; losses are scalars in fp32, at least 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nst_ops.config.losses import AdversarialConfig
from nst_ops.losses.color import luma
from nst_ops.losses.structure import gaussian_blur, guided_filter
from nst_ops.models.discriminator import PatchDiscriminator

AdversarialKind = Literal["non_saturating", "least_squares"]

VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "color": lambda images: images,
    "coarse": lambda images: F.avg_pool2d(images, 2),
    "gray": luma,
    "surface": lambda images: guided_filter(images, eps=0.01),
}
"""Views of images, (B, 3, H, W) in [0, 1] and fp32, each for a discriminator of its own. ``coarse`` is at
half size, so that a patch is twice as large; ``gray`` is for lines and texture; ``surface`` for flat shading;
the last two after X. Wang, J. Yu, CVPR 2020."""
_FORMER_VIEWS = {"colour": "color", "grey": "gray"}


class AdversarialLoss(nn.Module):
    """Discriminators of style images, and the losses of both sides. Spectral normalization is always on.

    Style images stand against stylized images and, after Y. Chen et al., "CartoonGAN", CVPR 2018, against blurred style
    images, or lines would not count; after J. Chen et al., "AnimeGAN", ISICA 2019, also against gray ones, or colors
    would not.

        adversarial.discriminator_loss(stylized.detach(), style).backward()    # a step of the discriminators
        (weight * adversarial.generator_loss(stylized) + ...).backward()       # a step of the network

    Clear the discriminators' gradients before their step: the network's leaves some there.
    """

    def __init__(self, config: AdversarialConfig) -> None:
        super().__init__()
        self.config = config
        self.discriminators = nn.ModuleDict(
            {view: PatchDiscriminator(1 if view == "gray" else 3, config.width) for view in config.views}
        )
        self.register_load_state_dict_pre_hook(_rename_former_views)  # type: ignore[no-untyped-call]

    def generator_loss(self, stylized: Tensor) -> Tensor:
        """Return the error of discriminators that should take ``stylized`` for real, averaged over views.

        It is (B, 3, H, W) in [0, 1], with gradient; sides at least 29, 58 for ``coarse``.
        """
        losses = [self._realness(view, stylized, True)[0] for view in self.config.views]
        return torch.stack(losses).mean()

    def discriminator_loss(self, stylized: Tensor, style: Tensor) -> Tensor:
        """Return the error of discriminators that should tell fakes from style images, averaged over views.

        Fakes of all sorts weigh together as much as the style images. Both are (B, 3, H, W) in [0, 1], perhaps of
        different sizes; no gradient is taken through ``stylized``.
        """
        stylized, style = stylized.detach().float(), style.detach().float()
        losses = []
        for view in self.config.views:
            fakes = [(1.0, stylized)]
            if self.config.blurred:
                fakes.append((self.config.blurred, gaussian_blur(style, 1.0)))
            if self.config.gray and view != "gray":
                fakes.append((self.config.gray, luma(style).expand_as(style)))
            weights = sum(weight for weight, _ in fakes)
            loss, real = self._realness(view, style, True)
            for weight, fake in fakes:
                loss = loss + weight / weights * self._realness(view, fake, False)[0]
            if self.config.r1:
                loss = loss + self.config.r1 * r1_penalty(self.discriminators[view], real)
            losses.append(loss)
        return torch.stack(losses).mean()

    def _realness(self, view: str, images: Tensor, real: bool) -> tuple[Tensor, Tensor]:
        """Return the loss of a discriminator that should call images real, or fake; and what it saw."""
        seen = see(augment(images) if self.config.augment else images, view)
        return realness_loss(self.discriminators[view](seen), real, self.config.kind), seen


def _rename_former_views(_: nn.Module, state: dict[str, Any], *others: object) -> None:
    """Accept states saved when views were called ``colour`` and ``grey``."""
    for key in list(state):
        owner, view, *rest = key.split(".", 2)
        if owner == "discriminators" and view in _FORMER_VIEWS:
            state[".".join((owner, _FORMER_VIEWS[view], *rest))] = state.pop(key)


def realness_loss(logits: Tensor, real: bool, kind: AdversarialKind) -> Tensor:
    """Error of logits, of any shape, that should call patches real, or fake: the mean over all patches.

    - ``non_saturating``: ``softplus(-logit)`` for real ones, ``softplus(logit)`` for fakes.
    - ``least_squares``: ``(logit - 1)^2`` for real ones, ``logit^2`` for fakes.
    """
    logits = logits.float()
    if kind == "least_squares":
        return (logits - float(real)).square().mean()
    return F.softplus(-logits if real else logits).mean()


def r1_penalty(discriminator: nn.Module, real: Tensor) -> Tensor:
    """Squared slope of a discriminator at real images: R1 of L. Mescheder et al., ICML 2018 (eq. 9).

    The slope is that of the sum of an image's logits, its square the mean over pixels and channels and not their sum:
    one weight serves all sizes. The logits of each image must depend on it alone.
    """
    real = real.detach().float().requires_grad_(True)
    with torch.autocast(real.device.type, enabled=False):  # squares of small slopes leave fp16
        logits = discriminator(real)
    (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return slope.square().mean()


def augment(
    images: Tensor, shift: float = 0.06, color: float = 0.15, generator: torch.Generator | None = None
) -> Tensor:
    """Flip, shift, lighten and recolor images, (B, 3, H, W) in [0, 1], at random, each by itself.

    S. Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", NeurIPS 2020: done alike to real and
    fake images, gradients flow through it. What a shift brings into view is the image's mirror image, for black bars
    would count as lines. The result is in fp32 and not clamped: a clamp would stop gradients.

    Args:
        images: of any float type.
        shift: largest shift as a share of the sides, rounded down to whole pixels.
        color: largest change of contrast and saturation; that of brightness is half as large.
        generator: generator on the CPU. Default: torch's own.
    """
    images = images.float()
    batch, _, height, width = images.shape
    draws = torch.rand((3, batch, 1, 1, 1), generator=generator).to(images.device)
    brightness, contrast, saturation = color * (2 * draws - 1)
    gray = luma(images)
    images = gray + (images - gray) * (1 + saturation)
    mean = gray.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * (1 + contrast) + brightness / 2
    down, across = int(shift * height), int(shift * width)
    padded = F.pad(images, (across, across, down, down), mode="reflect")
    top = torch.randint(2 * down + 1, (batch,), generator=generator).tolist()
    left = torch.randint(2 * across + 1, (batch,), generator=generator).tolist()
    flipped = (torch.rand(batch, generator=generator) < 0.5).tolist()
    crops = [padded[b, :, top[b] : top[b] + height, left[b] : left[b] + width] for b in range(batch)]
    return torch.stack([crop.flip(-1) if flipped[b] else crop for b, crop in enumerate(crops)])


def see(images: Tensor, view: str) -> Tensor:
    """Return images (B, 3, H, W) in [0, 1] as a discriminator of ``view`` sees them, in fp32."""
    return VIEWS[view](images.float())
